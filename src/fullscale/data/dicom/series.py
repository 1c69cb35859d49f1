"""DICOM studies: the series in a folder, in folders within it or in a zip, and one of them as a volume."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fullscale.data.dicom.headers import PassedOver, Slice, begins_as_dicom, read_slices
from fullscale.data.dicom.phases import drop_copies, split_phases
from fullscale.data.dicom.pixels import read_planes
from fullscale.data.dicom.stack import DicomReadOptions, Stack, stack_slices
from fullscale.data.dicom.store import is_hidden, is_zip, study_files, visible_files
from fullscale.errors import DataError
from fullscale.geometry.orientation import axis_codes
from fullscale.geometry.volume import Volume
from fullscale.text import counted

Study = str | Path | Sequence[Path]
"""A folder, with whatever folders in it, a zip, one file, or the files themselves."""

_NO_SCAN = ("SEG", "RTSTRUCT", "RTDOSE", "SR", "PR", "KO", "OT")
_FILES_NAMED = 3


@dataclass(frozen=True)
class SeriesInfo:
    """One series of a study, or one phase of a series that holds several.

    Attributes:
        uid: SeriesInstanceUID, empty where the files leave it blank.
        study_uid: StudyInstanceUID, likewise.
        phase: what tells it from the other phases of the series, such as "EchoTime 2.3"; empty where it is the only.
        modality: such as "CT" or "MR".
        description: SeriesDescription.
        kind: what it shows in place of slices, such as "a localiser"; empty for a scan.
        slices: how many image files or frames belong to it.
        spacing_mm: between columns, rows and slices; None where the slices make no even stack.
        orientation: where columns, rows and slices run, such as "LPS"; None likewise.
        problem: why the series cannot be read as a volume, or None.
    """

    uid: str
    study_uid: str
    phase: str
    modality: str
    description: str
    kind: str
    slices: int
    spacing_mm: tuple[float, float, float] | None
    orientation: str | None
    problem: str | None


def unreadable_series(problem: str) -> SeriesInfo:
    """Stand for files that cannot be told apart into series."""
    return SeriesInfo("", "", "", "", "", "", 0, None, None, problem)


@dataclass(frozen=True)
class SeriesListing:
    """Everything that a study holds.

    Attributes:
        series: the series and phases, the longest series first.
        passed_over: the files that belong to none, each with the reason.
    """

    series: list[SeriesInfo]
    passed_over: list[PassedOver]


@dataclass(frozen=True)
class DicomHeader:
    """What a volume read from DICOM remembers.

    Attributes:
        files: the file of each slice, in the order of the volume's third axis (before any gap is filled).
        series_uid: SeriesInstanceUID, empty where blank.
        modality: such as "CT".
    """

    files: tuple[Path, ...]
    series_uid: str
    modality: str


@dataclass(frozen=True)
class _Group:
    """The slices of one series, or of one phase of it."""

    phase: str
    slices: list[Slice]

    @property
    def may_be_scan(self) -> bool:
        """Whether it is a stack of slices: no localiser, screen capture, projection, segmentation or single picture."""
        return len(self.slices) > 1 and not any(s.kind for s in self.slices) and self.first.modality not in _NO_SCAN

    @property
    def first(self) -> Slice:
        return self.slices[0]

    @property
    def label(self) -> str:
        phase = f", {self.phase}" if self.phase else ""
        return f"{self.first.modality or 'no modality'} '{self.first.description}'{phase} ({len(self.slices)} slices)"


def is_study(path: str | Path) -> bool:
    """Tell whether a path is a zip, a DICOM file, or a folder that holds DICOM files at any depth."""
    path = Path(path)
    return is_zip(path) or (path.exists() and any(_is_dicom(file) for file in visible_files(path)))


def _is_dicom(file: Path) -> bool:
    """Tell whether a file is DICOM; one that cannot be read is none here, and reading it says why."""
    try:
        return begins_as_dicom(file)
    except DataError:
        return False


def list_series(study: Study) -> SeriesListing:
    """List the series of a study and every file that belongs to none.

    Args:
        study: a folder, with whatever folders in it, a zip, one file, or files.

    Raises:
        DataError: the study is missing, damaged, or holds no DICOM image.
    """
    with _one_line_errors(study):
        groups, passed_over = _find_series(study)
        return SeriesListing([_describe(group) for group in groups], passed_over)


def no_scan(study: Study) -> str | None:
    """Say what a study holds in place of a scan, such as a localiser; None where a series of it may be one.

    Raises:
        DataError: the study is missing or damaged.
    """
    with _one_line_errors(study):
        groups, _ = _find_series(study)
    if any(group.may_be_scan for group in groups):
        return None
    return "; ".join(f"{group.label}{f', {group.first.kind}' if group.first.kind else ''}" for group in groups)


def read_series(study: Study, options: DicomReadOptions | None = None) -> Volume:
    """Read one series of a study.

    Args:
        study: a folder, with whatever folders in it, a zip, one file, or files. What is no DICOM image is passed over,
            and the volume's notes say so.
        options: which series, and which remedies for slices that make no even, straight stack.

    Returns:
        Voxels `[column, row, slice]`, slices in order along their normal, rescale slope and intercept applied slice
        by slice (HU for CT): the smallest fitting integers where all are whole numbers, else float32. The header
        is a `DicomHeader`.

    Raises:
        DataError: no DICOM image, several series or phases and none chosen, colour images, unreadable pixels.
        GeometryError: missing or duplicate slices, mixed sizes or orientations, tilt, or no position at all.
    """
    with _one_line_errors(study):
        stack, header, notes = _open_series(study, options or DicomReadOptions())
        array = stack.resample(read_planes(stack.slices))
    return Volume(array, stack.affine, header, notes)


def read_series_grid(study: Study, options: DicomReadOptions | None = None) -> Volume:
    """Read where the voxels of a series lie, not the voxels: the array is all zero and takes no memory.

    Raises:
        DataError, GeometryError: as `read_series`, apart from what concerns the pixels.
    """
    with _one_line_errors(study):
        stack, header, notes = _open_series(study, options or DicomReadOptions())
    return Volume(np.broadcast_to(np.zeros((), np.uint8), stack.shape), stack.affine, header, notes)


@contextmanager
def _one_line_errors(study: Study) -> Iterator[None]:
    """Put the study, or the folder of its files, before an error's text."""
    if isinstance(study, Sequence) and not isinstance(study, str):
        study = study[0] if len(study) == 1 else os.path.commonpath([file.parent for file in study])
    try:
        yield
    except DataError as error:
        raise type(error)(f"{study}: {error}") from error
    except OSError as error:
        raise DataError(f"{error.filename or study}: {error.strerror or error}") from error


def _open_series(study: Study, options: DicomReadOptions) -> tuple[Stack, DicomHeader, tuple[str, ...]]:
    groups, passed_over = _find_series(study)
    group, notes = _choose(groups, options)
    stack = stack_slices(group.slices, options)
    first = stack.slices[0]
    header = DicomHeader(tuple(s.path for s in stack.slices), first.series_uid, first.modality)
    return stack, header, (*notes, *_passed_over_note(passed_over), *stack.notes)


def _find_series(study: Study) -> tuple[list[_Group], list[PassedOver]]:
    """Read the headers of all files of a study, by series and phase, the longest series first."""
    series: dict[tuple[str, str], list[Slice]] = {}
    passed_over: list[PassedOver] = []
    for found in _headers(study):
        if isinstance(found, PassedOver):
            passed_over.append(found)
            continue
        for image in found:
            series.setdefault((image.study_uid, image.series_uid), []).append(image)
    if not series:
        raise DataError("holds no DICOM image; give the folder in which the slices lie")
    groups: list[_Group] = []
    for slices in sorted(series.values(), key=len, reverse=True):
        kept, copies = drop_copies(slices)
        passed_over += copies
        groups += [_Group(phase, its_slices) for phase, its_slices in split_phases(kept)]
    return groups, passed_over


def _headers(study: Study) -> Iterator[list[Slice] | PassedOver]:
    if isinstance(study, Sequence) and not isinstance(study, str):
        yield from (read_slices(file) for file in study)
    else:
        folder = Path(study)
        yield from (_slices_of(folder, file) for file in study_files(folder))


def _slices_of(study: Path, path: Path) -> list[Slice] | PassedOver:
    if is_hidden(study, path):
        return PassedOver(path, "hidden")
    if not is_zip(study) and not path.is_file():
        return PassedOver(path, "no file, or a link that leads nowhere")
    return read_slices(path)


def _choose(groups: list[_Group], options: DicomReadOptions) -> tuple[_Group, list[str]]:
    """Take the series and phase that are wanted, or the only one that could be a scan, and say what was passed over."""
    uids = list(dict.fromkeys((g.first.study_uid, g.first.series_uid) for g in groups))
    found = f"holds {len(uids)} series"
    if options.series is not None:
        named = [g for g in groups if options.series in (g.first.series_uid, g.first.description)]
        chosen = {(g.first.study_uid, g.first.series_uid) for g in named}
        found = f"holds {len(chosen) or 'no'} series {options.series!r}"
    else:
        named = [g for g in groups if g.may_be_scan] if len(groups) > 1 else groups
        chosen = {(g.first.study_uid, g.first.series_uid) for g in named}
        found += f", of which {len(chosen)} may be scans" if len(uids) > 1 else ""
    if len(chosen) != 1:
        studies = len({study for study, _ in uids})
        listed = "; ".join(f"{g.label}, UID '{g.first.series_uid}'" for g in groups)
        of = f" of {studies} studies" if studies > 1 else ""
        raise DataError(f"{found}{of}; choose one by its UID (--series): {listed}")
    group = _choose_phase(named, options.phase)
    passed = [g.label for g in groups if g not in named]
    note = f"read {group.label}, passed over {', '.join(passed)}" if passed and options.series is None else None
    return group, [note] if note else []


def _choose_phase(phases: list[_Group], wanted: str | None) -> _Group:
    """Take the phase that is wanted, by its number or its name, or the only one."""
    if wanted is None and len(phases) == 1:
        return phases[0]
    listed = "; ".join(f"{n} ({g.phase or 'all'}, {len(g.slices)} slices)" for n, g in enumerate(phases, 1))
    text = (wanted or "").replace("=", " ").strip()
    named = [g for n, g in enumerate(phases, 1) if text in (str(n), g.phase) and text]
    if len(named) != 1:
        problem = "holds no phase " + repr(wanted) if wanted is not None else f"holds {len(phases)} phases"
        raise DataError(f"{phases[0].label.split(',')[0]} {problem}; choose one by its number (--phase): {listed}")
    return named[0]


def _passed_over_note(passed_over: Sequence[PassedOver]) -> list[str]:
    """Count the files that were not read, by reason, and name some."""
    by_reason: dict[str, list[str]] = {}
    for file in passed_over:
        reason = "byte copies" if file.reason.startswith("a byte copy") else file.reason
        by_reason.setdefault(reason, []).append(file.path.name)
    parts = [f"{reason}: {_some(names)}" for reason, names in by_reason.items()]
    return [f"{counted(len(passed_over), 'file')} passed over ({'; '.join(parts)})"] if parts else []


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _FILES_NAMED} more" if len(names) > _FILES_NAMED else ""
    return ", ".join(names[:_FILES_NAMED]) + more


def _describe(group: _Group) -> SeriesInfo:
    first, spacing_mm, orientation, problem = group.first, None, None, None
    try:
        affine = stack_slices(group.slices, DicomReadOptions()).affine
        x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
        spacing_mm, orientation = (float(x), float(y), float(z)), axis_codes(affine)
    except DataError as error:
        problem = str(error)
    return SeriesInfo(
        uid=first.series_uid,
        study_uid=first.study_uid,
        phase=group.phase,
        modality=first.modality,
        description=first.description,
        kind=first.kind,
        slices=len(group.slices),
        spacing_mm=spacing_mm,
        orientation=orientation,
        problem=problem,
    )
