"""DICOM slices are sorted here, and placed: even and straight, or made so where that was asked for.

They are sorted by ImagePositionPatient projected on the slice normal, never by file name or instance number.
Geometry follows the DICOM standard, PS3.3 C.7.6.2.1.1: the first three numbers of ImageOrientationPatient are the
direction in which the column index grows, and PixelSpacing gives the distance between rows first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.data.dicom.headers import Slice
from fullscale.data.dicom.kinds import CAPTURE, LOCALISER
from fullscale.errors import DataError, GeometryError
from fullscale.geometry.volume import Affine

Vector = npt.NDArray[np.float64]

_UNEVEN = 1e-2
"""Largest deviation of a slice from its even place, as a share of the slice distance."""
_TILT = 1e-3
"""Largest tangent of the angle between the slice normal and the line of slice positions (0.06 degrees)."""
_WIDEST = 4
"""Times the size of a slice that straightening may add to it."""
_STEEPEST_TILT = 45.0
"""Degrees beyond which a stack is no tilted one."""
_OFF_LINE = 5e-2
"""Largest distance of a slice from its place on the even, straight line, as a share of the slice distance."""
_ROUNDING = 1e-4
"""Difference of two direction cosines, or of two pixel spacings in mm, that is no difference."""
_JITTER = 0.1
"""How far an orientation of its own may move the corner of a slice, as a share of the pixel spacing."""
_SAME_POSITION_MM = 1e-3
_FARTHEST_MM = 1e6
"""No scanner is a kilometre long."""
_LPS_AND_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class DicomReadOptions:
    """What the user decides about reading a DICOM study.

    Attributes:
        series: SeriesInstanceUID or SeriesDescription of the series to read; needed where several would do.
        phase: number or name, such as "EchoTime 2.3", of the phase to read; needed where a series holds several.
        allow_gaps: fill missing slices, and even out uneven ones, by linear interpolation.
        untilt: resample a stack of tilted gantry to straight slices.
        fix_identifiers: for DICOM SEG, write a copy of a series without identifiers that has new ones.
        by_channel: the series of each channel of a case, by the channel's name.
    """

    series: str | None = None
    phase: str | None = None
    allow_gaps: bool = False
    untilt: bool = False
    fix_identifiers: bool = False
    by_channel: Mapping[str, str] = field(default_factory=dict)

    def of_channel(self, name: str) -> DicomReadOptions:
        """Return the options for one channel."""
        return replace(self, series=self.by_channel.get(name, self.series), by_channel={})


@dataclass(frozen=True)
class Stack:
    """Slices in order along their normal, and how they become a volume.

    Attributes:
        slices: in order, from the lowest along the normal.
        affine: of the volume `[column, row, slice]`, RAS+ mm.
        shape: of the volume.
        shifts: rows and columns that each slice is moved by, `[N, 2]`, none below 0; None where the stack is straight.
        places: for each slice of the volume its place among the slices, such as 3.5 between the fourth and the fifth;
            None where the stack is even.
        notes: what was done to the voxels, a line each.
    """

    slices: list[Slice]
    affine: Affine
    shape: tuple[int, int, int]
    shifts: Vector | None = None
    places: Vector | None = None
    notes: tuple[str, ...] = field(default=())

    def resample(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Make the volume of the slices `[column, row, slice]`, linearly; where no slice is, the lowest value."""
        fill = array.min()
        if self.shifts is not None:
            array = _shifted(array, self.shifts, self.shape, fill)
        if self.places is not None:
            array = _interpolated(array, self.places)
        return array


def stack_slices(slices: list[Slice], options: DicomReadOptions) -> Stack:
    """Order slices along their normal and find where their stack lies.

    Raises:
        DataError: they are colour images, pictures of a screen, or frames without a place.
        GeometryError: missing or duplicate slices, mixed sizes or orientations, localisers among them, tilt, or no
            position at all.
    """
    _require_plain(slices)
    row_step, column_step, normal, jitter = _plane(slices)
    ordered, positions = sort_slices(slices, normal)
    if len(ordered) == 1:
        step = normal * _single_slice_mm(ordered[0])
        return Stack(ordered, _affine(row_step, column_step, step, positions[0]), _shape(ordered[0], 1))
    heights = positions @ normal
    _refuse_duplicates(ordered, heights)
    places = _even_places(heights, options)
    sideways = _sideways(ordered, positions, heights, normal, options)
    count = len(ordered) if places is None else len(places)
    notes = [*jitter, *([] if places is None else [_gap_note(heights, places)])]
    if sideways is None:
        affine = _affine(row_step, column_step, (positions[-1] - positions[0]) / (count - 1), positions[0])
        return Stack(ordered, affine, _shape(ordered[0], count), None, places, tuple(notes))
    steps = np.stack([row_step, column_step], axis=1)
    first, shifts = _whole_and_rest(sideways @ steps / (steps**2).sum(axis=0))
    step = normal * (heights[-1] - heights[0]) / (count - 1)
    affine = _affine(row_step, column_step, step, positions[0] + steps @ first)
    notes.append(f"untilted: slices resampled in their plane by {np.abs(sideways).max():.4g} mm at most, linearly")
    return Stack(ordered, affine, _shape(ordered[0], count, shifts), shifts, places, tuple(notes))


def sort_slices(slices: list[Slice], normal: Vector) -> tuple[list[Slice], Vector]:
    """Sort slices by their position along the normal; names and instance numbers play no part.

    Returns:
        The slices, and their positions `[N, 3]`, LPS mm, in the same order.
    """
    positions = np.array([_vector(s, "ImagePositionPatient", 3) for s in slices])
    order = np.argsort(positions @ normal, kind="stable")
    return [slices[i] for i in order], positions[order]


def _affine(row_step: Vector, column_step: Vector, slice_step: Vector, first: Vector) -> Affine:
    """The affine of `[column, row, slice]`, RAS+ mm, from steps and the first pixel's position in LPS mm."""
    lps = np.eye(4)
    lps[:3, :] = np.stack([column_step, row_step, slice_step, first], axis=1)
    return _LPS_AND_RAS @ lps


def _shape(image: Slice, count: int, shifts: Vector | None = None) -> tuple[int, int, int]:
    """Columns, rows and slices of the volume; shifted slices need a larger plane."""
    rows, columns = image.size
    down, right = (0, 0) if shifts is None else np.ceil(shifts.max(axis=0) - 1e-6).astype(int).tolist()
    if down > _WIDEST * rows or right > _WIDEST * columns:
        raise GeometryError(f"straightened, slices of {rows}x{columns} would become {rows + down}x{columns + right}")
    return columns + right, rows + down, count


def _whole_and_rest(shifts: Vector) -> tuple[Vector, Vector]:
    """Split shifts `[N, 2]` in pixels into the whole pixels of the least one, `[2]`, and what is left, none below 0."""
    first: Vector = np.floor(shifts.min(axis=0) + 1e-6)
    return first, shifts - first


def _require_plain(slices: list[Slice]) -> None:
    for s in slices:
        if s.frames > 1:
            raise DataError(f"{s.name} holds {s.frames} frames without a place for each, expected one slice a file")
        if s.samples > 1 or s.photometric == "PALETTE COLOR":
            raise DataError(f"{s.name} is a colour image ({s.samples} samples a pixel), expected grey values")
        if s.modality in ("SEG", "RTSTRUCT", "RTDOSE"):
            raise DataError(f"{s.name} is no scan but {s.modality}")
        if s.kind == CAPTURE and not s.tags["ImagePositionPatient"]:
            raise DataError(f"{s.name} is a secondary capture, a picture without a place in the patient, not a slice")
    for kind in {s.kind: None for s in slices if s.kind not in ("", CAPTURE)}:
        named = [s.name for s in slices if s.kind == kind]
        if kind != LOCALISER:
            raise GeometryError(f"{len(named)} of {len(slices)} images are {kind} ({_some(named)}); give the slices")
        if len(named) < len(slices):
            raise GeometryError(f"{len(named)} of {len(slices)} slices are localisers ({_some(named)}); remove them")


def _plane(slices: list[Slice]) -> tuple[Vector, Vector, Vector, list[str]]:
    """Return the steps from row to row and from column to column, the unit normal, LPS mm, and notes on all slices."""
    _require_alike(slices, "size (rows, columns)", [np.array(s.size, np.float64) for s in slices])
    spacing = [_vector(s, "PixelSpacing", 2) for s in slices]
    _require_alike(slices, "pixel spacing", spacing)
    orientation, notes = _common_orientation(slices, spacing[0])
    along_row, along_column = orientation[:3], orientation[3:]
    skew = np.abs([along_row @ along_row - 1, along_column @ along_column - 1, along_row @ along_column]).max()
    if skew > 1e-3 or spacing[0].min() <= 0:
        raise GeometryError(
            f"{slices[0].name} has orientation {orientation.tolist()} and pixel spacing "
            f"{spacing[0].tolist()} mm, expected two unit vectors at right angles and positive distances"
        )
    along_row, along_column = along_row / np.linalg.norm(along_row), along_column / np.linalg.norm(along_column)
    normal = np.cross(along_row, along_column)
    return along_column * spacing[0][0], along_row * spacing[0][1], normal, notes


def _common_orientation(slices: list[Slice], spacing: Vector) -> tuple[Vector, list[str]]:
    """Return the orientation of all slices, the one nearest to the median where they differ by a fraction of a pixel.

    How much an orientation matters is how far it moves the corner of a slice that lies opposite to the first pixel.
    """
    found = np.array([_vector(s, "ImageOrientationPatient", 6) for s in slices])
    if np.abs(found - found[0]).max() <= _ROUNDING:
        return found[0], []
    common = found[np.abs(found - np.median(found, axis=0)).sum(axis=1).argmin()]
    rows, columns = slices[0].size
    sides_mm = np.repeat([(columns - 1) * spacing[1], (rows - 1) * spacing[0]], 3)
    moved_mm = np.linalg.norm(((found - common) * sides_mm).reshape(-1, 2, 3).sum(axis=1), axis=1)
    moved_mm = np.maximum(moved_mm, np.linalg.norm((found - common)[:, :3] * sides_mm[:3], axis=1))
    worst, allowed_mm = int(moved_mm.argmax()), _JITTER * float(spacing.min())
    text = f"up to {moved_mm[worst]:.3g} mm at the corner of {slices[worst].name}"
    if moved_mm[worst] > allowed_mm:
        other = [s.name for s, mm in zip(slices, moved_mm, strict=True) if mm > allowed_mm]
        raise GeometryError(
            f"{len(other)} of {len(slices)} slices ({_some(other)}) have another orientation than the others: "
            f"{found[worst].tolist()} beside {common.tolist()}, {text}, allowed {allowed_mm:.3g} mm; separate them"
        )
    return common, [f"orientations differ from slice to slice by {text}; one is taken for all"]


def _vector(image: Slice, name: str, length: int) -> Vector:
    try:
        vector = np.array([float(v) for v in image.tags[name]], np.float64)
    except (TypeError, ValueError):
        vector = np.empty(0)
    if vector.shape != (length,) or not (np.abs(vector) < _FARTHEST_MM).all():
        raise GeometryError(f"{image.name} has no {name} of {length} numbers: the slice cannot be placed")
    return vector


def _require_alike(slices: list[Slice], what: str, values: list[Vector]) -> None:
    other = [k for k, value in enumerate(values) if np.abs(value - values[0]).max() > _ROUNDING]
    if other:
        raise GeometryError(
            f"{len(other)} of {len(slices)} slices have another {what} than {slices[0].name}: "
            f"{values[other[0]].tolist()} in {_some([slices[k].name for k in other])}, {values[0].tolist()} there; "
            "separate them"
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _single_slice_mm(image: Slice) -> float:
    for name in ("SpacingBetweenSlices", "SliceThickness"):
        value = image.tags[name]
        if isinstance(value, float | int) and np.isfinite(float(value)) and value > 0:
            return float(value)
    raise GeometryError(f"{image.name} is the only slice and states no SliceThickness: its depth is unknown")


def _refuse_duplicates(slices: list[Slice], heights: Vector) -> None:
    for k in np.flatnonzero(np.diff(heights) < _SAME_POSITION_MM).tolist():
        raise GeometryError(
            f"two slices lie at the same position, {heights[k]:.2f} mm: {slices[k].name} and {slices[k + 1].name}; "
            "their headers do not tell which belongs to which volume (acquisition, echo, time, b-value); separate them"
        )


def _even_places(heights: Vector, options: DicomReadOptions) -> Vector | None:
    """Return None for an even stack, else where its evenly spaced slices lie among the given, if that is allowed."""
    gaps = np.diff(heights)
    step = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    uneven = np.flatnonzero(np.abs(gaps - step) > _UNEVEN * step)
    if len(uneven) == 0:
        return None
    listed = [
        f"{gaps[k]:.4g} mm from {heights[k]:.2f} to {heights[k + 1]:.2f} mm (slices {k + 1} and {k + 2})"
        for k in uneven
    ]
    missing = int(np.maximum(np.round(gaps[uneven] / step) - 1, 0).sum())
    text = f"the slices are {step:.4g} mm apart but {_some(listed)} along their normal"
    if missing >= len(heights):
        raise GeometryError(f"{text}; slices that seem to be missing: {missing}, too many to fill")
    if not options.allow_gaps:
        raise GeometryError(
            f"{text}; slices that seem to be missing: {missing}; expected an even stack, or --allow-gaps to fill it"
        )
    count = round((heights[-1] - heights[0]) / step) + 1
    places = np.interp(np.linspace(heights[0], heights[-1], count), heights, np.arange(len(heights)))
    near = np.rint(places)
    return np.where(np.abs(places - near) <= _UNEVEN, near, places)


def _gap_note(heights: Vector, places: Vector) -> str:
    between = places != np.rint(places)
    at = [f"{height:.2f}" for height in np.interp(places[between], np.arange(len(heights)), heights)]
    return f"gaps filled: {len(at)} of {len(places)} slices are interpolated, at {_some(at)} mm along the normal"


def _sideways(
    slices: list[Slice], positions: Vector, heights: Vector, normal: Vector, options: DicomReadOptions
) -> Vector | None:
    """Return None for a straight stack, else how far each slice of a tilted one lies sideways, LPS mm `[N, 3]`."""
    rise = heights - heights[0]
    sideways = positions - positions[0] - rise[:, None] * normal
    slope = sideways[-1] / rise[-1]
    off = np.linalg.norm(sideways - rise[:, None] * slope, axis=1)
    angle = float(np.degrees(np.arctan(np.linalg.norm(slope))))
    tilted = np.linalg.norm(slope) > _TILT
    if tilted and (not options.untilt or angle > _STEEPEST_TILT):
        raise GeometryError(
            f"the stack is tilted by {angle:.2f} degrees: from {heights[0]:.2f} to {heights[-1]:.2f} mm along the "
            f"slice normal it moves {np.linalg.norm(sideways[-1]):.4g} mm sideways (gantry tilt); "
            + ("that is no gantry tilt" if angle > _STEEPEST_TILT else "--untilt resamples it to straight slices")
        )
    if off.max() > _OFF_LINE * np.median(np.diff(heights)):
        worst = int(off.argmax())
        raise GeometryError(
            f"{slices[worst].name} at {heights[worst]:.2f} mm lies {off[worst]:.3g} mm off the line of the slices"
        )
    return sideways if tilted else None


def _shifted(array: npt.NDArray[Any], shifts: Vector, shape: tuple[int, int, int], fill: Any) -> npt.NDArray[Any]:
    """Move each slice within its plane by a fraction of a pixel, on a larger plane that holds them all."""
    from scipy import ndimage  # not needed for scans without a tilt, which are read the sooner

    columns, rows, _ = array.shape
    moved = np.full((shape[0], shape[1], array.shape[2]), fill, array.dtype)
    for k, (down, right) in enumerate(shifts):
        padded = np.full(shape[:2], fill, np.float32)
        padded[:columns, :rows] = array[:, :, k]
        plane = ndimage.shift(padded, (right, down), order=1, mode="grid-constant", cval=float(fill))
        moved[:, :, k] = plane if array.dtype.kind == "f" else np.rint(plane)
    return moved


def _interpolated(array: npt.NDArray[Any], places: Vector) -> npt.NDArray[Any]:
    """Take slices at fractional places; those at whole places are taken as they are."""
    lower = np.floor(places).astype(int)
    upper = np.minimum(lower + 1, array.shape[2] - 1)
    even = np.empty((*array.shape[:2], len(places)), array.dtype, order="F")
    for n, (k, above, place) in enumerate(zip(lower, upper, places, strict=True)):
        weight = place - k
        plane = array[:, :, k] if weight == 0 else (1 - weight) * array[:, :, k] + weight * array[:, :, above]
        even[:, :, n] = plane if array.dtype.kind == "f" or weight == 0 else np.rint(plane)
    return even
