"""Encoders: an image in, five maps out, finest first. The paper's plain one, or any fitting timm backbone by name."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.errors import UsageError
from fullscale.networks.backbones import EXAMPLES, create_backbone
from fullscale.networks.blocks import ConvNormAct, initialise
from fullscale.text import first_line

LEVELS = 5
TIMM_STRIDES = (2, 4, 8, 16, 32)


class PlainEncoder(nn.Module):
    """The paper's encoder (its "VGG-16"): two 3x3 convolutions a level, max-pooling by 2 between levels.

    With 3 inputs and width 64 it has 18,851,136 parameters.

    Args:
        in_channels: channels C of the image.
        width: channels of the finest level; they double with each further one.

    Attributes:
        channels: of the five maps, finest first.
        strides: 1, 2, 4, 8, 16.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.channels = tuple(width * 2**level for level in range(LEVELS))
        self.strides = tuple(2**level for level in range(LEVELS))
        sources = (in_channels, *self.channels)
        self.levels = nn.ModuleList(
            nn.Sequential(ConvNormAct(source, out), ConvNormAct(out, out))
            for source, out in zip(sources, self.channels, strict=False)
        )
        initialise(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Take `[B, C, H, W]`, sides multiples of 16, to five maps `[B, channels[i], H / 2**i, W / 2**i]`."""
        maps: list[Tensor] = []
        for level in self.levels:
            maps.append(level(F.max_pool2d(maps[-1], kernel_size=2) if maps else image))
        return maps


class TimmEncoder(nn.Module):
    """A timm backbone, brought to five maps at strides 2 to 32.

    Many recent backbones (ConvNeXt, Swin) begin with patches of four pixels and have no map at stride 2. These get one
    from a small stem beside the backbone: a 3x3 convolution of stride 2, batch normalisation, ReLU, with half as many
    channels as the map at stride 4.

    Attributes:
        channels: of the five maps, finest first.
        strides: 2, 4, 8, 16, 32.
    """

    def __init__(self, name: str, in_channels: int, pretrained: bool | str | Path) -> None:
        super().__init__()
        self.backbone = create_backbone(name, in_channels, pretrained)
        channels, strides = self.backbone.feature_info.channels(), self.backbone.feature_info.reduction()
        self.stem = None
        if strides == list(TIMM_STRIDES[1:]):
            channels, strides = [max(1, channels[0] // 2), *channels], list(TIMM_STRIDES)
            self.stem = _make_stem(in_channels, channels[0])
        self.channels, self.strides = tuple(channels[-LEVELS:]), tuple(strides[-LEVELS:])
        if self.strides != TIMM_STRIDES:
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
        shape = height, width = 2 * self.strides[-1], 3 * self.strides[-1]  # unequal, to tell the orders apart
        self.eval()
        try:
            maps = self.backbone(torch.zeros(1, in_channels, *shape))[-LEVELS:]
        except (RuntimeError, ValueError, AssertionError) as error:
            raise UsageError(
                f"encoder '{name}' refuses images of {height} x {width} pixels: {first_line(error)}; choose {EXAMPLES}"
            ) from error
        self.train()
        found = [tuple(features.shape[1:]) for features in maps]
        levels = zip(self.channels[-len(maps) :], self.strides[-len(maps) :], strict=True)
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


def create_encoder(
    name: str, in_channels: int, width: int = 64, pretrained: bool | str | Path = False
) -> PlainEncoder | TimmEncoder:
    """Build an encoder by name.

    Args:
        name: "plain", or a timm backbone ("resnet34") with features at strides 4, 8, 16 and 32; at stride 2 its own, or
            those of a small stem.
        in_channels: channels of the image.
        width: channels of the finest level of "plain"; a backbone has its own.
        pretrained: False draws weights and never touches the network; True lets timm fetch its own; a path reads a
            local file of the backbone's weights (.safetensors, or .pth without executable content), or a folder that
            holds one, as a download from a model hub does.

    Raises:
        UsageError: unknown name, features at other strides, a backbone of one input size, "plain" pretrained.
        DataError: the file of weights cannot be read or is of another backbone.
        FullscaleError: timm's weights cannot be fetched.
    """
    if name != "plain":
        return TimmEncoder(name, in_channels, pretrained)
    if pretrained:
        raise UsageError("encoder 'plain' has no pretrained weights: use pretrained=False or a timm backbone")
    return PlainEncoder(in_channels, width)
