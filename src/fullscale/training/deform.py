"""Moving the voxels of a crop at random: rotation, zoom, shift and bending at once, so that it is sampled only once.

Letters: n axes of a crop, 2 (H W) or 3 (D H W); C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

ANISOTROPIC = 3.0
"""Axes whose spacings differ by more are not turned into each other, as in nnU-Net: few slices cannot be turned."""
KNOTS_MM = 8.0
"""Distance of the knots that carry a bending, in units of the finest spacing."""
OWN_SHARE = 0.4
"""Of a zoom, the share that each axis draws for itself; the rest all axes have together."""
CLASSES_AT_ONCE = 8
"""A label map of a hundred structures is sampled in groups, so that memory does not grow with their number."""


@dataclass(frozen=True)
class DeformationRange:
    """How far a deformation may go.

    Attributes:
        rotate_degrees: largest rotation in each plane, either way.
        scale: largest zoom of an axis either way, as a fraction.
        shift: largest shift either way, as a fraction of the side.
        elastic: deviation of the bending's displacements, in voxels of the finest spacing; 0 bends nothing.
        spacing_mm: of the n axes; only how they compare matters.
    """

    rotate_degrees: float
    scale: float
    shift: float
    elastic: float
    spacing_mm: tuple[float, ...]


@dataclass(frozen=True)
class Deformation:
    """Where each voxel of the new crop comes from: `matrix @ offset + shift`, and the bending's displacement besides.

    Attributes:
        matrix: `[n, n]`, from offsets in voxels from the centre to the same in the crop that came in.
        shift: `[n]`, in voxels.
        bending: displacements in voxels `[n, *knots]` on a coarse grid that spans the crop, or None.
    """

    matrix: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]
    bending: npt.NDArray[np.float64] | None = None


def draw_deformation(rng: np.random.Generator, size: Sequence[int], reach: DeformationRange) -> Deformation:
    """Draw a deformation of crops of `size` voxels, evenly within `reach`; rotations are made in millimetres."""
    dims, spacing = len(size), np.array(reach.spacing_mm)
    zoom = 1 + reach.scale * ((1 - OWN_SHARE) * rng.uniform(-1, 1) + OWN_SHARE * rng.uniform(-1, 1, dims))
    rotation = np.eye(dims)
    for first, second in combinations(range(dims), 2):
        angle = np.deg2rad(reach.rotate_degrees) * rng.uniform(-1, 1)
        if max(spacing[first] / spacing[second], spacing[second] / spacing[first]) <= ANISOTROPIC:
            rotation = rotation @ _plane_rotation(dims, first, second, angle)
    shift = reach.shift * np.array(size) * rng.uniform(-1, 1, dims)
    bending = _draw_bending(rng, size, reach) if reach.elastic else None
    return Deformation(rotation * spacing / spacing[:, None] * zoom, shift, bending)


def deform(deformation: Deformation, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Sample an image and its label where a deformation says; beyond the crop its edge is repeated.

    The image is interpolated linearly. Of the label, each voxel takes the class that covers most of it by the same
    interpolation, the lowest of equals: that follows a smooth border more closely than the nearest voxel does, and
    invents no class.

    Args:
        deformation: drawn for this size.
        image: float32 `[C, *size]`.
        label: uint8 `[*size]`.

    Returns:
        Both at their size and type.
    """
    grid = _sampling_grid(deformation, label.shape)
    return _sample(image, grid), _sample_label(label, grid)


def _plane_rotation(dims: int, first: int, second: int, angle: float) -> npt.NDArray[np.float64]:
    matrix = np.eye(dims)
    matrix[[first, second], [first, second]] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


def _draw_bending(rng: np.random.Generator, size: Sequence[int], reach: DeformationRange) -> npt.NDArray[np.float64]:
    """Draw displacements on a grid of knots that are equally far apart in mm along every axis, at least two each."""
    steps = np.array(reach.spacing_mm) / min(reach.spacing_mm)
    knots = [max(2, 1 + round(side * step / KNOTS_MM)) for side, step in zip(size, steps, strict=True)]
    size_of_it = reach.elastic * rng.uniform(0, 1)
    displacements: npt.NDArray[np.float64] = rng.standard_normal((len(size), *knots))
    return size_of_it * displacements / steps.reshape(-1, *[1] * len(size))


def _sampling_grid(deformation: Deformation, size: Sequence[int]) -> Tensor:
    """Return where to sample, `[1, *size, n]`, as `grid_sample` counts: -1 to 1 from edge to edge, last axis first."""
    half = np.array(size) / 2
    affine = np.column_stack([deformation.matrix * half / half[:, None], deformation.shift / half])
    order = [*reversed(range(len(size))), len(size)]
    theta = torch.from_numpy(affine[order[:-1]][:, order]).float()
    grid = F.affine_grid(theta[None], [1, 1, *size], align_corners=False)
    if deformation.bending is None:
        return grid
    knots = torch.from_numpy(deformation.bending / half.reshape(-1, *[1] * len(size))).float()
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return grid + F.interpolate(knots[None], list(size), mode=mode, align_corners=True).flip(1).movedim(1, -1)


def _sample(channels: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(channels[None], grid, padding_mode="border", align_corners=False)[0]


def _sample_label(label: Tensor, grid: Tensor) -> Tensor:
    present = torch.bincount(label.flatten(), minlength=1).nonzero().flatten().to(label.dtype)
    if len(present) == 1:
        return label
    most, winner = torch.full(label.shape, -1.0), label
    for classes in torch.split(present, CLASSES_AT_ONCE):
        masks = label == classes.reshape(-1, *[1] * label.ndim)
        cover, which = _sample(masks.float(), grid).max(dim=0)
        winner = torch.where(cover > most, classes[which], winner)
        most = torch.maximum(most, cover)
    return winner
