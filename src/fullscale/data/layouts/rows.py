"""Lists of cases in a file: a CSV table or JSON, one row a case."""

from __future__ import annotations

import csv
import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fullscale.data.case import ONE_CHANNEL, WHOLE_SET, Case, Dataset, Problem
from fullscale.data.image_files import COLOURS, holds_colours
from fullscale.data.volume_files import volume_stem
from fullscale.documents import read_text
from fullscale.errors import DataError

COLUMNS = ("image", "label", "case", "patient", "ignore", "labelled")
"""What a list may say of a case; only `image` must be there, or `image:NAME` for each channel of several. Paths are
relative to the list's folder. `ignore` is a mask in whose 0 voxels nothing is known, and `labelled` names the
structures that were drawn: in CSV with `|` between them, in JSON as a list."""

CHANNEL = "image:"
"""Begins the name of a column that holds one channel of several, such as `image:flair`."""

_OTHER_NAMES = {"mask": "label"}
_BETWEEN_NAMES = "|"
_NEARLY = 0.8
"""Likeness from which an unknown column is taken for a slip of the pen: "patient_id" is one, "age" is none."""


@dataclass(frozen=True)
class Row:
    """One case of a list; what it does not say is None.

    Attributes:
        images: path of each channel by name; of a scan of one channel, that name is `ONE_CHANNEL`.
        label: path of its label map.
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
    """Return the name of a column in lower case; that of a channel stays as it is written."""
    name = name.strip()
    return CHANNEL + name[len(CHANNEL) :].strip() if name.lower().startswith(CHANNEL) else name.lower()


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
    label, ignored = (path.parent / found[column] if column in found else None for column in ("label", "ignore"))
    drawn = None if labelled is None else drawn_structures(path, place, labelled)
    return Row(_images(path, place, found), label, found.get("case"), found.get("patient"), ignored, drawn, unknown)


def _is_known(path: Path, name: str) -> bool:
    """Tell whether a list may have a column; one that is nearly known is refused, as what it says would be lost."""
    known = (*COLUMNS, *_OTHER_NAMES)
    if name in known or name.startswith(CHANNEL):
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
        name = row.case or volume_stem(next(iter(row.images.values())))
        files = (*row.images.values(), row.label, row.ignore)
        missing = [file for file in files if file is not None and not is_there(file)]
        if missing:
            dataset.problems.append(Problem(name, f"{missing[0]}: no such file, the list names it"))
        else:
            add_channels(dataset, name, row.images, row.label, row.patient, row.ignore, row.labelled)
    for column, count in unknown.items():
        message = (
            f"the column '{column}' ({count} cases) is not understood and passed over; known: {', '.join(COLUMNS)}"
        )
        dataset.problems.append(Problem(WHOLE_SET, message, "warning"))


def add_channels(
    dataset: Dataset,
    name: str,
    files: Mapping[str, Path],
    label: Path | None,
    group: str | None = None,
    ignore: Path | None = None,
    labelled: tuple[str, ...] | None = None,
) -> None:
    """Take in a case with the channels of the data set, in their order; one with others is a problem.

    A colour image alone holds three of them, in the order of the data set.
    """
    if len(files) == 1 and len(dataset.channels) == len(COLOURS) and holds_colours(only := next(iter(files.values()))):
        files = dict.fromkeys(dataset.channels, only)
    if set(files) != set(dataset.channels):
        has, wants = (", ".join(names) for names in (files, dataset.channels))
        dataset.problems.append(Problem(name, f"has the channels {has}, the data set {wants}"))
        return
    ordered = {channel: files[channel] for channel in dataset.channels}
    dataset.add(Case(name, ordered, label, name if group is None else group, ignore, labelled))


def is_there(path: Path) -> bool:
    """Tell whether a path exists; one that no file can have does not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
