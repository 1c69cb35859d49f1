"""Size and shape of a mask, in a pass over the box around each structure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fullscale.data.labels import LabelScheme
from fullscale.metrics.overlap import is_of
from fullscale.metrics.surface import boxes_of

_FACES_A_SURFACE = {3: 1.5, 2: 4 / math.pi}
"""Area of the voxel faces around a body, in parts of the area of its smooth surface, where all directions are as
frequent: the mean of |x| + |y| + |z| over the directions of space, or of |x| + |y| over those of the plane."""


class Shape(NamedTuple):
    """Size and shape of the mask of one structure.

    Attributes:
        voxels: how many.
        voxel_mm3: volume of one.
        area_mm2: of the surface, estimated from the faces of the voxels. Of a single slice it is that of the outline
            times the thickness.
        largest: share of the voxels that lie in the largest connected part.
    """

    voxels: int
    voxel_mm3: float
    area_mm2: float
    largest: float


def shapes_of(classes: npt.NDArray[np.uint8], scheme: LabelScheme, spacing_mm: Sequence[float]) -> list[Shape | None]:
    """Measure the mask of each structure.

    Args:
        classes: `[S, H, W]`.
        scheme: which classes each structure is made of.
        spacing_mm: between slices, rows and columns.

    Returns:
        One for each structure in their order, None where the mask holds none of it.
    """
    made_of = {k: tuple(np.flatnonzero(held).tolist()) for k, held in enumerate(scheme.membership)}
    boxes = boxes_of([classes], list(made_of), made_of)
    return [
        shape_of(is_of(classes[boxes[k]], values), spacing_mm, flat=len(classes) == 1) if k in boxes else None
        for k, values in made_of.items()
    ]


def shape_of(mask: npt.NDArray[np.bool_], spacing_mm: Sequence[float], flat: bool = False) -> Shape:
    """Measure a mask that is not empty, cut to its box; `flat` is a single slice, which has an outline alone."""
    from scipy import ndimage  # not needed by every model, which starts the sooner

    padded = np.pad(mask, 1)
    volume = math.prod(spacing_mm)
    axes = (1, 2) if flat else (0, 1, 2)
    faces = sum(int(np.count_nonzero(np.diff(padded, axis=axis))) * volume / spacing_mm[axis] for axis in axes)
    index, number = ndimage.label(mask, structure=ndimage.generate_binary_structure(3, 3))
    voxels = int(np.count_nonzero(mask))
    largest = voxels if number == 1 else int(np.bincount(index.ravel())[1:].max())
    return Shape(voxels, volume, faces / _FACES_A_SURFACE[len(axes)], largest / voxels)
