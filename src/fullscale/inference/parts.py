"""Connected parts of a mask, a few planes at a time, so that their numbers take no more bytes than they need."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

_VOXELS_AT_ONCE = 1 << 24
"""Of the planes that are numbered together: their numbers take 4 bytes each until then."""

Numbers = npt.NDArray[Any]


class PartNumbers:
    """Numbers the connected parts of a mask from 1, in the order of their first voxels, as `scipy.ndimage.label` does.

    That takes 4 bytes a voxel for the whole mask; here a voxel takes 1 where some planes hold fewer than 256 parts.

    Args:
        mask: bool `[X, Y, Z]`.
        corners: whether voxels that share an edge or a corner are connected, and not only those that share a face.

    Attributes:
        number: how many parts there are.
    """

    def __init__(self, mask: npt.NDArray[np.bool_], corners: bool) -> None:
        from scipy import ndimage  # not needed by every model, which starts the sooner

        structure = ndimage.generate_binary_structure(3, 3 if corners else 1)
        reach = (-1, 0, 1) if corners else (0,)
        step = max(1, _VOXELS_AT_ONCE // max(1, math.prod(mask.shape[1:])))
        self._chunks: list[tuple[int, Numbers]] = []
        pairs, found, before = [np.zeros((0, 2), np.int64)], 0, None
        for start in range(0, len(mask), step):
            index, count = ndimage.label(mask[start : start + step], structure=structure)
            first, last = _from(index[0], found), _from(index[-1], found)
            if before is not None:
                pairs += [_touching(before, first, (rows, columns)) for rows, columns in product(reach, reach)]
            self._chunks.append((found, index.astype(np.min_scalar_type(count))))
            before, found = last, found + count
        self._numbers = _joined(np.concatenate(pairs), found)
        self.number = int(self._numbers.max(initial=0))

    def __iter__(self) -> Iterator[npt.NDArray[np.int32]]:
        """Give the numbers of one plane `[Y, Z]` after the other; 0 where the mask is not."""
        for found, index in self._chunks:
            count = int(index.max(initial=0))
            table = np.concatenate([[0], self._numbers[found : found + count]]).astype(np.int32)
            for plane in index:
                yield table[plane]


def _from(plane: Numbers, found: int) -> npt.NDArray[np.int64]:
    """Number the parts of a plane on from those that were found before."""
    return np.where(plane > 0, plane.astype(np.int64) + found, 0)


def _touching(plane: Numbers, following: Numbers, shift: tuple[int, int]) -> npt.NDArray[np.int64]:
    """List the pairs of parts of two planes that touch, where the second is looked at so many rows and columns on."""
    here = plane[_overlap(-shift[0]), _overlap(-shift[1])]
    there = following[_overlap(shift[0]), _overlap(shift[1])]
    both = (here > 0) & (there > 0)
    pairs: npt.NDArray[np.int64] = np.unique(np.stack([here[both], there[both]], axis=1), axis=0)
    return pairs


def _overlap(shift: int) -> slice:
    return slice(max(0, shift), min(0, shift) or None)


def _joined(pairs: npt.NDArray[np.int64], found: int) -> npt.NDArray[np.int64]:
    """Give parts that touch one number: of each found part its number, from 1, in the order of the first of them."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if len(pairs) == 0:
        return np.arange(1, found + 1)
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0] - 1, pairs[:, 1] - 1)), shape=(found, found))
    _, groups = connected_components(graph, directed=False)
    _, first = np.unique(groups, return_index=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(1, len(first) + 1)
    numbers: npt.NDArray[np.int64] = rank[groups]
    return numbers
