"""Lists of cases as files: CSV, JSON, and the `dataset.json` of the Medical Segmentation Decathlon and of nnU-Net."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fullscale.errors import DataError

COLUMNS = ("image", "label", "case", "patient")
"""What a list may say of a case; only `image` must be there. Paths are relative to the list's folder."""


@dataclass(frozen=True)
class Row:
    """One case of a list; what it does not say is None.

    Attributes:
        number: the line of a CSV file, or the place in a JSON list, from 1.
        image: path of the scan.
        label: path of its label map.
        case: name of the case.
        patient: name of the patient.
    """

    number: int
    image: Path
    label: Path | None = None
    case: str | None = None
    patient: str | None = None


@dataclass(frozen=True)
class Description:
    """What a `dataset.json` says.

    Attributes:
        name: of the data set, or None.
        modality: such as "CT" or "MRI", or None.
        labels: name of each label value, or None where none are declared.
        training: cases, some perhaps without a label; None where the file lists none.
        test: images without labels.
    """

    name: str | None
    modality: str | None
    labels: dict[int, str] | None
    training: list[Row] | None
    test: list[Row]


def read_list(path: Path) -> list[Row]:
    """Read a CSV file with a header line, or a JSON list of objects, with the fields of `COLUMNS`.

    Raises:
        DataError: the file is no such list, names no image, or lists nothing.
    """
    rows = _read_csv(path) if path.suffix.lower() == ".csv" else _json_rows(path, _load_json(path), path.parent)
    if not rows:
        raise DataError(f"{path}: lists no cases; expected a line for each, with the columns {', '.join(COLUMNS)}")
    return rows


def read_description(path: Path) -> Description:
    """Read a `dataset.json` in the form of the Decathlon or of nnU-Net.

    Raises:
        DataError: the file is not JSON, is of another form, or declares several image channels.
    """
    content = _load_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a JSON {type(content).__name__}, expected an object that describes a data set")
    channels = content.get("channel_names", content.get("modality"))
    if isinstance(channels, dict) and len(channels) > 1:
        named = ", ".join(str(name) for name in channels.values())
        raise DataError(f"{path}: declares {len(channels)} images a case ({named}); one image a case is supported")
    training, test = content.get("training"), content.get("test")
    return Description(
        name=str(content["name"]) if content.get("name") else None,
        modality=_first_text(channels),
        labels=_labels(path, content["labels"]) if content.get("labels") else None,
        training=_json_rows(path, training, path.parent) if isinstance(training, list) else None,
        test=_json_rows(path, test, path.parent) if isinstance(test, list) else [],
    )


def _first_text(channels: Any) -> str | None:
    if isinstance(channels, dict):
        channels = next(iter(channels.values()), None)
    return str(channels) if channels else None


def _labels(path: Path, declared: Any) -> dict[int, str]:
    """Read `{"1": "liver"}` (Decathlon) or `{"liver": 1}` (nnU-Net)."""
    names: dict[int, str] = {}
    for key, value in declared.items() if isinstance(declared, dict) else []:
        number, name = (key, value) if str(key).strip().isdecimal() else (value, key)
        if isinstance(number, bool | float) or not str(number).strip().isdecimal():
            raise DataError(f"{path}: label {key!r}: {value!r} is no pair of a name and one whole number")
        if int(number) in names:
            raise DataError(f"{path}: label {int(number)} has two names, '{names[int(number)]}' and '{name}'")
        names[int(number)] = str(name)
    if not names:
        raise DataError(f"{path}: 'labels' is {declared!r}, expected names and numbers such as {{'liver': 1}}")
    return dict(sorted({0: "background", **names}.items()))


def _load_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: is not JSON ({error})") from error


def _json_rows(path: Path, content: Any, folder: Path) -> list[Row]:
    if not isinstance(content, list):
        raise DataError(f'{path}: expected a list of cases such as [{{"image": "a.nii.gz", "label": "b.nii.gz"}}]')
    entries = [{"image": entry} if isinstance(entry, str) else entry for entry in content]
    return [_row(path, number, entry, folder) for number, entry in enumerate(entries, start=1)]


def _read_csv(path: Path) -> list[Row]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: is not text in UTF-8 ({error})") from error
    lines = text.splitlines() or [""]
    separator = max(",;\t", key=lines[0].count)
    reader = csv.DictReader(lines, delimiter=separator, skipinitialspace=True)
    columns = [name.strip().lower() for name in reader.fieldnames or []]
    if "image" not in columns:
        raise DataError(f"{path}: has the columns {columns}, expected 'image' and perhaps {', '.join(COLUMNS[1:])}")
    reader.fieldnames = columns
    try:
        return [_row(path, reader.line_num, entry, path.parent) for entry in reader]
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num} is not CSV ({error})") from error


def _row(path: Path, number: int, entry: Any, folder: Path) -> Row:
    if not isinstance(entry, dict):
        raise DataError(f"{path}: entry {number} is {entry!r}, expected an object with 'image' and 'label'")
    found: dict[str, str] = {}
    for name in COLUMNS:
        value = entry.get(name)
        if value is not None and not isinstance(value, str | int):
            raise DataError(f"{path}: '{name}' of entry {number} is {value!r}, expected one text")
        if value is not None and str(value).strip():
            found[name] = str(value).strip()
    if "image" not in found:
        raise DataError(f"{path}: entry {number} names no image")
    label = folder / found["label"] if "label" in found else None
    return Row(number, folder / found["image"], label, found.get("case"), found.get("patient"))
