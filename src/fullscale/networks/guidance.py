"""Classification guidance (UNet 3+, section 2.3): which structures an image holds, and the gate that this opens.

Of a volume, or a patch of one, it speaks as of an image: a structure is present where any voxel says so. Letters: B
batch, C channels, `...` the axes of space: H W of an image, D H W of a volume.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.networks.spatial import LAYERS, over_space

TRAINING_ABSENT_LOGIT = -16.0
"""Logit of a gated structure while training: a probability of about 1e-7, of which every loss stays finite."""


PRESENT_AT_FIRST = 1.0
"""Presence logit of a fresh network, against 0 for absence."""


class Guidance(nn.Module):
    """Classification-guided module: which structures an image holds, told from the deepest map.

    A fresh module finds every structure present in every image, whatever its input: its weights are zero, and its bias
    leans towards presence. Unless the loss of presence teaches it otherwise, a network therefore gates nothing. Zero
    weights learn: they have gradients, and no random draw is needed to tell absent from present.

    Args:
        in_channels: C of the deepest map `[B, C, ...]`.
        structures: how many it speaks of, see `count_structures`.
        spatial_dims: axes of space, 2 or 3.
    """

    def __init__(self, in_channels: int, structures: int, spatial_dims: int = 2) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.conv = LAYERS[spatial_dims].conv(in_channels, 2 * structures, kernel_size=1)
        nn.init.zeros_(self.conv.weight)
        self.conv.bias = nn.Parameter(torch.tensor([0.0, PRESENT_AT_FIRST] * structures))

    def forward(self, deepest: Tensor) -> Tensor:
        """Take `[B, C, ...]` to presence logits `[B, structures, 2]`: index 0 absent, 1 present."""
        evidence: Tensor = self.conv(self.dropout(deepest)).amax(dim=tuple(range(2, deepest.ndim)))
        return evidence.reshape(evidence.shape[0], -1, 2)


def count_structures(classes: int) -> int:
    """Return how many structures guidance speaks of: one class is one structure, of more the background (0) is none."""
    return max(1, classes - 1)


def absent(presence: Tensor) -> Tensor:
    """Say of presence logits `[B, structures, 2]` which structures are absent, bool `[B, structures]`.

    The two logits are compared as they are: as probabilities in float32, 17 and 20 would tie. A tie is absent, as with
    the arg-max of the authors' code, which takes the first; a fresh network has no ties.
    """
    return presence[..., 0] >= presence[..., 1]


def gate(logits: Tensor, presence: Tensor | None, absent_logit: float | None = None) -> Tensor:
    """Take every structure that guidance calls absent out of the segmentation, image by image.

    Args:
        logits: `[B, classes, ...]`.
        presence: `[B, structures, 2]`, index 0 absent, 1 present; None gates nothing.
        absent_logit: the logit an absent structure is given everywhere. By default half the lowest number of the dtype:
            finite, so that it can be interpolated, and of probability exactly 0 by sigmoid and by softmax.

    Returns:
        `[B, classes, ...]`; the background of several classes is never touched.
    """
    if presence is None:
        return logits
    background = logits.shape[1] - presence.shape[1]
    gated = F.pad(absent(presence), (background, 0))
    if absent_logit is None:
        absent_logit = torch.finfo(logits.dtype).min / 2
    return logits.masked_fill(over_space(gated, logits), absent_logit)


def decode_present(
    decode: Callable[[list[Tensor]], Tensor], maps: list[Tensor], presence: Tensor | None, shape: tuple[int, ...]
) -> Tensor:
    """Decode the images that hold a structure, and gate the structures that they do not hold.

    Most slices of a body hold nothing of what is sought, and what is gated whole need not be decoded. A compiled graph
    has no branches and decodes all.

    Args:
        decode: takes maps of some images to their logits `[?, classes, ...]`.
        maps: `[B, C, ...]` each.
        presence: `[B, structures, 2]`; None gates nothing.
        shape: of the result, `[B, classes, ...]`.

    Returns:
        Gated logits; in an image without any structure the logit of the background is 0.
    """
    if presence is None:
        return decode(maps)
    holding = ~absent(presence).all(dim=1)  # [B]
    if torch.compiler.is_compiling():
        logits = decode(maps)
        return gate(logits.masked_fill(over_space(~holding, logits), 0), presence)
    if holding.all():
        return gate(decode(maps), presence)
    logits = maps[0].new_zeros(shape)
    if holding.any():
        logits[holding] = decode([m[holding] for m in maps]).to(logits.dtype)
    return gate(logits, presence)
