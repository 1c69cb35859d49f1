"""A scan as a 2D network sees it: slice by slice, each with its neighbours as further channels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fullscale.views.protocol import Compute, voxels_at_once


def with_neighbours(image: npt.NDArray[Any], index: int, neighbours: int) -> npt.NDArray[Any]:
    """Take slice `index` of `[C, S, H, W]` with its neighbours: `[C (2 n + 1), H, W]`.

    Channel by channel, each from feet to head; the first and the last slice repeat beyond the scan.
    """
    around = np.clip(np.arange(index - neighbours, index + neighbours + 1), 0, image.shape[1] - 1)
    return image[:, around].reshape(-1, *image.shape[2:])


def stack_images(image: npt.NDArray[Any], start: int, size: int, neighbours: int) -> Tensor:
    """Stack up to `size` slices of `[C, S, H, W]` with their neighbours: float32 `[B, C (2 neighbours + 1), H, W]`."""
    indices = range(start, min(start + size, image.shape[1]))
    images = np.stack([with_neighbours(image, index, neighbours) for index in indices])
    return torch.from_numpy(images.astype(np.float32, copy=False))


class SliceView:
    """Slices in batches.

    Args:
        neighbours: slices above and below that are shown with each.
        batch_size: slices at once; default by the device's memory.
    """

    def __init__(self, neighbours: int, batch_size: int | None = None) -> None:
        self.neighbours = neighbours
        self.batch_size = batch_size

    def slab(self, shape: tuple[int, ...], device: torch.device) -> int:
        """Return how many slices of `[S, H, W]` are computed together."""
        return self.batch_size or voxels_at_once(shape[1:], device)

    def maps(self, compute: Compute, image: npt.NDArray[Any], device: torch.device) -> Iterator[Tensor]:
        """Compute `[C, S, H, W]` batch by batch: maps `[b, K, H, W]` of consecutive slices."""
        size = self.slab(image.shape[1:], device)
        for start in range(0, image.shape[1], size):
            yield compute(stack_images(image, start, size, self.neighbours).to(device))
