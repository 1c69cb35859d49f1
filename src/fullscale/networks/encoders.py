"""Encoders: an image in, a map of each level out, finest first. The paper's plain one, or a fitting timm backbone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from fullscale.errors import UsageError
from fullscale.networks.backbones import EXAMPLES, create_backbone
from fullscale.networks.blocks import ConvNormAct, Normalization, initialise
from fullscale.networks.kernels.pool import max_pool
from fullscale.networks.spatial import level_strides, step_strides
from fullscale.text import first_line

Downsampling = Literal["pool", "stride"]

LEVELS = 5
"""Of the paper's networks, and of every timm backbone."""

TIMM_STRIDES = (2, 4, 8, 16, 32)


class PlainEncoder(nn.Module):
    """The paper's encoder (its "VGG-16"): two 3x3 convolutions a level, max-pooling by 2 between levels.

    With 3 inputs and width 64 it has 18,851,136 parameters.

    Args:
        in_channels: channels C of the image or volume.
        width: channels of the finest level; they double with each further one.
        steps: of each step from a level to the next, its stride along each axis; default four of 2, in 2D.
        normalization: "batch", the paper's, or "instance".
        downsampling: "pool", the paper's, or "stride": the first convolution of a level takes the step.
        max_width: the most channels that a level gets.

    Attributes:
        channels: of the maps, finest first.
        strides: input voxels per voxel of each map, a number an axis: (1, 1), (2, 2), (4, 4), ...
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        steps: Sequence[Sequence[int]] = ((2, 2),) * (LEVELS - 1),
        normalization: Normalization = "batch",
        downsampling: Downsampling = "pool",
        max_width: int | None = None,
    ) -> None:
        super().__init__()
        self.strides = level_strides(steps)
        self.channels = level_widths(width, len(self.strides), max_width)
        self.pools = downsampling == "pool"
        self.steps = tuple(tuple(step) for step in steps)
        same = (0,) * len(steps[0])
        strides = [None, *((None,) * len(steps) if self.pools else steps)]
        sources = (in_channels, *self.channels)
        self.levels = nn.ModuleList(
            nn.Sequential(
                ConvNormAct(source, out, same, normalization, stride), ConvNormAct(out, out, same, normalization)
            )
            for source, out, stride in zip(sources, self.channels, strides, strict=False)
        )
        initialise(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Take `[B, C, ...]`, sides multiples of the deepest stride, to maps `[B, channels[i], ...]`, finest first."""
        maps: list[Tensor] = [self.levels[0](image)]
        for level, step in zip(self.levels[1:], self.steps, strict=True):
            maps.append(level(max_pool(maps[-1], step) if self.pools else maps[-1]))
        return maps


def level_widths(width: int, levels: int, max_width: int | None = None) -> tuple[int, ...]:
    """Return channels of each level, finest first: they double up to the most there may be."""
    doubled = [width * 2**level for level in range(levels)]
    return tuple(doubled if max_width is None else (min(channels, max_width) for channels in doubled))


class TimmEncoder(nn.Module):
    """A timm backbone, brought to five maps at strides 2 to 32.

    Many recent backbones (ConvNeXt, Swin) begin with patches of four pixels and have no map at stride 2. These get one
    from a small stem beside the backbone: a 3x3 convolution of stride 2, batch normalisation, ReLU, with half as many
    channels as the map at stride 4.

    Attributes:
        channels: of the five maps, finest first.
        strides: (2, 2), (4, 4), (8, 8), (16, 16), (32, 32).
    """

    def __init__(self, name: str, in_channels: int, pretrained: bool | str | Path) -> None:
        super().__init__()
        self.backbone = create_backbone(name, in_channels, pretrained)
        channels, strides = self.backbone.feature_info.channels(), self.backbone.feature_info.reduction()
        self.stem = None
        if strides == list(TIMM_STRIDES[1:]):
            channels, strides = [max(1, channels[0] // 2), *channels], list(TIMM_STRIDES)
            self.stem = _make_stem(in_channels, channels[0])
        self.channels = tuple(channels[-LEVELS:])
        self.strides = tuple((stride, stride) for stride in TIMM_STRIDES)
        if tuple(strides[-LEVELS:]) != TIMM_STRIDES:
            raise UsageError(
                f"encoder '{name}' gives features at strides {strides}: expected {list(TIMM_STRIDES)}, or without "
                f"the first; choose {EXAMPLES}"
            )
        self.channels_last = self._find_layout(name, in_channels)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Take `[B, C, H, W]`, sides multiples of 32, to five maps `[B, channels[i], H / strides[i], ...]`."""
        maps: list[Tensor] = self.backbone(image)[-LEVELS:]
        if self.channels_last:
            maps = [features.permute(0, 3, 1, 2) for features in maps]
        return maps if self.stem is None else [self.stem(image), *maps]

    @torch.no_grad()
    def _find_layout(self, name: str, in_channels: int) -> bool:
        """Try the backbone, and return whether its maps are `[B, H, W, C]`, as those of transformers often are.

        Raises:
            UsageError: it refuses the image, or gives maps of other sizes than it promises.
        """
        shape = height, width = 2 * TIMM_STRIDES[-1], 3 * TIMM_STRIDES[-1]  # unequal, to tell the orders apart
        self.eval()
        try:
            maps = self.backbone(torch.zeros(1, in_channels, *shape))[-LEVELS:]
        except (RuntimeError, ValueError, AssertionError) as error:
            raise UsageError(
                f"encoder '{name}' refuses images of {height} x {width} pixels: {first_line(error)}; choose {EXAMPLES}"
            ) from error
        self.train()
        found = [tuple(features.shape[1:]) for features in maps]
        levels = zip(self.channels[-len(maps) :], TIMM_STRIDES[-len(maps) :], strict=True)
        promised = [(channels, height // stride, width // stride) for channels, stride in levels]
        if found == promised:
            return False
        if found == [(*sides, channels) for channels, *sides in promised]:
            return True
        raise UsageError(
            f"encoder '{name}' gives maps {found} of {height} x {width} pixels: expected {promised}; choose {EXAMPLES}"
        )


def _make_stem(in_channels: int, out_channels: int) -> nn.Sequential:
    stem = nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
    initialise(stem)
    return stem


def encoder_normalization(normalization: Normalization) -> Normalization:
    """Return the plain encoder's normalisation in a network whose decoder has this one: it never goes without."""
    return "batch" if normalization == "none" else normalization


def create_encoder(
    name: str,
    in_channels: int,
    width: int = 64,
    pretrained: bool | str | Path = False,
    spatial_dims: int = 2,
    levels: int = LEVELS,
    strides: Sequence[Sequence[int]] | None = None,
    normalization: Normalization = "batch",
    downsampling: Downsampling = "pool",
    max_width: int | None = None,
) -> PlainEncoder | TimmEncoder:
    """Build an encoder by name.

    Args:
        name: "plain", or a timm backbone ("resnet34") with features at strides 4, 8, 16 and 32; at stride 2 its own, or
            those of a small stem. A backbone takes images, and has five levels and ways of its own.
        in_channels: channels of the image.
        width: channels of the finest level of "plain"; a backbone has its own.
        pretrained: False draws weights and never touches the network; True lets timm fetch its own; a path reads a
            local file of the backbone's weights (.safetensors, or .pth without executable content), or a folder that
            holds one, as a download from a model hub does.
        spatial_dims: 2 for images, 3 for volumes.
        levels: of "plain".
        strides: of each step between levels of "plain", a number an axis; default 2.
        normalization: of "plain".
        downsampling: of "plain", "pool" or "stride".
        max_width: the most channels that a level of "plain" gets.

    Raises:
        UsageError: unknown name, features at other strides, a backbone of one input size, "plain" pretrained, strides
            that do not fit, an option of "plain" for a backbone.
        DataError: the file of weights cannot be read or is of another backbone.
        FullscaleError: timm's weights cannot be fetched.
    """
    if name != "plain":
        own = (spatial_dims, levels, strides, normalization, downsampling, max_width)
        if own != (2, LEVELS, None, "batch", "pool", None):
            raise UsageError(
                f"encoder '{name}' is a backbone for images with {LEVELS} levels of its own: spatial_dims, levels, "
                "strides, normalization, downsampling and max_width need encoder='plain'"
            )
        return TimmEncoder(name, in_channels, pretrained)
    if pretrained:
        raise UsageError("encoder 'plain' has no pretrained weights: use pretrained=False or a timm backbone")
    if downsampling not in get_args(Downsampling):
        raise UsageError(f"downsampling is {downsampling!r}: expected {' or '.join(get_args(Downsampling))}")
    steps = step_strides(strides, levels, spatial_dims)
    return PlainEncoder(in_channels, width, steps, normalization, downsampling, max_width)
