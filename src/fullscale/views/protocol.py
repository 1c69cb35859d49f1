"""What a view promises: a prepared scan is shown to a network in parts, and what it says of them becomes whole slices.

Letters: B batch, C channels of the image, K maps that a network computes of it, such as a logit for each class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy.typing as npt
import torch
from torch import Tensor

Compute = Callable[[Tensor], Tensor]
"""Takes images `[B, C, H, W]` or `[B, C, D, H, W]`, on their device, to maps of the same size with K channels."""

LIMIT = 32.0
"""Maps are cut off at this size either way before several of a voxel are averaged: the logit of a structure that
guidance calls absent is all but infinite, and would decide against all others. A probability at the limit is 1e-14."""

VOXELS_AT_ONCE = {"cpu": 1 << 18, "cuda": 1 << 21, "mps": 1 << 20}
"""Voxels of the parts in one batch, by the kind of device."""


class View(Protocol):
    """A way of showing a scan to a network."""

    def slab(self, shape: tuple[int, ...], device: torch.device) -> int:
        """Return how many slices of a scan `[S, H, W]` can be handled together."""

    def maps(self, compute: Compute, image: npt.NDArray[Any], device: torch.device) -> Iterator[Tensor]:
        """Compute a prepared scan.

        Args:
            compute: the network.
            image: `[C, S, H, W]`.
            device: where `compute` wants its images, and where its maps are.

        Yields:
            Maps `[b, K, H, W]` of consecutive slices, from feet to head, until all S are done.
        """


def voxels_at_once(part: Sequence[int], device: torch.device) -> int:
    """Return how many parts of this size the device's memory takes in one batch."""
    return max(1, VOXELS_AT_ONCE[device.type] // math.prod(part))
