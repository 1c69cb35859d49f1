"""The Medical Segmentation Decathlon: `dataset.json` lists image and label of each case under `training`.

So does the one of nnU-Net whose table `dataset` says where the files of each case are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fullscale.data.case import Dataset
from fullscale.data.layouts.description import read_description
from fullscale.data.layouts.rows import Row, add_rows, is_there


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
    if description.by_case:
        dataset = description.dataset(file.parent, "nnU-Net raw")
        add_rows(dataset, description.training)
        return dataset
    dataset = description.dataset(file.parent, "Medical Segmentation Decathlon")
    for rows in (description.training, [row for row in description.test if all(map(is_there, row.images.values()))]):
        add_rows(dataset, [_with_channels(row, dataset.channels) for row in rows])
    return dataset


def _with_channels(row: Row, channels: Sequence[str]) -> Row:
    """Let the one file of a case hold all of its channels, along its fourth axis."""
    return replace(row, images=dict.fromkeys(channels, *row.images.values())) if len(row.images) == 1 else row
