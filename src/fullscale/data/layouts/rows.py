"""Lists of cases in a file: a CSV table or JSON, one row a case."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fullscale.data.case import ONE_CHANNEL, WHOLE_SET, Case, Dataset, Problem
from fullscale.data.volume_files import volume_stem
from fullscale.documents import read_text
from fullscale.errors import DataError

COLUMNS = ("image", "label", "case", "patient")
"""What a list may say of a case; only `image` must be there, or `image:NAME` for each channel of several. Paths are
relative to the list's folder."""

CHANNEL = "image:"
"""Begins the name of a column that holds one channel of several, such as `image:flair`."""

_OTHER_NAMES = {"mask": "label"}


@dataclass(frozen=True)
class Row:
    """One case of a list; what it does not say is None.

    Attributes:
        images: path of each channel by name; of a scan of one channel, that name is `ONE_CHANNEL`.
        label: path of its label map.
        case: name of the case.
        patient: name of the patient.
        unknown: names of columns that hold something here and are not understood.
    """

    images: dict[str, Path]
    label: Path | None = None
    case: str | None = None
    patient: str | None = None
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
    found: dict[str, str] = {}
    unknown = []
    for name, value in entry.items():
        column = _OTHER_NAMES.get(str(name), str(name))
        if value is None or not str(value).strip():
            continue
        if column not in COLUMNS and not column.startswith(CHANNEL):
            unknown.append(name)
        elif not isinstance(value, str | int):
            raise DataError(f"{path}: '{name}' of {place} is {value!r:.80}, expected one text")
        elif column in found:
            raise DataError(f"{path}: {place} names two label maps, by 'label' and by 'mask'; remove one")
        else:
            found[column] = str(value).strip()
    images = {name[len(CHANNEL) :]: path.parent / file for name, file in found.items() if name.startswith(CHANNEL)}
    if "image" in found and images:
        raise DataError(f"{path}: {place} names an image and channels (image:NAME); expected one or the other")
    if "image" in found:
        images = {ONE_CHANNEL: path.parent / found["image"]}
    if not images:
        raise DataError(f"{path}: {place} names no image")
    label = path.parent / found["label"] if "label" in found else None
    return Row(images, label, found.get("case"), found.get("patient"), tuple(unknown))


def add_rows(dataset: Dataset, rows: Iterable[Row]) -> None:
    """Take over the rows of a list.

    A row whose files are missing, or that lacks a channel of the data set, becomes a problem; so do unknown columns.
    """
    unknown: Counter[str] = Counter()
    for row in rows:
        unknown.update(row.unknown)
        name = row.case or volume_stem(next(iter(row.images.values())))
        missing = [file for file in (*row.images.values(), row.label) if file is not None and not is_there(file)]
        if missing:
            dataset.problems.append(Problem(name, f"{missing[0]}: no such file, the list names it"))
        else:
            add_channels(dataset, name, row.images, row.label, row.patient)
    for column, count in unknown.items():
        message = (
            f"the column '{column}' ({count} cases) is not understood and passed over; known: {', '.join(COLUMNS)}"
        )
        dataset.problems.append(Problem(WHOLE_SET, message, "warning"))


def add_channels(
    dataset: Dataset, name: str, files: Mapping[str, Path], label: Path | None, group: str | None = None
) -> None:
    """Take in a case with the channels of the data set, in their order; one with others is a problem."""
    if set(files) != set(dataset.channels):
        has, wants = (", ".join(names) for names in (files, dataset.channels))
        dataset.problems.append(Problem(name, f"has the channels {has}, the data set {wants}"))
        return
    ordered = {channel: files[channel] for channel in dataset.channels}
    dataset.add(Case(name, ordered, label, name if group is None else group))


def is_there(path: Path) -> bool:
    """Tell whether a path exists; one that no file can have does not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
