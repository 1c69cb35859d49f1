"""Which folder is which data set.

To add a layout, write a file with a function `recognise(path)` that returns a `Dataset`, or None where the path is
not laid out so, and put it into `LAYOUTS`. No voxel is read here.

The name of a case is the file name of its image without the suffix; in nnU-Net's layout without `_0000` too, in
CHAOS the patient's folder, in a list what the column `case` says.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from fullscale.data.case import LEFT_OUT, WHOLE_SET, Dataset, Problem
from fullscale.data.layouts import (
    chaos,
    decathlon,
    drive,
    lists,
    lits,
    masks_beside,
    nnunet,
    patient_folders,
    structure_folders,
    two_folders,
)
from fullscale.data.layouts.described import described_folder, with_description
from fullscale.data.layouts.images import of_images
from fullscale.data.layouts.rows import COLUMNS
from fullscale.data.layouts.structure_names import with_structure_names
from fullscale.errors import DataError

LAYOUTS: tuple[Callable[[Path], Dataset | None], ...] = (
    lists.recognise,
    nnunet.recognise,  # before the Decathlon: its first version lists files in dataset.json that do not exist
    decathlon.recognise,
    lits.recognise,
    chaos.recognise,
    drive.recognise,
    two_folders.recognise,
    structure_folders.recognise,
    patient_folders.recognise,  # late: other layouts have folders of patients too
    masks_beside.recognise,
)
"""Every known layout; the first that returns a data set is believed. All but the first take a folder."""

_LITTER = re.compile(r"^\._|^\.DS_Store$|^Thumbs\.db$")


def find_dataset(path: str | Path) -> Dataset:
    """Recognise a data set by its layout and list its cases.

    Raises:
        DataError: the path is missing, nothing known is found, a case has several images, or two have one name.
    """
    path = Path(path)
    dataset = recognise(path)
    if dataset is not None:
        return dataset
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_file():
        raise DataError(f"{path}: is a file, expected the folder of a data set or a CSV or JSON list of cases")
    contents = "it is empty" if not any(path.iterdir()) else "none of the known layouts fits"
    raise DataError(
        f"{path}: no data set found, {contents} (Decathlon or nnU-Net dataset.json, volume-N with segmentation-N, "
        "ID/DICOM_anon with ID/Ground, images/ with labels/, a folder a patient, ID/ct.nii.gz with ID/segmentations, "
        f"NAME with NAME_mask); give a CSV file with the columns {','.join(COLUMNS)}"
    )


def recognise(path: Path) -> Dataset | None:
    """Recognise a data set by its layout, or return None where none of the known ones fits.

    Raises:
        DataError: a layout fits and what it holds cannot be used, or the path is a pipe, a device or the like.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise DataError(f"{path}: is neither a file nor a folder; give the folder of a data set, or a file of scans")
    folder = described_folder(path)
    dataset = _laid_out(folder or path)
    if folder is not None:
        dataset = with_description(dataset or find_dataset(folder), path)  # which says why there is none
    return None if dataset is None else _finish(of_images(dataset))


def _laid_out(path: Path) -> Dataset | None:
    layouts = LAYOUTS[1:] if path.is_dir() else LAYOUTS[:1]
    return next((found for layout in layouts if (found := layout(path)) is not None), None)


def _finish(dataset: Dataset) -> Dataset:
    """Order the cases by name, refuse a name that stands for two images, and report litter."""
    for cases in (dataset.cases, dataset.unlabelled):
        cases.sort(key=lambda case: case.id)
        for first, second in pairwise(cases):
            if first.id == second.id:
                raise DataError(
                    f"{dataset.root}: the case name '{first.id}' stands for two images, {first.first} and "
                    f"{second.first}; remove one, or give a CSV file with a column 'case'"
                )
    dataset = with_structure_names(_with_empty(dataset))
    there = {case.id for case in (*dataset.cases, *dataset.unlabelled)}
    said = {"says what is 'labelled' in it": dataset.labelled, "says that it is 'empty'": dataset.empty}
    for what, names in said.items():
        for name in sorted(set(names) - there):
            dataset.problems.append(Problem(name, f"dataset.json {what}, but there is no such case"))
    litter = _litter(dataset)
    if litter:
        message = f"files left by the operating system are passed over: {len(litter)}, such as {litter[0]}"
        dataset.problems.append(Problem(WHOLE_SET, message, "warning"))
    return dataset


def _with_empty(dataset: Dataset) -> Dataset:
    """Take back that cases without a mask are left out, where the data set says that nothing is drawn in them.

    Raises:
        DataError: one of them has a mask.
    """
    for case in dataset.cases:
        if case.id in dataset.empty and not case.empty:
            raise DataError(f"{dataset.root}: case {case.id} is said to be 'empty', and has the mask {case.label}")
    told = [p for p in dataset.problems if not (p.case in dataset.empty and p.message.endswith(LEFT_OUT))]
    return replace(dataset, problems=told)


def _litter(dataset: Dataset) -> list[Path]:
    sources = [file for case in (*dataset.cases, *dataset.unlabelled) for file in case.files]
    folders = {folder for file in sources for folder in (file, file.parent) if folder.is_dir()}
    if dataset.root.is_dir():
        folders.add(dataset.root)
    return sorted(file for folder in folders for file in folder.iterdir() if _LITTER.match(file.name))
