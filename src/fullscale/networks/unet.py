"""UNet (Ronneberger et al., MICCAI 2015), as the table of the UNet 3+ paper counts it.

Letters: B batch, H W the input's size. Levels are counted from the finest, 0, to the deepest, 4.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.networks.base import SegmentationNetwork
from fullscale.networks.blocks import (
    Head,
    Normalization,
    UpNode,
    initialise,
    require_normalization,
    require_positive,
)
from fullscale.networks.encoders import LEVELS, create_encoder


class UNet(SegmentationNetwork):
    """UNet: each decoder level joins the map one level deeper with the encoder's map of its own level.

    With 3 inputs, 1 class and the plain encoder it has 39,396,033 parameters.

    Args:
        in_channels: channels of the image.
        classes: 1 for sigmoid; more for softmax with background as class 0.
        encoder: "plain", the paper's, or the name of a timm backbone; see `encoders.create_encoder`.
        width: channels of the finest decoder level, and of the plain encoder's; they double with each further level.
        normalization: of the decoder: "none", as the paper counts it, or "batch", as people use it today.
        pretrained: False, True, or a file of weights for the timm backbone; see `encoders.create_encoder`.

    Raises:
        UsageError: a number below 1, an encoder that does not fit, an unknown normalisation.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        encoder: str = "plain",
        width: int = 64,
        normalization: Normalization = "none",
        pretrained: bool | str | Path = False,
    ) -> None:
        require_positive(in_channels=in_channels, classes=classes, width=width)
        require_normalization(normalization)
        encoding = create_encoder(encoder, in_channels, width, pretrained)
        super().__init__(in_channels, classes, stride=encoding.strides[-1])
        self.encoder = encoding
        encoded = encoding.channels
        decoded = (*(width * 2**level for level in range(LEVELS - 1)), encoded[-1])
        self.decoders = nn.ModuleList(
            UpNode(decoded[level + 1], encoded[level], decoded[level], normalization) for level in range(LEVELS - 1)
        )
        self.head = Head(width, classes)
        initialise(self.decoders)
        initialise(self.head)

    def _logits(self, image: Tensor) -> list[Tensor]:
        maps = self.encoder(image)  # five [B, C, h, w]
        for level in reversed(range(LEVELS - 1)):
            maps[level] = self.decoders[level](maps[level + 1], [maps[level]])
        logits = self.head(maps[0])
        return [F.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=False)]
