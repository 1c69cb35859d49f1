"""How a scan lies: where it is brightest and where its structures are, as shares of the way through it.

A scan whose header says the wrong way up shows it here: the spine is the brightest part of a trunk, and is at the back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.data.labels import LabelScheme
from fullscale.geometry.orientation import reorientation
from fullscale.geometry.volume import Affine, Volume

Place = tuple[float, float, float]
"""From left (0) to right (1), from back to front, and from feet to head; of an image, rows and columns likewise."""

WAYS = ("left to right", "back to front", "feet to head")
"""What each number of a place runs along."""

_SIDE = 96
"""Voxels of a side that are looked at, at most."""
_BRIGHT = 95
"""Percentile of the intensities from which voxels are bright."""


def brightest_place(scan: Volume) -> Place:
    """Return the mean place of the brightest voxels of a scan."""
    few = _thinned(scan.array, scan.affine)
    return _mean_place(few >= np.percentile(few, _BRIGHT))


def label_places(labels: npt.NDArray[Any], affine: Affine) -> dict[int, Place]:
    """Return the mean place of each label value but 0; one that falls between the voxels looked at is left out."""
    few = _thinned(labels, affine)
    return {int(value): _mean_place(few == value) for value in np.unique(few) if value}


def structure_places(labels: Volume, scheme: LabelScheme) -> dict[str, Place]:
    """Return the mean place of each structure that a mask holds, by its name."""
    few = _thinned(labels.array, labels.affine)
    masks = {name: np.isin(few, scheme.members[written]) for written, name in scheme.structures.items()}
    return {name: _mean_place(mask) for name, mask in masks.items() if mask.any()}


def values_at_border(array: npt.NDArray[Any]) -> tuple[int, ...]:
    """List the label values but 0 that have a voxel at a border of the scan."""
    faces = [array.take(index, axis) for axis in range(array.ndim) if array.shape[axis] > 1 for index in (0, -1)]
    values = np.unique(np.concatenate([np.unique(face) for face in faces or [array]]))
    return tuple(int(value) for value in values if value)


def mean_place(places: Sequence[Place], weights: Sequence[float]) -> Place:
    """Return the mean of places with weights."""
    x, y, z = np.average(places, axis=0, weights=weights).tolist()
    return x, y, z


def _thinned(array: npt.NDArray[Any], affine: Affine) -> npt.NDArray[Any]:
    upright = reorientation(affine, "RAS").apply(array)
    return upright[tuple(slice(None, None, -(-side // _SIDE)) for side in upright.shape)]


def _mean_place(mask: npt.NDArray[np.bool_]) -> Place:
    shares = []
    for axis, side in enumerate(mask.shape):
        counts = mask.sum(axis=tuple(other for other in range(3) if other != axis))
        shares.append(round(float(counts @ (np.arange(side) + 0.5) / counts.sum() / side), 4))
    return shares[0], shares[1], shares[2]
