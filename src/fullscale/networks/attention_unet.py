"""Attention UNet (Oktay et al., MIDL 2018), as MONAI builds it."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.nets import AttentionUnet
from torch import Tensor

from fullscale.errors import UsageError
from fullscale.networks.base import SegmentationNetwork
from fullscale.networks.blocks import require_positive
from fullscale.networks.encoders import LEVELS, level_widths
from fullscale.networks.spatial import level_strides, require_levels, require_spatial_dims, step_strides


class AttentionUNet(SegmentationNetwork):
    """Attention UNet: before a skip is joined, the map one level deeper says where to look in it.

    Args:
        in_channels: channels of the image or volume.
        classes: 1 for sigmoid; more for softmax with background as class 0.
        spatial_dims: 2 for images `[B, C, H, W]`, 3 for volumes `[B, C, D, H, W]`.
        width: channels of the finest level, at least 2; they double with each further one.
        levels: 2 to 6.
        strides: of each step from a level to the next, one number an axis, such as (1, 2, 2); default 2.
        max_width: the most channels that a level gets, at least 2.

    Raises:
        UsageError: a number is too small, or strides that do not fit.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        spatial_dims: int = 2,
        width: int = 64,
        levels: int = LEVELS,
        strides: Sequence[Sequence[int]] | None = None,
        max_width: int | None = None,
    ) -> None:
        require_positive(in_channels=in_channels, classes=classes, width=width)
        require_spatial_dims(spatial_dims)
        require_levels(levels)
        channels = level_widths(width, levels, max_width)
        if min(channels) < 2:
            raise UsageError(f"width is {min(channels)}: attention-unet halves it, expected at least 2")
        steps = step_strides(strides, levels, spatial_dims)
        super().__init__(in_channels, classes, stride=level_strides(steps)[-1])
        self.network = AttentionUnet(spatial_dims, in_channels, classes, channels, strides=steps)

    def _logits(self, image: Tensor) -> list[Tensor]:
        return [self.network(image)]
