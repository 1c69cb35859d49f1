"""Distances between the surfaces of two masks, and the scores derived from them.

The surface of a mask is the set of its voxels that touch the outside through a face; beyond the edge of the volume is
outside, so a structure cut by the end of the scan has a surface there. Distances run in mm between voxel centres. This
is the surface of MONAI and of Metrics Reloaded (Maier-Hein et al. 2024, Nature Methods 21:195), and the scores equal
theirs. The package surface-distance weighs surface elements by their area instead and comes out near.

Distances are searched in a k-d tree of the surface voxels. That gives the numbers of a Euclidean distance transform,
but memory and time follow the surface, not the box around it: one stray voxel in the corner of a 512x512x400 scan
costs nothing, and grids whose axes are not at right angles (gantry tilt) are measured right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fullscale.errors import UsageError
from fullscale.metrics.overlap import Members, members_of

Mask = npt.NDArray[np.bool_]
Box = tuple[slice, slice, slice]
Tolerance = float | Mapping[int, float]
"""Tolerance of the surface Dice in mm, one for all classes or one for each label."""

TOLERANCE_MM = 1.0
"""The default, about one voxel of a fine scan. What experts differ by depends on the structure: give your own."""

_LARGEST_LISTED_LABEL = 65535
_ROUNDING = 1e-5


class SurfaceDistances(NamedTuple):
    """For each surface voxel of one mask the distance to the nearest of the other, in mm.

    Attributes:
        to_reference: `[surface voxels of the prediction]`.
        to_prediction: `[surface voxels of the reference]`.
    """

    to_reference: npt.NDArray[np.float64]
    to_prediction: npt.NDArray[np.float64]


def voxel_axes(spacing_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the steps `[3, 3]` in mm from voxel to voxel, one column an axis.

    Args:
        spacing_mm: `[3]` spacing of a grid with right angles, or the steps `[3, 3]` themselves, such as
            `affine[:3, :3]`.
    """
    steps = np.asarray(spacing_mm, dtype=np.float64)
    return np.diag(steps) if steps.ndim == 1 else steps


def diagonal_mm(shape: tuple[int, ...], spacing_mm: npt.ArrayLike) -> float:
    """Return the longest diagonal of a volume from outer corner to outer corner, in mm: no distance is larger."""
    edges = voxel_axes(spacing_mm) * np.asarray(shape)
    corners = [edges @ (1, y, z) for y in (-1, 1) for z in (-1, 1)]
    return float(max(np.linalg.norm(corner) for corner in corners))


def surface_voxels(mask: Mask) -> Mask:
    """Return the voxels of a mask of any dimension that have a face to the outside or to the array's edge."""
    padded = np.pad(mask, 1)
    inner = mask.copy()
    for axis in range(mask.ndim):
        for start in (0, 2):
            window = [slice(1, -1)] * mask.ndim
            window[axis] = slice(start, start + mask.shape[axis])
            inner &= padded[tuple(window)]
    return mask & ~inner


def joint_boxes(
    prediction: npt.NDArray[Any], reference: npt.NDArray[Any], labels: Iterable[int], members: Members | None = None
) -> dict[int, Box]:
    """Find for each label the smallest box that holds its voxels in both label maps `[X, Y, Z]`.

    Each map is passed through once for all labels. A label in neither has no box; one that is made of several values
    has one around all of them.
    """
    return boxes_of([prediction, reference], labels, members)


def boxes_of(maps: Sequence[npt.NDArray[Any]], labels: Iterable[int], members: Members | None = None) -> dict[int, Box]:
    """Find for each label the smallest box that holds its voxels in all label maps `[X, Y, Z]`; see `joint_boxes`."""
    wanted = list(labels)
    values = members_of(wanted, members)
    every = sorted({value for part in values for value in part})
    found = [_boxes(array, every) for array in maps]
    boxes: dict[int, Box] = {}
    for label, of_it in zip(wanted, values, strict=True):
        parts = [part[value] for part in found for value in of_it if value in part]
        if parts:
            boxes[label] = around(parts)
    return boxes


def around(boxes: Iterable[Box]) -> Box:
    """Return the smallest box around several."""
    x, y, z = (slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))
    return x, y, z


def surface_distances(prediction: Mask, reference: Mask, spacing_mm: npt.ArrayLike) -> SurfaceDistances:
    """Measure the distances between the surfaces of two masks `[X, Y, Z]`, neither of them empty.

    Args:
        prediction: voxels of one class; may be cropped to the box of both masks.
        reference: its truth, of the same shape.
        spacing_mm: as in `voxel_axes`.
    """
    axes = voxel_axes(spacing_mm)
    surfaces = surface_voxels(prediction), surface_voxels(reference)
    shared = surfaces[0] & surfaces[1]
    there, back = (_distances(a, b, shared, axes) for a, b in (surfaces, surfaces[::-1]))
    return SurfaceDistances(there, back)


def hd95(distances: SurfaceDistances) -> float:
    """95 % Hausdorff distance in mm: the larger of the 95th percentiles (interpolated) of the two directions."""
    return float(max(np.percentile(d, 95) for d in distances))


def assd(distances: SurfaceDistances) -> float:
    """Average symmetric surface distance in mm: the mean over the surface voxels of both masks."""
    return float(np.concatenate(distances).mean())


def nsd(distances: SurfaceDistances, tolerance_mm: float) -> float:
    """Normalised surface Dice: the part of both surfaces no farther than `tolerance_mm` from the other.

    After Nikolov et al. 2021 (J Med Internet Res 23:e26151). The tolerance gives way by 0.001 % of itself, so that a
    spacing of 1 mm which a file stores as 1.0000001 does not change the score.
    """
    return float((np.concatenate(distances) <= tolerance_mm * (1 + _ROUNDING)).mean())


def tolerance_of(label: int, tolerance_mm: Tolerance) -> float:
    """Return the tolerance of one label in mm.

    Raises:
        UsageError: it is missing, negative or not finite.
    """
    tolerance = tolerance_mm.get(label) if isinstance(tolerance_mm, Mapping) else tolerance_mm
    if tolerance is None or not 0 <= tolerance < np.inf:
        raise UsageError(f"the surface tolerance of label {label} is {tolerance}, expected a distance in mm from 0 on")
    return float(tolerance)


def _boxes(array: npt.NDArray[Any], labels: list[int]) -> dict[int, Box]:
    if not labels:
        return {}
    from scipy import ndimage

    numbers, listed = labels, array.view(np.uint8) if array.dtype.kind == "b" else array
    if max(labels) > _LARGEST_LISTED_LABEL:
        listed = np.where(np.isin(listed, labels), np.searchsorted(sorted(labels), listed) + 1, 0)
        numbers = [sorted(labels).index(label) + 1 for label in labels]
    boxes: dict[int, Box] = {}
    objects = ndimage.find_objects(listed, max_label=max(numbers))
    for label, number in zip(labels, numbers, strict=True):
        if objects[number - 1] is not None:
            x, y, z = objects[number - 1]
            boxes[label] = (x, y, z)
    return boxes


def _distances(surface: Mask, other: Mask, shared: Mask, axes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Distances from one surface to another; only voxels that do not lie on both are searched for."""
    from scipy.spatial import cKDTree  # not needed where scans are segmented, which starts the sooner

    searched = surface & ~shared
    distances = np.zeros(int(np.count_nonzero(surface)))
    if searched.any():
        tree = cKDTree(np.argwhere(other) @ axes.T)
        distances[searched[surface]] = tree.query(np.argwhere(searched) @ axes.T)[0]
    return distances
