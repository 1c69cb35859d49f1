"""UNet (Ronneberger et al., MICCAI 2015), as the table of the UNet 3+ paper counts it.

Letters: B batch, `...` a map's size. Levels are counted from the finest, 0, to the deepest, 4 in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from torch import Tensor, nn

from fullscale.networks.base import SegmentationNetwork
from fullscale.networks.blocks import (
    Normalization,
    UpNode,
    initialise,
    require_normalization,
    require_positive,
)
from fullscale.networks.encoders import LEVELS, create_encoder, encoder_normalization, level_widths
from fullscale.networks.heads import create_head
from fullscale.networks.spatial import require_levels, require_spatial_dims, step_between, upsample


class UNet(SegmentationNetwork):
    """UNet: each decoder level joins the map one level deeper with the encoder's map of its own level.

    With 3 inputs, 1 class and the plain encoder it has 39,396,033 parameters.

    Args:
        in_channels: channels of the image or volume.
        classes: 1 for sigmoid; more for softmax with background as class 0.
        spatial_dims: 2 for images `[B, C, H, W]`, 3 for volumes `[B, C, D, H, W]`.
        encoder: "plain", the paper's, or the name of a timm backbone; see `encoders.create_encoder`.
        width: channels of the finest decoder level, and of the plain encoder's; they double with each further level.
        normalization: of the decoder: "none", as the paper counts it, or "batch", as people use it today; "instance" is
            also that of the plain encoder.
        pretrained: False, True, or a file of weights for the timm backbone; see `encoders.create_encoder`.
        levels: of encoder and decoder, 2 to 6.
        strides: of each step from a level to the next, one number an axis, such as (1, 2, 2); default 2.
        max_width: the most channels that a level gets.

    Raises:
        UsageError: an impossible number, an encoder or strides that do not fit, an unknown normalisation.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        spatial_dims: int = 2,
        encoder: str = "plain",
        width: int = 64,
        normalization: Normalization = "none",
        pretrained: bool | str | Path = False,
        levels: int = LEVELS,
        strides: Sequence[Sequence[int]] | None = None,
        max_width: int | None = None,
    ) -> None:
        require_positive(in_channels=in_channels, classes=classes, width=width)
        require_normalization(normalization)
        require_spatial_dims(spatial_dims)
        require_levels(levels)
        encoding = create_encoder(
            encoder,
            in_channels,
            width,
            pretrained,
            spatial_dims,
            levels,
            strides,
            encoder_normalization(normalization),
            max_width=max_width,
        )
        super().__init__(in_channels, classes, stride=encoding.strides[-1])
        self.encoder = encoding
        encoded = encoding.channels
        decoded = (*level_widths(width, levels, max_width)[:-1], encoded[-1])
        self.decoders = nn.ModuleList(
            UpNode(deeper, skip, out, normalization, step_between(finer, coarser))
            for deeper, skip, out, (finer, coarser) in zip(
                decoded[1:], encoded, decoded, pairwise(encoding.strides), strict=False
            )
        )
        self.head = create_head(width, classes, spatial_dims)
        initialise(self.decoders)
        initialise(self.head)

    def _logits(self, image: Tensor) -> list[Tensor]:
        maps = self.encoder(image)  # [B, C, ...] of each level
        for level in reversed(range(len(self.decoders))):
            maps[level] = self.decoders[level](maps[level + 1], [maps[level]])
        return [upsample(self.head(maps[0]), self.encoder.strides[0])]
