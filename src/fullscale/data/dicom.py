"""Plain single-frame DICOM series, one folder of slices each.

Slices are placed by ImagePositionPatient projected on the slice normal, never by file name or instance number.
Geometry follows the DICOM standard, PS3.3 C.7.6.2.1.1: the first three numbers of ImageOrientationPatient are the
direction in which the column index grows, and PixelSpacing gives the distance between rows first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from fullscale.data.dicom_files import has_dicom_mark, quietly
from fullscale.data.dicom_pixels import read_plane
from fullscale.errors import DataError, GeometryError
from fullscale.geometry.volume import Affine, Volume

Vector = npt.NDArray[np.float64]

_UNEVEN = 1e-2
"""Largest deviation of a slice from its even place, as a share of the slice distance."""
_TILT = 1e-3
"""Largest tangent of the angle between the slice normal and the line of slice positions (0.06 degrees)."""
_OFF_LINE = 5e-2
"""Largest distance of a slice from its place on the even, straight line, as a share of the slice distance."""
_SAME_POSITION_MM = 1e-3
_IMAGE_SUFFIXES = (".dcm", ".dicom", ".ima")
_HEADER_TAGS = [
    *("SeriesInstanceUID", "Modality", "SeriesDescription", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SpacingBetweenSlices", "SliceThickness"),
]


@dataclass(frozen=True)
class SeriesInfo:
    """One series of a folder.

    Attributes:
        uid: SeriesInstanceUID, empty where the files leave it blank.
        modality: such as "CT" or "MR".
        description: SeriesDescription.
        slices: how many image files belong to it.
        spacing_mm: between columns, rows and slices; None where the slices make no even stack.
        problem: why the series cannot be read as a volume, or None.
    """

    uid: str
    modality: str
    description: str
    slices: int
    spacing_mm: tuple[float, float, float] | None
    problem: str | None


@dataclass(frozen=True)
class DicomHeader:
    """What a volume read from DICOM remembers.

    Attributes:
        files: the file of each slice, in the order of the volume's third axis.
        series_uid: SeriesInstanceUID, empty where blank.
        modality: such as "CT".
    """

    files: tuple[Path, ...]
    series_uid: str
    modality: str


@dataclass(frozen=True)
class _Slice:
    path: Path
    series_uid: str
    modality: str
    description: str
    size: tuple[int, int]
    tags: dict[str, Any]


@dataclass(frozen=True)
class _Stack:
    """Slices in order along their normal, with the affine (RAS+ mm) of `[column, row, slice]`."""

    slices: list[_Slice]
    affine: Affine

    @property
    def header(self) -> DicomHeader:
        first = self.slices[0]
        return DicomHeader(tuple(s.path for s in self.slices), first.series_uid, first.modality)

    @property
    def shape(self) -> tuple[int, int, int]:
        rows, columns = self.slices[0].size
        return columns, rows, len(self.slices)


def is_dicom_folder(path: str | Path) -> bool:
    """Tell whether a folder holds at least one file with the DICOM mark."""
    path = Path(path)
    return path.is_dir() and any(has_dicom_mark(file) for file in _files(path))


def series_info(folder: str | Path) -> list[SeriesInfo]:
    """List the series of a folder, the longest first.

    Raises:
        DataError: the folder is missing or holds no DICOM image.
    """
    with _one_line_errors(Path(folder)):
        return [_describe(slices) for slices in _find_series(Path(folder)).values()]


def read_series(folder: str | Path, series_uid: str | None = None) -> Volume:
    """Read one series of single-frame slices.

    Args:
        folder: holds the slices, one file each; other files are passed over.
        series_uid: which SeriesInstanceUID; needed only where the folder holds several.

    Returns:
        Voxels `[column, row, slice]`, slices in order along their normal, rescale slope and intercept applied slice
        by slice (HU for CT): the smallest fitting integers where all are whole numbers, else float32. The header
        is a `DicomHeader`.

    Raises:
        DataError: no DICOM image, several series and none chosen, multi-frame or colour files, unreadable pixels.
        GeometryError: missing or duplicate slices, mixed sizes or orientations, tilt, or no position at all.
    """
    with _one_line_errors(Path(folder)):
        stack = _stack(_choose_series(Path(folder), series_uid))
        array = _stack_pixels(stack)
    return Volume(array, stack.affine, stack.header)


def read_series_grid(folder: str | Path, series_uid: str | None = None) -> Volume:
    """Read where the voxels of a series lie, not the voxels: the array is all zero and takes no memory.

    Raises:
        DataError, GeometryError: as `read_series`, apart from what concerns the pixels.
    """
    with _one_line_errors(Path(folder)):
        stack = _stack(_choose_series(Path(folder), series_uid))
    return Volume(np.broadcast_to(np.zeros((), np.uint8), stack.shape), stack.affine, stack.header)


@contextmanager
def _one_line_errors(folder: Path) -> Iterator[None]:
    """Put the folder before an error's text."""
    try:
        yield
    except DataError as error:
        raise type(error)(f"{folder}: {error}") from error


def _files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if not f.name.startswith(".") and f.is_file())


def _find_series(folder: Path) -> dict[str, list[_Slice]]:
    """Read the headers of all images in a folder, by series, the longest series first."""
    if not folder.is_dir():
        raise DataError("no such folder")
    series: dict[str, list[_Slice]] = {}
    for path in _files(folder):
        image = _read_header(path)
        if image is not None:
            series.setdefault(image.series_uid, []).append(image)
    if not series:
        raise DataError("holds no DICOM image; give the folder in which the slices lie")
    return dict(sorted(series.items(), key=lambda item: -len(item[1])))


def _read_header(path: Path) -> _Slice | None:
    """Read one file's header, or return None where it is not DICOM or not an image.

    A slice that was cut short must not vanish from its stack, so a file that calls itself an image has to be one.
    """
    if has_dicom_mark(path):
        return quietly(path, _parse_header, path)
    if path.suffix.lower() in _IMAGE_SUFFIXES:
        raise DataError(f"{path.name} is named like a slice but lacks the DICOM mark; is it cut short?")
    return None


def _parse_header(path: Path) -> _Slice | None:
    dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_HEADER_TAGS)
    tags = {name: dataset.get(name) for name in _HEADER_TAGS}
    size = int(tags["Rows"] or 0), int(tags["Columns"] or 0)
    if 0 in size:
        kind = dataset.file_meta.get("MediaStorageSOPClassUID")
        if "Image Storage" in getattr(kind, "name", ""):
            raise DataError("calls itself an image but states no size; is it cut short?")
        return None
    tags |= {name: int(tags[name] or 1) for name in ("NumberOfFrames", "SamplesPerPixel")}
    uid, modality, description = (str(tags[name] or "") for name in _HEADER_TAGS[:3])
    return _Slice(path, uid, modality, description, size, tags)


def _choose_series(folder: Path, series_uid: str | None) -> list[_Slice]:
    series = _find_series(folder)
    if series_uid is None and len(series) == 1:
        return next(iter(series.values()))
    if series_uid in series:
        return series[series_uid]
    listed = "; ".join(f"{_label(slices)}, UID '{uid}'" for uid, slices in series.items())
    found = f"holds {len(series)} series" if series_uid is None else f"holds no series '{series_uid}'"
    raise DataError(f"{found}; choose one by its UID: {listed}")


def _label(slices: list[_Slice]) -> str:
    return f"{slices[0].modality or 'no modality'} '{slices[0].description}' ({len(slices)} slices)"


def _describe(slices: list[_Slice]) -> SeriesInfo:
    first, spacing_mm, problem = slices[0], None, None
    try:
        x, y, z = np.linalg.norm(_stack(slices).affine[:3, :3], axis=0)
        spacing_mm = (float(x), float(y), float(z))
    except DataError as error:
        problem = str(error)
    return SeriesInfo(first.series_uid, first.modality, first.description, len(slices), spacing_mm, problem)


def _stack(slices: list[_Slice]) -> _Stack:
    """Order slices along their normal and find the affine of the stack, or refuse it."""
    _require_plain(slices)
    row_step, column_step, normal = _plane(slices)
    positions = np.array([_vector(s, "ImagePositionPatient", 3) for s in slices])
    order = np.argsort(positions @ normal, kind="stable")
    ordered, positions = [slices[i] for i in order], positions[order]
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1] = column_step, row_step
    lps[:3, 2] = _slice_step(ordered, positions, normal)
    lps[:3, 3] = positions[0]
    return _Stack(ordered, np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps)


def _require_plain(slices: list[_Slice]) -> None:
    for s in slices:
        frames, samples = s.tags["NumberOfFrames"], s.tags["SamplesPerPixel"]
        if frames > 1:
            raise DataError(f"{s.path.name} holds {frames} frames, expected one slice a file (no multi-frame)")
        if samples > 1:
            raise DataError(f"{s.path.name} is a colour image ({samples} samples a pixel), expected grey values")


def _plane(slices: list[_Slice]) -> tuple[Vector, Vector, Vector]:
    """Return the steps from row to row and from column to column, and the unit normal, LPS mm, of all slices."""
    _require_alike(slices, "size (rows, columns)", [np.array(s.size, np.float64) for s in slices])
    orientation = [_vector(s, "ImageOrientationPatient", 6) for s in slices]
    _require_alike(slices, "orientation", orientation)
    spacing = [_vector(s, "PixelSpacing", 2) for s in slices]
    _require_alike(slices, "pixel spacing", spacing)
    along_row, along_column = orientation[0][:3], orientation[0][3:]
    skew = np.abs([along_row @ along_row - 1, along_column @ along_column - 1, along_row @ along_column]).max()
    if skew > 1e-3 or spacing[0].min() <= 0:
        raise GeometryError(
            f"{slices[0].path.name} has orientation {orientation[0].tolist()} and pixel spacing "
            f"{spacing[0].tolist()} mm, expected two unit vectors at right angles and positive distances"
        )
    along_row, along_column = along_row / np.linalg.norm(along_row), along_column / np.linalg.norm(along_column)
    return along_column * spacing[0][0], along_row * spacing[0][1], np.cross(along_row, along_column)


def _vector(image: _Slice, name: str, length: int) -> Vector:
    try:
        vector = np.array([float(v) for v in image.tags[name]], np.float64)
    except (TypeError, ValueError):
        vector = np.empty(0)
    if vector.shape != (length,) or not np.isfinite(vector).all():
        raise GeometryError(f"{image.path.name} has no {name} of {length} numbers: the slice cannot be placed")
    return vector


def _require_alike(slices: list[_Slice], what: str, values: list[Vector]) -> None:
    other = [k for k, value in enumerate(values) if np.abs(value - values[0]).max() > 1e-4]
    if other:
        k = other[0]
        raise GeometryError(
            f"{len(other)} of {len(slices)} slices have another {what} than {slices[0].path.name}: "
            f"{values[k].tolist()} in {slices[k].path.name}, {values[0].tolist()} there; separate them"
        )


def _slice_step(slices: list[_Slice], positions: Vector, normal: Vector) -> Vector:
    """Return the step from slice to slice, LPS mm, of ordered slices `[N]` at `positions` `[N, 3]`."""
    if len(slices) == 1:
        return normal * _single_slice_mm(slices[0])
    heights = positions @ normal
    gaps = np.diff(heights)
    for k in np.flatnonzero(gaps < _SAME_POSITION_MM).tolist():
        names = f"{slices[k].path.name} and {slices[k + 1].path.name}"
        raise GeometryError(f"two slices lie at the same position, {heights[k]:.2f} mm: {names}; remove one")
    _refuse_gaps(heights, gaps)
    _refuse_tilt(positions, heights, normal)
    step: Vector = (positions[-1] - positions[0]) / (len(slices) - 1)
    off = np.linalg.norm(positions - positions[0] - np.arange(len(slices))[:, None] * step, axis=1)
    if off.max() > _OFF_LINE * np.median(gaps):
        worst = int(off.argmax())
        raise GeometryError(
            f"{slices[worst].path.name} at {heights[worst]:.2f} mm lies {off[worst]:.3g} mm off the line of the slices"
        )
    return step


def _single_slice_mm(image: _Slice) -> float:
    for name in ("SpacingBetweenSlices", "SliceThickness"):
        value = image.tags[name]
        if isinstance(value, float | int) and np.isfinite(float(value)) and value > 0:
            return float(value)
    raise GeometryError(f"{image.path.name} is the only slice and states no SliceThickness: its depth is unknown")


def _refuse_gaps(heights: Vector, gaps: Vector) -> None:
    step = float(np.median(gaps))
    uneven = np.flatnonzero(np.abs(gaps - step) > _UNEVEN * step)
    if len(uneven) == 0:
        return
    places = ", ".join(f"{gaps[k]:.4g} mm from {heights[k]:.2f} to {heights[k + 1]:.2f} mm" for k in uneven[:3])
    more = f" and {len(uneven) - 3} more" if len(uneven) > 3 else ""
    missing = int(np.maximum(np.round(gaps[uneven] / step) - 1, 0).sum())
    raise GeometryError(
        f"the slices are {step:.4g} mm apart but {places}{more} along their normal; "
        f"slices that seem to be missing: {missing}; expected an even stack"
    )


def _refuse_tilt(positions: Vector, heights: Vector, normal: Vector) -> None:
    height = heights[-1] - heights[0]
    sideways = np.linalg.norm(positions[-1] - positions[0] - height * normal)
    if sideways > _TILT * height:
        raise GeometryError(
            f"the stack is tilted by {np.degrees(np.arctan2(sideways, height)):.2f} degrees: from {heights[0]:.2f} "
            f"to {heights[-1]:.2f} mm along the slice normal it moves {sideways:.4g} mm sideways (gantry tilt); "
            "resample it to straight slices first"
        )


def _stack_pixels(stack: _Stack) -> npt.NDArray[Any]:
    planes = [quietly(s.path, read_plane, s.path, s.size, s.modality) for s in stack.slices]
    return np.stack(planes).transpose(2, 1, 0)
