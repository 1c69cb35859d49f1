"""Lists of cases in a file: a CSV table or JSON, one row a case."""

from __future__ import annotations

import csv
import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fullscale.data.case import ONE_CHANNEL, WHOLE_SET, Case, Dataset, Problem
from fullscale.data.image_files import COLOURS, holds_colours
from fullscale.data.volume_files import volume_stem
from fullscale.documents import read_text
from fullscale.errors import DataError
from fullscale.text import counted

COLUMNS = ("image", "label", "case", "patient", "ignore", "labelled")
"""What a list may say of a case; only `image` must be there, or `image:NAME` for each channel of several. Paths are
relative to the list's folder. `ignore` is a mask in whose 0 voxels nothing is known, and `labelled` names the
structures that were drawn: in CSV with `|` between them, in JSON as a list."""

CHANNEL, STRUCTURE = "image:", "label:"
"""Begin the names of columns that hold one channel or one structure of several: `image:flair`, `label:liver`."""
SUBGROUP = "subgroup:"
"""Begins the names of columns that tell groups of cases by, in the scores of a model: `subgroup:scanner`."""
EMPTY = "empty"
"""Stands in the place of a mask where nothing is drawn because there is nothing to draw."""

_OTHER_NAMES = {"mask": "label"}
_OTHER_BEGINNINGS = {"mask:": STRUCTURE}
_BETWEEN_NAMES = "|"
_NEARLY = 0.8
"""Likeness from which an unknown column is taken for a slip of the pen: "patient_id" is one, "age" is none."""


@dataclass(frozen=True)
class Row:
    """One case of a list; what it does not say is None.

    Attributes:
        images: path of each channel by name; of a scan of one channel, that name is `ONE_CHANNEL`.
        label: path of its label map.
        structures: path of the mask of each structure, where they have one each.
        absent: names of the structures that are not in the case; with `None`, none is.
        subgroups: what the case is by each column that tells groups, by its name.
        case: name of the case.
        patient: name of the patient.
        ignore: path of a mask in whose 0 voxels nothing is known.
        labelled: names of the structures that were drawn.
        unknown: names of columns that hold something here and are not understood.
    """

    images: dict[str, Path]
    label: Path | None = None
    case: str | None = None
    patient: str | None = None
    ignore: Path | None = None
    labelled: tuple[str, ...] | None = None
    unknown: tuple[str, ...] = ()
    structures: Mapping[str, Path] = field(default_factory=dict)
    absent: tuple[str | None, ...] = ()
    subgroups: Mapping[str, str] = field(default_factory=dict)

    @property
    def case_id(self) -> str:
        """The name of the case, by default that of its first image."""
        return self.case or volume_stem(next(iter(self.images.values())))

    @property
    def drawn(self) -> tuple[str, ...] | None:
        """Names of the structures of which the row says something; None where it does not tell them apart."""
        named = [name for name in self.absent if name is not None]
        return self.labelled if self.labelled is not None or not named else (*self.structures, *named)

    def as_case(self) -> Case:
        """Make the case of the row, its channels in the order of the row."""
        label = self.label or next(iter(self.structures.values()), None)
        name = self.case_id
        case = Case(name, dict(self.images), label, name if self.patient is None else self.patient, self.ignore)
        case = replace(case, labelled=self.drawn, structures=self.structures, subgroups=self.subgroups)
        return case.with_nothing_drawn() if label is None and self.absent else case


def json_rows(path: Path, content: Any) -> list[Row]:
    """Read a JSON list whose entries are objects with the fields of `COLUMNS`, or the paths of images alone.

    Raises:
        DataError: it is no such list, or names no image.
    """
    if not isinstance(content, list):
        raise DataError(f'{path}: expected a list of cases such as [{{"image": "a.nii.gz", "label": "b.nii.gz"}}]')
    entries = [{"image": entry} if isinstance(entry, str) else entry for entry in content]
    return [_row(path, f"entry {number}", entry) for number, entry in enumerate(entries, start=1)]


def csv_rows(path: Path) -> list[Row]:
    """Read a CSV file with a header line; the separator is a comma, a semicolon or a tab.

    Raises:
        DataError: it is no such table, or names no image.
    """
    lines = read_text(path).splitlines() or [""]
    separator = max(",;\t", key=lines[0].count)
    reader = csv.DictReader(lines, delimiter=separator, skipinitialspace=True)
    try:
        columns = [_column(name) for name in reader.fieldnames or []]
        if not any(name == "image" or name.startswith(CHANNEL) for name in columns):
            raise DataError(f"{path}: has the columns {columns}, expected 'image' and perhaps {', '.join(COLUMNS[1:])}")
        twice = [name for name, count in Counter(columns).items() if count > 1 and name]
        if twice:
            raise DataError(f"{path}: has the column '{twice[0]}' twice; remove one")
        reader.fieldnames = columns
        return [_row(path, f"line {reader.line_num}", entry) for entry in reader]
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num} is not CSV ({error})") from error


def _column(name: str) -> str:
    """Return the name of a column in lower case; that of a channel or a structure stays as it is written."""
    name = name.strip()
    for beginning in (CHANNEL, STRUCTURE, SUBGROUP, *_OTHER_BEGINNINGS):
        if name.lower().startswith(beginning):
            return _OTHER_BEGINNINGS.get(beginning, beginning) + name[len(beginning) :].strip()
    return name.lower()


def _row(path: Path, place: str, entry: Any) -> Row:
    if not isinstance(entry, dict):
        raise DataError(f"{path}: {place} is {entry!r:.80}, expected an object with 'image' and 'label'")
    if None in entry:
        raise DataError(f"{path}: {place} has more cells than there are columns, such as {entry[None][0]!r:.80}")
    given = {name: value for name, value in entry.items() if value is not None and str(value).strip()}
    unknown = tuple(name for name in given if not _is_known(path, str(name)))
    labelled = given.pop("labelled", None)
    found: dict[str, str] = {}
    for name, value in ((name, value) for name, value in given.items() if name not in unknown):
        column = _OTHER_NAMES.get(str(name), str(name))
        if not isinstance(value, str | int):
            raise DataError(f"{path}: '{name}' of {place} is {value!r:.80}, expected one text")
        if column in found:
            raise DataError(f"{path}: {place} names two label maps, by 'label' and by 'mask'; remove one")
        found[column] = str(value).strip()
    masks, absent = _masks(path, place, found)
    label, ignored = masks.pop(None, None), path.parent / found["ignore"] if "ignore" in found else None
    drawn = None if labelled is None else drawn_structures(path, place, labelled)
    structures = {name: file for name, file in masks.items() if name is not None}
    subgroups = {name[len(SUBGROUP) :]: value for name, value in found.items() if name.startswith(SUBGROUP)}
    case, patient = found.get("case"), found.get("patient")
    images = _images(path, place, found)
    return Row(images, label, case, patient, ignored, drawn, unknown, structures, absent, subgroups)


def _is_known(path: Path, name: str) -> bool:
    """Tell whether a list may have a column; one that is nearly known is refused, as what it says would be lost."""
    known = (*COLUMNS, *_OTHER_NAMES)
    if name in known or name.startswith((CHANNEL, STRUCTURE, SUBGROUP)):
        return True
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=_NEARLY)
    if close:
        raise DataError(f"{path}: the column '{name:.80}' is not known; did you mean '{close[0]}'? Rename or remove it")
    return False


def _images(path: Path, place: str, found: Mapping[str, str]) -> dict[str, Path]:
    """Return the file of each channel that a row names."""
    images = {name[len(CHANNEL) :]: path.parent / file for name, file in found.items() if name.startswith(CHANNEL)}
    if "image" in found and images:
        raise DataError(f"{path}: {place} names an image and channels (image:NAME); expected one or the other")
    if "image" in found:
        images = {ONE_CHANNEL: path.parent / found["image"]}
    if not images:
        raise DataError(f"{path}: {place} names no image")
    return images


def _masks(path: Path, place: str, found: Mapping[str, str]) -> tuple[dict[str | None, Path], tuple[str | None, ...]]:
    """Return the mask of each structure that a row names, and the structures that it calls empty.

    The name of the label map of all of them is None.
    """
    masks: dict[str | None, str] = {
        name[len(STRUCTURE) :]: text for name, text in found.items() if name.startswith(STRUCTURE)
    }
    if "label" in found and masks:
        raise DataError(f"{path}: {place} names a label map and structures (label:NAME); expected one or the other")
    if "label" in found:
        masks[None] = found["label"]
    absent = tuple(name for name, text in masks.items() if text.lower() == EMPTY)
    if absent and is_there(path.parent / masks[absent[0]]):
        file = masks[absent[0]]
        raise DataError(f"{path}: {place} says '{file}', a file here and the word for no mask; call it './{file}'")
    return {name: path.parent / text for name, text in masks.items() if name not in absent}, absent


def drawn_structures(path: Path, place: str, value: Any) -> tuple[str, ...]:
    """Read the names of the structures that were drawn in a case: a list, or a text with `|` between them.

    Raises:
        DataError: it is neither.
    """
    names = value.split(_BETWEEN_NAMES) if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise DataError(
            f"{path}: 'labelled' of {place} is {value!r:.80}, expected names of structures such as liver|spleen"
        )
    return tuple(name.strip() for name in names)


def add_rows(dataset: Dataset, rows: Iterable[Row]) -> None:
    """Take over the rows of a list.

    A row whose files are missing, or that lacks a channel of the data set, becomes a problem; so do unknown columns.
    """
    unknown: Counter[str] = Counter()
    for row in rows:
        unknown.update(row.unknown)
        files = (*row.images.values(), row.label, *row.structures.values(), row.ignore)
        missing = [file for file in files if file is not None and not is_there(file)]
        if missing:
            dataset.problems.append(Problem(row.case_id, f"{missing[0]}: no such file, the list names it"))
        else:
            add_channels(dataset, row.as_case())
    for column, count in unknown.items():
        message = (
            f"the column '{column}' ({counted(count, 'case')}) is not understood and passed over; known: "
            + ", ".join(COLUMNS)
        )
        dataset.problems.append(Problem(WHOLE_SET, message, "warning"))


def add_channels(dataset: Dataset, case: Case) -> None:
    """Take in a case with the channels of the data set, in their order; one with others is a problem.

    A colour image alone holds three of them, in the order of the data set.
    """
    files = case.channels
    if len(files) == 1 and len(dataset.channels) == len(COLOURS) and holds_colours(only := next(iter(files.values()))):
        files = dict.fromkeys(dataset.channels, only)
    if set(files) != set(dataset.channels):
        has, wants = (", ".join(names) for names in (files, dataset.channels))
        dataset.problems.append(Problem(case.id, f"has the channels {has}, the data set {wants}"))
        return
    dataset.add(replace(case, channels={channel: files[channel] for channel in dataset.channels}))


def is_there(path: Path) -> bool:
    """Tell whether a path exists; one that no file can have does not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
