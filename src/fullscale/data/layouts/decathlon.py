"""The Medical Segmentation Decathlon: `dataset.json` lists image and label of each case under `training`."""

from __future__ import annotations

from pathlib import Path

from fullscale.data.case import Dataset
from fullscale.data.layouts.description import read_description
from fullscale.data.layouts.rows import add_rows, is_there


def recognise(root: Path) -> Dataset | None:
    """Take a folder with such a `dataset.json`."""
    file = root / "dataset.json"
    return listed_in(file) if file.is_file() else None


def listed_in(file: Path) -> Dataset | None:
    """Take the cases that a `dataset.json`, by whatever name, lists; None where it lists none.

    Raises:
        DataError: it is no such file.
    """
    description = read_description(file)
    if description.training is None:
        return None
    dataset = description.dataset(file.parent, "Medical Segmentation Decathlon")
    add_rows(dataset, description.training)
    add_rows(dataset, (row for row in description.test if is_there(row.image)))
    return dataset
