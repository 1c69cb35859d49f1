"""Boxes cut out of arrays, whose edges repeat where a box reaches beyond them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def cut(array: npt.NDArray[Any], starts: Sequence[int], sides: Sequence[int]) -> npt.NDArray[Any]:
    """Cut a box out of the last axes of an array; negative starts lie outside, where the edge is repeated.

    Args:
        array: `[..., *spatial]`.
        starts: the first index along each of the spatial axes.
        sides: the size of the box.

    Returns:
        `[..., *sides]`, an array of its own.
    """
    sizes = array.shape[-len(sides) :]
    ends = [start + side for start, side in zip(starts, sides, strict=True)]
    if all(start >= 0 and end <= size for start, end, size in zip(starts, ends, sizes, strict=True)):
        whole = [slice(None)] * (array.ndim - len(sides))
        return np.array(array[(*whole, *(slice(start, end) for start, end in zip(starts, ends, strict=True)))])
    for axis, (start, end, size) in enumerate(zip(starts, ends, sizes, strict=True), start=-len(sides)):
        array = array.take(np.clip(np.arange(start, end), 0, size - 1), axis)
    return array
