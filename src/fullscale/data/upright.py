"""How a case lies in the patient: its axes from feet to head, front to back and side to side."""

from __future__ import annotations

import numpy as np

from fullscale.data.checks import CaseFacts


def extent_mm(facts: CaseFacts) -> tuple[float, float]:
    """Rows and columns of a case's slices in mm."""
    (rows, columns), (row_mm, column_mm) = in_plane(facts)
    return rows * row_mm, columns * column_mm


def in_plane(facts: CaseFacts) -> tuple[tuple[int, int], tuple[float, float]]:
    """Voxels and spacing in mm of a case's axial slices: rows (front to back), then columns (side to side)."""
    (_, rows, columns), (_, row_mm, column_mm) = upright(facts)
    return (rows, columns), (row_mm, column_mm)


def upright(facts: CaseFacts) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """Voxels and spacing in mm across slices (feet to head), of rows (front to back) and of columns (side to side)."""
    axes = [next(axis for axis, code in enumerate(facts.orientation) if code in pair) for pair in ("SI", "PA", "LR")]
    slices, rows, columns = (facts.shape[axis] for axis in axes)
    across, row, column = (facts.spacing_mm[axis] for axis in axes)
    return (slices, rows, columns), (across, row, column)


def median_grid(facts: list[CaseFacts]) -> tuple[list[float], tuple[float, float, float]]:
    """Return voxels and distances in mm of the median scan, across slices, of rows and of columns."""
    grids = [upright(f) for f in facts]
    across, row, column = np.median([spacing for _, spacing in grids], axis=0).tolist()
    extent = np.median([np.multiply(shape, spacing) for shape, spacing in grids], axis=0)
    return (extent / (across, row, column)).tolist(), (across, row, column)
