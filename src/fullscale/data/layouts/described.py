"""A description that lies apart from its data: a JSON file with the key `folder`, for folders that cannot be written.

It says what a `dataset.json` in the folder would say, such as the names of labels, or what the colours of masks mean.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fullscale.data.case import Dataset
from fullscale.data.layouts.description import Description, read_description
from fullscale.documents import read_json
from fullscale.errors import DataError

_FOLDER = "folder"


def described_folder(path: Path) -> Path | None:
    """Return the folder that a description speaks of; None of any other path.

    Raises:
        DataError: it is no folder.
    """
    if path.suffix.lower() != ".json" or not path.is_file():
        return None
    content: Any = read_json(path)
    if not isinstance(content, dict) or _FOLDER not in content:
        return None
    folder = path.parent / str(content[_FOLDER])
    if not folder.is_dir():
        raise DataError(f"{path}: '{_FOLDER}' is {content[_FOLDER]!r:.80}, which is no folder")
    return folder


def with_description(dataset: Dataset, path: Path) -> Dataset:
    """Say of a data set what a description apart from it says.

    Raises:
        DataError: the description cannot be read, or names channels, which files of the folder must be named after.
    """
    description = read_description(path)
    if description.channels != Description().channels and description.channels != dataset.channels:
        raise DataError(f"{path}: names channels, which is understood in a dataset.json in the folder itself")
    found = replace(
        dataset,
        root=path,
        cases=[],
        unlabelled=[],
        problems=[*dataset.problems, *description.problems(path.name)],
        **{"name": path.stem} | description.said,
    )
    for case in (*dataset.cases, *dataset.unlabelled):
        found.add(case)
    return found
