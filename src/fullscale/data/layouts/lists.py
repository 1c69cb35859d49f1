"""A list of cases: CSV or JSON with a row a case (`rows.py` has the columns), or a `dataset.json` given by itself."""

from __future__ import annotations

from pathlib import Path

from fullscale.data.case import Dataset
from fullscale.data.layouts import decathlon
from fullscale.data.layouts.rows import COLUMNS, add_rows, csv_rows, json_rows
from fullscale.documents import read_json
from fullscale.errors import DataError


def recognise(path: Path) -> Dataset | None:
    """Take a file with the suffix of a list.

    Raises:
        DataError: it is no list of cases.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".json") or not path.is_file():
        return None
    content = None if suffix == ".csv" else read_json(path)
    if isinstance(content, dict):
        dataset = decathlon.listed_in(path)
        if dataset is None:
            raise DataError(f"{path}: has no list 'training'; give the folder of the data set instead")
        return dataset
    rows = csv_rows(path) if suffix == ".csv" else json_rows(path, content)
    if not rows:
        raise DataError(f"{path}: lists no cases; expected a line for each, with the columns {', '.join(COLUMNS)}")
    channels = tuple(dict.fromkeys(channel for row in rows for channel in row.images))
    dataset = Dataset(path, f"{suffix[1:].upper()} list", path.stem, None, None, channels=channels)
    add_rows(dataset, rows)
    return dataset
