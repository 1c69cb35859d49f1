"""Attention UNet (Oktay et al., MIDL 2018), as MONAI builds it."""

from __future__ import annotations

from monai.networks.nets import AttentionUnet
from torch import Tensor

from fullscale.errors import UsageError
from fullscale.networks.base import SegmentationNetwork
from fullscale.networks.blocks import require_positive
from fullscale.networks.encoders import LEVELS


class AttentionUNet(SegmentationNetwork):
    """Attention UNet: before a skip is joined, the map one level deeper says where to look in it.

    Args:
        in_channels: channels of the image.
        classes: 1 for sigmoid; more for softmax with background as class 0.
        width: channels of the finest level, at least 2; they double with each further one.

    Raises:
        UsageError: a number is too small.
    """

    def __init__(self, in_channels: int, classes: int, width: int = 64) -> None:
        require_positive(in_channels=in_channels, classes=classes, width=width)
        if width < 2:
            raise UsageError("width is 1: attention-unet halves it, expected at least 2")
        super().__init__(in_channels, classes, stride=2 ** (LEVELS - 1))
        channels = [width * 2**level for level in range(LEVELS)]
        self.network = AttentionUnet(2, in_channels, classes, channels, strides=[2] * (LEVELS - 1))

    def _logits(self, image: Tensor) -> list[Tensor]:
        return [self.network(image)]
