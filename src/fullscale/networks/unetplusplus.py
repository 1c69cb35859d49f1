"""UNet++ (Zhou et al., DLMIA 2018), as the table of the UNet 3+ paper counts it.

Letters: B batch, N levels. Levels are counted from the finest, 0, to the deepest, 4 in the paper. Node (level, depth)
is X^{level, depth} of the UNet++ paper: depth 0 is the encoder's map.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
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
from fullscale.networks.spatial import LAYERS, require_levels, require_spatial_dims, step_between, upsample


class UNetPlusPlus(SegmentationNetwork):
    """UNet++: nested nodes between encoder and decoder, each fed by all earlier ones of its level.

    The nodes of the finest level beside the encoder's, four in the paper, have a head each; their average is the
    answer. With 3 inputs, 1 class and the plain encoder it has 47,176,132 parameters.

    Args:
        in_channels: channels of the image or volume.
        classes: 1 for sigmoid; more for softmax with background as class 0.
        spatial_dims: 2 for images `[B, C, H, W]`, 3 for volumes `[B, C, D, H, W]`.
        encoder: "plain", the paper's, or the name of a timm backbone; see `encoders.create_encoder`.
        width: channels of the finest level's nodes, and of the plain encoder's; they double with each further level.
        normalization: of the nodes: "none", as the paper counts it, or "batch", as people use it today; "instance" is
            also that of the plain encoder.
        deep_supervision: in training, the logits of each of the heads, most nested first, and not their average.
        pretrained: False, True, or a file of weights for the timm backbone; see `encoders.create_encoder`.
        levels: N, 2 to 6.
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
        deep_supervision: bool = True,
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
        depths = range(1, levels)
        super().__init__(
            in_channels, classes, encoding.strides[-1], num_supervised=len(depths) if deep_supervision else 1
        )
        self.encoder = encoding
        encoded = encoding.channels
        nested = (*level_widths(width, levels, max_width)[:-1], encoded[-1])

        self.nodes = nn.ModuleList()  # by depth, then by level
        for depth in depths:
            deeper = encoded if depth == 1 else nested
            self.nodes.append(
                nn.ModuleList(
                    UpNode(
                        deeper[level + 1],
                        encoded[level] + (depth - 1) * nested[level],
                        nested[level],
                        normalization,
                        step_between(*encoding.strides[level : level + 2]),
                    )
                    for level in range(levels - depth)
                )
            )
        self.heads = nn.ModuleList(LAYERS[spatial_dims].conv(width, classes, kernel_size=1) for _ in depths)
        initialise(self.nodes)
        initialise(self.heads)

    def _logits(self, image: Tensor) -> list[Tensor]:
        grid = [[encoded] for encoded in self.encoder(image)]  # by level, then by depth
        for depth, column in enumerate(self.nodes, 1):
            for level in range(len(grid) - depth):
                grid[level].append(column[level](grid[level + 1][-1], grid[level]))  # type: ignore[index]
        logits = [head(node) for head, node in zip(self.heads, grid[0][1:], strict=True)]
        if not self.training or self.num_supervised == 1:
            logits = [torch.stack(logits).mean(dim=0)]
        return [upsample(each, self.encoder.strides[0]) for each in reversed(logits)]
