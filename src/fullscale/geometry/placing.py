"""Placing a label map that covers a part of a scan, on the same voxels but perhaps other axes, onto the whole grid."""

from __future__ import annotations

import numpy as np

from fullscale.errors import GeometryError
from fullscale.geometry.volume import Affine, Volume

_ON_GRID = 1e-2
"""How far from a voxel centre of the scan a segment's voxel may lie, as a share of the spacing."""


def place_labels(labels: Volume, like: Volume) -> Volume:
    """Put a label map onto a grid whose voxels include all of its own that are not background.

    Raises:
        GeometryError: its voxels lie between those of the grid, or outside; nothing is resampled.
    """
    axes, signs, offset = _steps(labels, like)
    array = np.zeros(like.shape, labels.array.dtype)
    voxels = np.argwhere(labels.array)
    places = np.empty_like(voxels)
    for old, new in enumerate(axes):
        places[:, new] = signs[old] * voxels[:, old] + offset[new]
    outside = ((places < 0) | (places >= like.shape)).any(axis=1)
    if outside.any():
        raise GeometryError(f"{int(outside.sum())} of {len(voxels)} voxels lie outside the scan's grid of {like.shape}")
    array[tuple(places.T)] = labels.array[tuple(voxels.T)]
    return like.with_array(array)


def _steps(labels: Volume, like: Volume) -> tuple[list[int], list[int], list[int]]:
    """Find for each axis of the labels the axis of the grid, its direction, and the index of the first voxel."""
    to_grid = np.linalg.inv(like.affine) @ labels.affine
    nearest = np.rint(to_grid)
    corners = np.array([[*(np.array(corner) * (np.array(labels.shape) - 1)), 1] for corner in np.ndindex(2, 2, 2)])
    off = np.abs(corners @ (to_grid - nearest).T)[:, :3].max()
    signed = nearest[:3, :3]
    if off > _ON_GRID or not (np.abs(signed).sum(axis=0) == 1).all() or abs(round(np.linalg.det(signed))) != 1:
        raise GeometryError(
            f"its voxels lie between those of the scan (up to {off:.3g} of a voxel off): spacing "
            f"{_mm(labels.affine)} and {_mm(like.affine)}; nothing is resampled"
        )
    axes = [int(np.abs(signed[:, old]).argmax()) for old in range(3)]
    signs = [int(signed[new, old]) for old, new in enumerate(axes)]
    return axes, signs, nearest[:3, 3].astype(int).tolist()


def _mm(affine: Affine) -> str:
    return " x ".join(f"{step:.5g}" for step in np.linalg.norm(affine[:3, :3], axis=0)) + " mm"
