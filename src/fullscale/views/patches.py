"""A scan as a 3D network sees it: in overlapping tiles, whose maps are averaged with Gaussian weights.

Letters: B batch, C channels of the image, K maps that a network computes of it, D H W sides of a tile.

Tiles are computed from feet to head, and slices that no later tile reaches are handed on at once: of the maps of a
whole scan, no more than the slices of one layer of tiles are in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fullscale.views.boxes import cut
from fullscale.views.protocol import LIMIT, Compute, voxels_at_once

SIGMA = 1 / 8
"""Deviation of the Gaussian weights, as a share of a tile's side (nnU-Net: Isensee et al., Nature Methods 2021)."""
LEAST_WEIGHT = 1e-3
"""Of a tile's corner, against about 1 in its middle: no voxel goes without."""

Tile = tuple[int, int, int]


class PatchView:
    """Overlapping tiles of one size. A scan that is smaller than a tile is shown with its edges repeated.

    Args:
        tile_size: slices, rows and columns.
        overlap: of two neighbouring tiles at least, as a share of their side.
        batch_size: tiles at once; default by the device's memory.
    """

    def __init__(self, tile_size: Sequence[int], overlap: float = 0.5, batch_size: int | None = None) -> None:
        depth, height, width = tile_size
        self.tile_size = depth, height, width
        self.overlap = overlap
        self.batch_size = batch_size

    def slab(self, shape: tuple[int, ...], device: torch.device) -> int:
        """Return how many slices of `[S, H, W]` can be handled together."""
        return voxels_at_once(shape[1:], device)

    def maps(self, compute: Compute, image: npt.NDArray[Any], device: torch.device) -> Iterator[Tensor]:
        """Compute `[C, S, H, W]` tile by tile: maps `[b, K, H, W]` of consecutive slices."""
        shape = image.shape[1:]
        layers, *in_plane = (starts(size, side, self.overlap) for size, side in zip(shape, self.tile_size, strict=True))
        rows, columns = in_plane
        places = list(product(rows, columns))
        stitched: _Layer | None = None
        for layer, following in zip(layers, [*layers[1:], shape[0]], strict=True):
            for tiles, found in self._computed(
                compute, image, [(layer, row, column) for row, column in places], device
            ):
                stitched = stitched or _Layer(self.tile_size, shape, found)
                for tile, maps in zip(tiles, found, strict=True):
                    stitched.add(tile, maps)
            assert stitched is not None
            yield stitched.finish(following - max(layer, 0))

    def _computed(
        self, compute: Compute, image: npt.NDArray[Any], tiles: list[Tile], device: torch.device
    ) -> Iterator[tuple[list[Tile], Tensor]]:
        """Compute tiles in batches: where they begin, and their maps `[B, K, D, H, W]`."""
        size = self.batch_size or voxels_at_once(self.tile_size, device)
        for first in range(0, len(tiles), size):
            batch = tiles[first : first + size]
            images = np.stack([cut(image, tile, self.tile_size) for tile in batch]).astype(np.float32, copy=False)
            yield batch, compute(torch.from_numpy(images).to(device)).clamp(-LIMIT, LIMIT)


class _Layer:
    """Weighted sums of the maps of a few slices: as many as a tile has, or fewer in a small scan."""

    def __init__(self, tile_size: Tile, shape: tuple[int, ...], like: Tensor) -> None:
        self.shape = (min(tile_size[0], shape[0]), *shape[1:])
        self.weights = importance(tile_size).to(like.device)
        self.total = like.new_zeros((like.shape[1], *self.shape), dtype=torch.float32)
        self.weight = self.total.new_zeros(self.shape)

    def add(self, tile: Tile, maps: Tensor) -> None:
        """Add the maps `[K, D, H, W]` of a tile; what lies outside the scan is left out."""
        begin = (min(tile[0], 0), *tile[1:])  # the slices begin with the layer, wherever in the scan that is
        there, here = [], []
        for start, side, size in zip(begin, maps.shape[1:], self.shape, strict=True):
            first, last = max(start, 0), min(start + side, size)
            there.append(slice(first, last))
            here.append(slice(first - start, last - start))
        weights = self.weights[tuple(here)]
        self.total[(slice(None), *there)] += maps[(slice(None), *here)] * weights
        self.weight[tuple(there)] += weights

    def finish(self, slices: int) -> Tensor:
        """Return the averaged maps `[slices, K, H, W]` of the first slices, and move on to those after them."""
        done = (self.total[:, :slices] / self.weight[:slices]).transpose(0, 1)
        for sums in (self.total, self.weight):
            along = sums.ndim - 3
            rest = sums.narrow(along, slices, sums.shape[along] - slices).clone()
            sums.zero_()
            sums.narrow(along, 0, rest.shape[along]).copy_(rest)
        return done


def starts(size: int, side: int, overlap: float) -> list[int]:
    """Say where tiles of `side` begin along an axis of `size`, evenly, overlapping by at least this share.

    An axis that is shorter than the tile lies in its middle: the one start is negative, or 0.
    """
    if size <= side:
        return [(size - side) // 2]
    steps = math.ceil((size - side) / max(1.0, side * (1 - overlap)))
    return [int(start + 0.5) for start in np.linspace(0, size - side, steps + 1)]


def importance(tile_size: Sequence[int]) -> Tensor:
    """Make Gaussian weights `[*tile_size]`, of which a tile's middle would have 1."""
    weights = torch.ones(())
    for side in tile_size:
        distance = (torch.arange(side, dtype=torch.float32) - (side - 1) / 2) / (side * SIGMA)
        weights = weights[..., None] * torch.exp(-0.5 * distance**2)
    return weights.clamp(min=LEAST_WEIGHT)
