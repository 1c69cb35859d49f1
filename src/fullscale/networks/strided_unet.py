"""A plain UNet as nnU-Net builds it (Isensee et al., Nature Methods 2021): the control that other networks are held to.

Letters: B batch, `...` a map's size: H W, or D H W in a volume. Levels are counted from the finest, 0, to the deepest.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from fullscale.networks.base import SegmentationNetwork
from fullscale.networks.blocks import ConvNormAct, require_positive
from fullscale.networks.encoders import LEVELS, level_widths
from fullscale.networks.spatial import (
    LAYERS,
    level_strides,
    require_levels,
    require_spatial_dims,
    step_strides,
    upsample,
)

SLOPE = 0.01
"""Of the leaky ReLU, for negative values."""


class StridedUNet(SegmentationNetwork):
    """A plain UNet of strided convolutions down and transposed ones up, with two units a level and side outputs.

    A unit is a 3x3 convolution, instance normalisation and a leaky ReLU. The first convolution of a level takes the
    step from the finer one. Every decoder level has a 1x1 convolution to logits.

    Args:
        in_channels: channels of the image or volume.
        classes: 1 for sigmoid; more for softmax with background as class 0.
        spatial_dims: 2 for images `[B, C, H, W]`, 3 for volumes `[B, C, D, H, W]`.
        width: channels of the finest level; they double with each further one.
        levels: 2 to 6.
        strides: of each step from a level to the next, one number an axis, such as (1, 2, 2) where slices lie far
            apart; default 2.
        max_width: the most channels that a level gets.
        deep_supervision: in training, the logits of every decoder level and not of the finest alone.

    Raises:
        UsageError: an impossible number, or strides that do not fit.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        spatial_dims: int = 2,
        width: int = 32,
        levels: int = LEVELS,
        strides: Sequence[Sequence[int]] | None = None,
        max_width: int | None = 320,
        deep_supervision: bool = True,
    ) -> None:
        require_positive(in_channels=in_channels, classes=classes, width=width)
        require_spatial_dims(spatial_dims)
        require_levels(levels)
        steps = step_strides(strides, levels, spatial_dims)
        strides_of_levels = level_strides(steps)
        super().__init__(in_channels, classes, strides_of_levels[-1], levels - 1 if deep_supervision else 1)
        self.level_strides = strides_of_levels
        widths = level_widths(width, levels, max_width)
        same, layers = (1,) * spatial_dims, LAYERS[spatial_dims]
        self.encoder = nn.ModuleList(
            nn.Sequential(unit(source, out, stride), unit(out, out, same))
            for source, out, stride in zip((in_channels, *widths), widths, (same, *steps), strict=False)
        )
        self.ups = nn.ModuleList(
            layers.conv_transpose(deeper, out, kernel_size=step, stride=step)
            for (out, deeper), step in zip(pairwise(widths), steps, strict=True)
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(unit(2 * out, out, same), unit(out, out, same)) for out in widths[:-1]
        )
        self.heads = nn.ModuleList(layers.conv(out, classes, kernel_size=1) for out in widths[: self.num_supervised])
        initialise_leaky(self)

    def _logits(self, image: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        for units in self.encoder:
            maps.append(units(maps[-1] if maps else image))  # [B, C, ...] of each level
        for level in reversed(range(len(self.decoder))):
            maps[level] = self.decoder[level](torch.cat([maps[level], self.ups[level](maps[level + 1])], dim=1))
        heads = self.heads if self.training else self.heads[:1]
        return [
            upsample(head(decoded), stride)
            for head, decoded, stride in zip(heads, maps, self.level_strides, strict=False)
        ]


def unit(in_channels: int, out_channels: int, stride: Sequence[int]) -> ConvNormAct:
    """Make a 3x3 convolution, instance normalisation and leaky ReLU; each side is divided by the stride."""
    return ConvNormAct(in_channels, out_channels, (0,) * len(stride), "instance", stride, SLOPE)


def initialise_leaky(module: nn.Module) -> None:
    """Draw fresh weights as nnU-Net does: Kaiming normal for the leaky ReLU, biases 0."""
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
            nn.init.kaiming_normal_(part.weight, a=SLOPE)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
