"""UNet++ (Zhou et al., DLMIA 2018), as the table of the UNet 3+ paper counts it.

Letters: B batch, H W the input's size, N levels. Levels are counted from the finest, 0, to the deepest, 4. Node
(level, depth) is X^{level, depth} of the UNet++ paper: depth 0 is the encoder's map.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.networks.base import SegmentationNetwork
from fullscale.networks.blocks import (
    Normalization,
    UpNode,
    initialise,
    require_normalization,
    require_positive,
)
from fullscale.networks.encoders import LEVELS, create_encoder


class UNetPlusPlus(SegmentationNetwork):
    """UNet++: nested nodes between encoder and decoder, each fed by all earlier ones of its level.

    The four nodes of the finest level beside the encoder's have a head each; their average is the answer. With 3
    inputs, 1 class and the plain encoder it has 47,176,132 parameters.

    Args:
        in_channels: channels of the image.
        classes: 1 for sigmoid; more for softmax with background as class 0.
        encoder: "plain", the paper's, or the name of a timm backbone; see `encoders.create_encoder`.
        width: channels of the finest level's nodes, and of the plain encoder's; they double with each further level.
        normalization: of the nodes: "none", as the paper counts it, or "batch", as people use it today.
        deep_supervision: in training, the logits of each of the four heads, most nested first, and not their average.
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
        deep_supervision: bool = True,
        pretrained: bool | str | Path = False,
    ) -> None:
        require_positive(in_channels=in_channels, classes=classes, width=width)
        require_normalization(normalization)
        encoding = create_encoder(encoder, in_channels, width, pretrained)
        depths = range(1, LEVELS)
        super().__init__(
            in_channels, classes, encoding.strides[-1], num_supervised=len(depths) if deep_supervision else 1
        )
        self.encoder = encoding
        encoded = encoding.channels
        nested = (*(width * 2**level for level in range(LEVELS - 1)), encoded[-1])

        self.nodes = nn.ModuleList()  # by depth, then by level
        for depth in depths:
            deeper = encoded if depth == 1 else nested
            self.nodes.append(
                nn.ModuleList(
                    UpNode(
                        deeper[level + 1], encoded[level] + (depth - 1) * nested[level], nested[level], normalization
                    )
                    for level in range(LEVELS - depth)
                )
            )
        self.heads = nn.ModuleList(nn.Conv2d(width, classes, kernel_size=1) for _ in depths)
        initialise(self.nodes)
        initialise(self.heads)

    def _logits(self, image: Tensor) -> list[Tensor]:
        grid = [[encoded] for encoded in self.encoder(image)]  # by level, then by depth
        for depth, column in enumerate(self.nodes, 1):
            for level in range(LEVELS - depth):
                grid[level].append(column[level](grid[level + 1][-1], grid[level]))  # type: ignore[index]
        logits = [head(node) for head, node in zip(self.heads, grid[0][1:], strict=True)]
        if not self.training or self.num_supervised == 1:
            logits = [torch.stack(logits).mean(dim=0)]
        return [
            F.interpolate(each, size=image.shape[2:], mode="bilinear", align_corners=False) for each in reversed(logits)
        ]
