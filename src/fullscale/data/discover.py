"""What a path holds: a data set, or scans to segment, and everything that is neither.

One answer for every command that is given a path. A file is known by its content: DICOM with or without its mark, a
volume by the suffix that says how to read it. Slices are grouped by the study they name, wherever they lie.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fullscale.data.case import Case, Dataset
from fullscale.data.dicom.headers import NOT_DICOM, PassedOver, is_dicom_file, read_slices
from fullscale.data.dicom.store import is_hidden, is_zip, study_files, zip_files
from fullscale.data.faults import unknown_structures
from fullscale.data.identity import content_files
from fullscale.data.image_files import is_picture
from fullscale.data.label_choice import LabelChoice
from fullscale.data.labels import LabelScheme
from fullscale.data.layouts.find import find_dataset, recognise
from fullscale.data.layouts.folders import without_previews
from fullscale.data.read import label_name, stem_of
from fullscale.data.volume_files import volume_suffix
from fullscale.errors import DataError
from fullscale.progress import Progress, ignore

_DESCRIPTION = "dataset.json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scan:
    """One scan that can be segmented.

    Attributes:
        name: what its mask is called; unique among the scans of a path.
        path: a volume file, or the folder, zip or file of a DICOM study.
        files: the DICOM files of a study, where the path holds more than these; else empty.
        series: UID and description of each series of a study, as far as they were read.
        channels: file of each channel by name, where there are several; `path` is the first.
        label: the label map that a data set has for it, or None.
        ignore: the mask of what is ignored that a data set has for it, or None.
    """

    name: str
    path: Path
    files: tuple[Path, ...] = ()
    series: frozenset[str] = frozenset()
    channels: Mapping[str, Path] = field(default_factory=dict)
    label: Path | None = None
    ignore: Path | None = None

    @property
    def inputs(self) -> list[Path]:
        """Every file of the scan and of its truth, or folder of files."""
        return [file for file in (self.path, *self.channels.values(), self.label, self.ignore) if file is not None]

    @property
    def source(self) -> Path | tuple[Path, ...]:
        """What `read_image` takes."""
        return self.files or self.path


@dataclass(frozen=True)
class Contents:
    """What a path holds.

    Attributes:
        path: what was looked at.
        dataset: the data set, where the path is laid out as one.
        scans: every scan; of a data set those of all its cases, with labels or without.
        passed_over: files that are no part of any, each with the reason.
    """

    path: Path
    dataset: Dataset | None
    scans: list[Scan]
    passed_over: list[PassedOver]


@dataclass
class _Found:
    """Files that make one scan: those of a DICOM study, or one volume file."""

    files: list[Path]
    is_study: bool
    series: set[str] = field(default_factory=set)


def discover(path: str | Path, progress: Progress = ignore) -> Contents:
    """Find what a path holds.

    Args:
        path: a file, a folder with whatever folders in it, or a zip.
        progress: told of each file whose header was read; a large folder takes minutes.

    Raises:
        DataError: the path does not exist, or is a data set of a known layout that cannot be used.
    """
    path = Path(path)
    dataset = recognise(path)
    if dataset is not None:
        scans = [
            Scan(
                *(case.id, case.first),
                channels=case.channels if len(case.channels) > 1 else {},
                label=case.label,
                ignore=case.ignore,
            )
            for case in (*dataset.cases, *dataset.unlabelled)
        ]
        return Contents(path, dataset, scans, list(_beside(dataset)))
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give a scan, a folder of scans or a DICOM study")
    try:
        found, passed_over = _sort_out(path, progress)
    except DataError as error:
        raise type(error)(f"{path}: {error}") from error
    return Contents(path, None, _name(path, found), passed_over)


def is_slice(path: Path) -> bool:
    """Tell whether a path is a DICOM file itself, which may be one slice of many."""
    return path.is_file() and volume_suffix(path) is None and not is_zip(path) and is_dicom_file(path)


def scans_of_slices(files: Sequence[Path], progress: Progress = ignore) -> list[Scan]:
    """Put DICOM files that are given one by one together: those of one series are one scan.

    A series of several files is named by its folder, any other file by itself. One that is damaged, or no image, is a
    scan of its own, so that reading it says why.
    """
    series: dict[Path | tuple[str, str], list[Path]] = defaultdict(list)
    for done, file in enumerate(dict.fromkeys(files), start=1):
        try:
            slices = read_slices(file)
        except DataError:
            slices = []
        first = slices[0] if isinstance(slices, list) and slices else None
        series[(first.study_uid, first.series_uid) if first and first.series_uid else file].append(file)
        progress(done, len(files), file.name)
    return [_scan_of(parts) for parts in series.values()]


def _scan_of(files: list[Path]) -> Scan:
    if len(files) == 1:
        return Scan(stem_of(files[0]), files[0])
    folder = Path(os.path.commonpath([file.absolute().parent for file in files]))
    return Scan(folder.name, folder, tuple(files))


@dataclass(frozen=True)
class LabelMaps:
    """The label maps at a path.

    Attributes:
        files: each by the name of its case.
        images: the scan of each case, where it is known.
        cases: what is known of each, where they are of cases.
        scheme: what a data set declares of its labels.
        data: the data set, or the folder that they lie in.
        single: whether the path is one label map itself, not a folder of them.
    """

    files: dict[str, Path]
    images: dict[str, Path] = field(default_factory=dict)
    cases: dict[str, Case] = field(default_factory=dict)
    scheme: LabelScheme = field(default_factory=lambda: LabelScheme({}))
    data: Path | None = None
    single: bool = False

    def named_like(self, other: LabelMaps) -> LabelMaps:
        """Return a single label map, and its scan, under the name of another single one."""
        [name] = other.files
        return replace(
            self,
            files=dict(zip([name], self.files.values(), strict=True)),
            images=dict(zip([name], self.images.values(), strict=False)),
            cases=dict(zip([name], self.cases.values(), strict=False)),
        )


def only_scan(path: str | Path) -> Scan:
    """Find the one scan that a path holds.

    Raises:
        DataError: it holds none, or several.
    """
    contents = discover(path)
    if len(contents.scans) != 1:
        held = [str(scan.path) for scan in contents.scans[:3]] or summarise(contents.passed_over)[:3]
        count = len(contents.scans) or "no"
        raise DataError(f"{path}: holds {count} scans, expected one" + (f": {'; '.join(held)}" if held else ""))
    return contents.scans[0]


def find_label_maps(path: str | Path) -> LabelMaps:
    """Find the label maps at a path: one itself, those of a data set, or those in a folder.

    Hidden files are passed over, and so are `NAME_STRUCTURE_probability` beside a label map `NAME`.

    Raises:
        DataError: the path is missing or a file of another kind, two have one name, or a data set cannot be used.
    """
    path = Path(path)
    name = label_name(path) if path.is_file() else None
    if name is not None:
        return LabelMaps({name: path}, data=path.parent, single=True)
    dataset = recognise(path)
    if dataset is None:
        if not path.is_dir():
            return replace(label_maps_of({case.id: case for case in find_dataset(path).cases}), data=path)
        return LabelMaps(_label_maps_in(path), data=path)
    scheme = LabelChoice().scheme(dataset, dataset.labels or {})
    for problem in unknown_structures(dataset, ()) if scheme.structures else ():
        raise DataError(f"{path}: {problem.case} {problem.message}")
    found = label_maps_of({case.id: case for case in dataset.cases})
    single = found.files == {path.parent.name: path}
    return replace(found, scheme=scheme, data=dataset.root, single=single)


def label_maps_of(cases: Mapping[str, Case]) -> LabelMaps:
    """List the label maps of cases by their names, with what is known of each; cases without one are left out."""
    labelled = {name: case for name, case in cases.items() if case.label is not None}
    files = {name: case.label for name, case in labelled.items() if case.label is not None}
    return LabelMaps(files, {name: case.first for name, case in labelled.items()}, labelled)


def _label_maps_in(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    there = sorted(f for f in folder.iterdir() if f.is_file() and f.name[0] != ".")
    for file in without_previews([f for f in there if label_name(f)]):
        other = files.setdefault(label_name(file) or "", file)
        if other != file:
            raise DataError(f"{folder}: {other.name} and {file.name} stand for one case; remove one")
    soft = {n for n in files if n.endswith("_probability") and any(n.startswith(f"{m}_") for m in files if m != n)}
    deeper = [f for f in folder.glob("*/**/*") if volume_suffix(f) and not is_hidden(folder, f)] if files else []
    if deeper:
        _log.info("%s: volumes in folders of it are not scored: %d, such as %s", folder, len(deeper), deeper[0])
    return {name: file for name, file in files.items() if name not in soft}


def summarise(passed_over: Sequence[PassedOver]) -> list[str]:
    """Count files that were passed over by reason, a line each, and name the first."""
    by_reason: dict[str, list[Path]] = defaultdict(list)
    for file in passed_over:
        copies = file.reason.startswith("a byte copy")
        by_reason["byte copies of others" if copies else file.reason].append(file.path)
    return [
        f"{paths[0]}: passed over, {reason}"
        if len(paths) == 1
        else f"{len(paths)} files passed over, {reason}, such as {paths[0]}"
        for reason, paths in by_reason.items()
    ]


def _beside(dataset: Dataset) -> Iterator[PassedOver]:
    """Find the files in the folder of a data set that belong to none of its cases."""
    if not dataset.root.is_dir():
        return
    sources = [file for case in (*dataset.cases, *dataset.unlabelled) for file in case.files]
    known = {part for file in sources for part in (file, *_parts(file))}
    for file in study_files(dataset.root):
        if is_hidden(dataset.root, file) or file.name == _DESCRIPTION or known & {file, *file.parents}:
            continue
        yield PassedOver(file, f"no part of the data set ({dataset.layout})")


def _sort_out(path: Path, progress: Progress) -> tuple[list[_Found], list[PassedOver]]:
    """Read the header of every file, and group the files into volumes and studies."""
    files, passed_over = _files(path)
    whole = [file for file in files if file.is_file() and (volume_suffix(file) or is_zip(file))]
    pictures = {file for file in whole if is_picture(file)}
    parts = {part for file in whole for part in (file, *_parts(file))}
    studies: dict[str | Path, _Found] = {}
    damaged: list[Path] = []
    others = [file for file in files if file not in parts]
    for done, file in enumerate(others, start=1):
        try:
            slices = read_slices(file)
        except DataError:
            damaged.append(file)
        else:
            if isinstance(slices, PassedOver):
                passed_over.append(PassedOver(file, _reason(file, slices)))
            elif all(s.modality == "SEG" for s in slices):
                passed_over.append(PassedOver(file, "a DICOM segmentation"))
            else:
                study = studies.setdefault(slices[0].study_uid or file.parent, _Found([], is_study=True))
                study.files.append(file)
                study.series |= {text for s in slices for text in (s.series_uid, s.description) if text}
        progress(done, len(others), file.name)
    _add_damaged(studies, damaged)
    if studies or len(whole) > len(pictures):  # beside scans, pictures are previews and figures
        whole = [file for file in whole if file not in pictures]
        passed_over += [PassedOver(file, "a picture") for file in sorted(pictures)]
    found = [*(_Found([file], is_study=False) for file in whole), *studies.values()]
    return sorted(found, key=lambda one: one.files[0]), passed_over


def _files(path: Path) -> tuple[list[Path], list[PassedOver]]:
    """List the files at a path, those in zips included; hidden ones and dead links apart."""
    files: list[Path] = []
    passed_over: list[PassedOver] = []
    for file in _members(path) if is_zip(path) else study_files(path):
        if is_hidden(path, file):
            passed_over.append(PassedOver(file, "hidden"))
        elif is_zip(file):
            files += _members(file)
        elif file.is_file() or is_zip(path):
            files.append(file)
        else:
            passed_over.append(PassedOver(file, "no file, or a link that leads nowhere"))
    return files, passed_over


def _members(archive: Path) -> list[Path]:
    """List the files in a zip; one that is refused stays what it is, so that reading it says why."""
    try:
        return [file for file in zip_files(archive) if not is_hidden(archive, file)]
    except DataError:
        return [archive]


def _parts(source: Path) -> list[Path]:
    """List the files beside a header that hold its voxels."""
    return content_files(source)[1:] if source.is_file() else []


def _reason(file: Path, passed_over: PassedOver) -> str:
    """Say why a file is no part of a scan."""
    if passed_over.reason != NOT_DICOM:
        return passed_over.reason
    if is_picture(file):
        return "a picture"
    if volume_suffix(file):
        return "a volume in a zip, which is not read there; unpack it"
    return "neither DICOM nor a volume file"


def _add_damaged(studies: dict[str | Path, _Found], damaged: Iterable[Path]) -> None:
    """Let a damaged slice belong to the studies in its folder, so that reading them names it."""
    for file in damaged:
        near = [study for study in studies.values() if any(other.parent == file.parent for other in study.files)]
        for study in near or [studies.setdefault(file.parent, _Found([], is_study=True))]:
            study.files.append(file)


def _name(root: Path, found: list[_Found]) -> list[Scan]:
    """Name the scans: by the folders below the root where each holds one, else by file or folder."""
    places = [root if one.is_study and len(found) == 1 else _place(one) for one in found]
    tops = [{_top(root, file) for file in one.files} for one in found]
    names = ["".join(top) if len(top) == 1 else "" for top in tops]
    if len(found) == 1 or "" in names or len(set(names)) < len(found):
        short = [stem_of(place.resolve()) for place in places]
        names = [
            name if short.count(name) == 1 else _long_name(root, place)
            for name, place in zip(short, places, strict=True)
        ]
    scans = []
    for n, (name, place, one) in enumerate(zip(names, places, found, strict=True)):
        twice = one.is_study and names.count(name) > 1  # two studies in one folder
        unique = f"{name}_{names[: n + 1].count(name)}" if twice else name
        files = tuple(one.files) if one.is_study and one.files != [place] else ()
        scans.append(Scan(unique, place, files, frozenset(one.series)))
    return scans


def _top(root: Path, file: Path) -> str:
    """Return the name of the folder or zip below the root that a file lies in; empty where it lies in none."""
    inner = file.relative_to(root).parts
    return stem_of(inner[0]) if len(inner) > 1 else ""


def _place(found: _Found) -> Path:
    """Return the file of a scan, or the folder or zip that holds all of its files."""
    if len(found.files) == 1:
        return found.files[0]
    return Path(os.path.commonpath([file.parent for file in found.files]))


def _long_name(root: Path, place: Path) -> str:
    """Name a place by its whole way from the root."""
    inner = place.relative_to(root).parts
    return "_".join(stem_of(part) for part in inner) or stem_of(root.resolve())
