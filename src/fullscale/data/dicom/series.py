"""DICOM studies: the series in a folder, in folders within it or in a zip, and one of them as a volume."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fullscale.data.dicom.headers import Slice, has_dicom_mark, read_slices, study_files
from fullscale.data.dicom.pixels import read_planes
from fullscale.data.dicom.stack import DicomReadOptions, Stack, stack_slices
from fullscale.data.dicom.store import is_zip
from fullscale.errors import DataError
from fullscale.geometry.orientation import axis_codes
from fullscale.geometry.volume import Volume

_NO_SCAN = ("SEG", "RTSTRUCT", "RTDOSE", "SR", "PR", "KO", "OT")


@dataclass(frozen=True)
class SeriesInfo:
    """One series of a study.

    Attributes:
        uid: SeriesInstanceUID, empty where the files leave it blank.
        modality: such as "CT" or "MR".
        description: SeriesDescription.
        slices: how many image files or frames belong to it.
        spacing_mm: between columns, rows and slices; None where the slices make no even stack.
        orientation: where columns, rows and slices run, such as "LPS"; None likewise.
        problem: why the series cannot be read as a volume, or None.
    """

    uid: str
    modality: str
    description: str
    slices: int
    spacing_mm: tuple[float, float, float] | None
    orientation: str | None
    problem: str | None


@dataclass(frozen=True)
class DicomHeader:
    """What a volume read from DICOM remembers.

    Attributes:
        files: the file of each slice, in the order of the volume's third axis (before any gap is filled).
        series_uid: SeriesInstanceUID, empty where blank.
        modality: such as "CT".
        notes: what was chosen or done to the voxels, a line each.
    """

    files: tuple[Path, ...]
    series_uid: str
    modality: str
    notes: tuple[str, ...] = ()


def is_dicom_folder(path: str | Path) -> bool:
    """Tell whether a folder itself, not one within it, holds at least one file with the DICOM mark."""
    path = Path(path)
    if not path.is_dir():
        return False
    files = sorted(f for f in path.iterdir() if not f.name.startswith(".") and f.is_file())
    return any(has_dicom_mark(file) for file in files)


def is_study(path: str | Path) -> bool:
    """Tell whether a path is a zip, a DICOM file, or a folder that holds DICOM files at any depth."""
    path = Path(path)
    return is_zip(path) or (path.exists() and any(has_dicom_mark(file) for file in study_files(path)))


def study_uid(folder: Path) -> str:
    """Return the StudyInstanceUID of the first DICOM image in a folder, empty where it is blank."""
    for file in study_files(folder):
        slices = read_slices(file)
        if slices:
            return slices[0].study_uid
    return ""


def series_info(study: str | Path) -> list[SeriesInfo]:
    """List the series of a study, the longest first.

    Args:
        study: a folder, with whatever folders in it, a zip, or one file.

    Raises:
        DataError: the study is missing, damaged, or holds no DICOM image.
    """
    with _one_line_errors(Path(study)):
        return [_describe(slices) for slices in _find_series(Path(study)).values()]


def read_series(study: str | Path, options: DicomReadOptions | None = None) -> Volume:
    """Read one series of a study.

    Args:
        study: a folder, with whatever folders in it, a zip, or one file. What is no DICOM image is passed over.
        options: which series, and which remedies for slices that make no even, straight stack.

    Returns:
        Voxels `[column, row, slice]`, slices in order along their normal, rescale slope and intercept applied slice
        by slice (HU for CT): the smallest fitting integers where all are whole numbers, else float32. The header
        is a `DicomHeader`.

    Raises:
        DataError: no DICOM image, several series and none chosen, colour images, unreadable pixels.
        GeometryError: missing or duplicate slices, mixed sizes or orientations, tilt, or no position at all.
    """
    with _one_line_errors(Path(study)):
        stack, header = _open_series(Path(study), options or DicomReadOptions())
        array = stack.resample(read_planes(stack.slices))
    return Volume(array, stack.affine, header)


def read_series_grid(study: str | Path, options: DicomReadOptions | None = None) -> Volume:
    """Read where the voxels of a series lie, not the voxels: the array is all zero and takes no memory.

    Raises:
        DataError, GeometryError: as `read_series`, apart from what concerns the pixels.
    """
    with _one_line_errors(Path(study)):
        stack, header = _open_series(Path(study), options or DicomReadOptions())
    return Volume(np.broadcast_to(np.zeros((), np.uint8), stack.shape), stack.affine, header)


@contextmanager
def _one_line_errors(study: Path) -> Iterator[None]:
    """Put the study before an error's text."""
    try:
        yield
    except DataError as error:
        raise type(error)(f"{study}: {error}") from error
    except OSError as error:
        raise DataError(f"{error.filename or study}: {error.strerror or error}") from error


def _open_series(study: Path, options: DicomReadOptions) -> tuple[Stack, DicomHeader]:
    slices, note = _choose_series(_find_series(study), options.series)
    stack = stack_slices(slices, options)
    first, notes = stack.slices[0], (*([note] if note else []), *stack.notes)
    return stack, DicomHeader(tuple(s.path for s in stack.slices), first.series_uid, first.modality, notes)


def _find_series(study: Path) -> dict[str, list[Slice]]:
    """Read the headers of all images of a study, by series, the longest series first."""
    series: dict[str, list[Slice]] = {}
    for path in study_files(study):
        for image in read_slices(path):
            series.setdefault(image.series_uid, []).append(image)
    if not series:
        raise DataError("holds no DICOM image; give the folder in which the slices lie")
    return dict(sorted(series.items(), key=lambda item: -len(item[1])))


def _choose_series(series: dict[str, list[Slice]], wanted: str | None) -> tuple[list[Slice], str | None]:
    """Take the series that is wanted, or the only one that could be a scan; the second says what was passed over."""
    if wanted is not None:
        named = [s for uid, s in series.items() if wanted in (uid, s[0].description)]
        found = f"holds {len(named) or 'no'} series {wanted!r}"
    else:
        named = [s for s in series.values() if _may_be_scan(s)] if len(series) > 1 else list(series.values())
        found = f"holds {len(series)} series, of which {len(named)} may be scans"
    if len(named) != 1:
        listed = "; ".join(f"{_label(slices)}, UID '{uid}'" for uid, slices in series.items())
        raise DataError(f"{found}; choose one by its UID (--series): {listed}")
    passed = [_label(s) for s in series.values() if s is not named[0]]
    note = f"read {_label(named[0])}, passed over {', '.join(passed)}" if passed and wanted is None else None
    return named[0], note


def _may_be_scan(slices: list[Slice]) -> bool:
    """Tell a stack of slices from localisers, screen captures, segmentations and single pictures."""
    first = slices[0]
    return len(slices) > 1 and not (first.is_localiser or first.is_capture or first.modality in _NO_SCAN)


def _label(slices: list[Slice]) -> str:
    return f"{slices[0].modality or 'no modality'} '{slices[0].description}' ({len(slices)} slices)"


def _describe(slices: list[Slice]) -> SeriesInfo:
    first, spacing_mm, orientation, problem = slices[0], None, None, None
    try:
        affine = stack_slices(slices, DicomReadOptions()).affine
        x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
        spacing_mm, orientation = (float(x), float(y), float(z)), axis_codes(affine)
    except DataError as error:
        problem = str(error)
    return SeriesInfo(
        first.series_uid, first.modality, first.description, len(slices), spacing_mm, orientation, problem
    )
