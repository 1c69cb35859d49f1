"""Voxels with their place in the patient."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.errors import GeometryError
from fullscale.geometry.units import LENGTH, PER_SIZE, Unit

Affine = npt.NDArray[np.float64]
"""A 4x4 matrix that takes a voxel index (i, j, k, 1) to RAS+ millimetres, as in nibabel."""


@dataclass(frozen=True)
class Volume:
    """A scan or a label map: an array and the affine that places it. An image is a volume of one slice.

    Attributes:
        array: voxels `[X, Y, Z]`, in the order the file stores them. CT in HU.
        affine: `[4, 4]` float64, voxel index to RAS+ mm.
        header: what the reader keeps of the file's own header so that a mask can be written back with it;
            opaque outside `fullscale.data`.
        notes: what the reader chose, passed over or mended, a line each.
        unit: what lengths are counted in; an image whose pixel size is not known lies in pixels, and so does every
            length that is called mm here.

    Raises:
        GeometryError: the array is not 3D, or the affine is not an invertible 4x4 matrix.
    """

    array: npt.NDArray[Any]
    affine: Affine
    header: Any = field(default=None, compare=False, repr=False)
    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)
    unit: Unit = "mm"

    def __post_init__(self) -> None:
        affine = np.asarray(self.affine, dtype=np.float64)
        if self.array.ndim != 3:
            raise GeometryError(f"a volume has 3 dimensions, this array has shape {self.array.shape}")
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GeometryError(f"an affine is a finite 4x4 matrix, this is {affine.tolist()}")
        if abs(np.linalg.det(affine[:3, :3])) <= 1e-12 * np.prod(np.linalg.norm(affine[:3, :3], axis=0)):
            raise GeometryError(f"the affine {affine[:3, :3].tolist()} flattens the volume: no voxel size can be read")
        object.__setattr__(self, "affine", affine)

    def __repr__(self) -> str:
        from fullscale.geometry.orientation import axis_codes  # a module that builds on this one

        shape, spacing = (" x ".join(f"{n:.4g}" for n in three) for three in (self.shape, self.spacing_mm))
        header = "no header" if self.header is None else type(self.header).__name__
        return f"Volume({shape} {self.array.dtype}, {spacing} {LENGTH[self.unit]}, {axis_codes(self.affine)}, {header})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along each stored axis."""
        x, y, z = self.array.shape
        return x, y, z

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along each stored axis, in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres; of one pixel of an image, its area in mm² or 1."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / PER_SIZE[self.unit]

    def with_array(self, array: npt.NDArray[Any]) -> Volume:
        """Return other voxels on this grid, header kept.

        Raises:
            GeometryError: the array has another shape than this volume.
        """
        if array.shape != self.array.shape:
            raise GeometryError(f"an array of shape {array.shape} does not fit a grid of shape {self.array.shape}")
        return Volume(array, self.affine, self.header, unit=self.unit)


def describe_mismatch(a: Volume, b: Volume, tolerance: float = 1e-3) -> str | None:
    """Say how two grids differ, or return None where they are the same.

    Two affines are the same when no corner of the volume moves by more than `tolerance` of the smallest spacing.
    """
    if a.shape != b.shape:
        return f"shapes differ: {a.shape} and {b.shape}"
    corners = np.array([[i, j, k, 1.0] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    corners[:, :3] *= np.array(a.shape) - 1
    moved = np.abs(corners @ (a.affine - b.affine).T)[:, :3].max()
    if moved > tolerance * min(a.spacing_mm):
        unit = LENGTH[a.unit]
        return (
            f"affines differ by up to {moved:.3g} {unit} at the corners (allowed {tolerance * min(a.spacing_mm):.3g} "
            f"{unit}): spacing {_three(a.spacing_mm)} {unit} and {_three(b.spacing_mm)} {LENGTH[b.unit]}, "
            f"origin {_three(a.affine[:3, 3])} {unit} and {_three(b.affine[:3, 3])} {LENGTH[b.unit]}"
        )
    return None


def require_same_grid(image: Volume, mask: Volume, names: str = "image and mask") -> None:
    """Refuse two volumes that do not lie on one grid.

    Raises:
        GeometryError: shapes differ, or the affines differ by more than 1e-3 of the spacing.
    """
    mismatch = describe_mismatch(image, mask)
    if mismatch is not None:
        raise GeometryError(f"{names} lie on different grids: {mismatch}")


def _three(values: npt.ArrayLike) -> str:
    return "(" + ", ".join(f"{v:.4g}" for v in np.asarray(values)) + ")"
