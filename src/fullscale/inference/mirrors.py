"""Mirrored images at prediction: a network sees each image turned over as well, and its answers are averaged."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import chain, combinations

from torch import Tensor

from fullscale.data.recipe import MIRRORS, Mirror
from fullscale.views.protocol import LIMIT, Compute


def mirrored(compute: Compute, mirrors: Collection[Mirror]) -> Compute:
    """Average the maps of an image with those of its mirror images, turned back.

    Args:
        compute: takes images `[B, C, H, W]` or `[B, C, D, H, W]` to maps of that size.
        mirrors: which ways to turn it over; every combination of them is computed, 2 to the power of their number.

    Returns:
        The same as `compute` where there are no mirrors.
    """
    if not mirrors:
        return compute
    turns = list(_combinations([MIRRORS[mirror] for mirror in mirrors]))

    def averaged(images: Tensor) -> Tensor:
        total = compute(images).clamp(-LIMIT, LIMIT)
        for axes in turns:
            total = total + compute(images.flip(axes)).clamp(-LIMIT, LIMIT).flip(axes)
        return total / (len(turns) + 1)

    return averaged


def _combinations(axes: list[int]) -> Iterator[tuple[int, ...]]:
    return chain.from_iterable(combinations(axes, count) for count in range(1, len(axes) + 1))
