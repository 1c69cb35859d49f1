"""nnU-Net's raw layout: `imagesTr/CASE_0000.nii.gz` with `labelsTr/CASE.nii.gz`."""

from __future__ import annotations

import re
from pathlib import Path

from fullscale.data.case import Case, Dataset
from fullscale.data.layouts.description import beside
from fullscale.data.layouts.folders import TEST_FOLDER, pair, subfolders, volumes
from fullscale.data.volume_files import volume_stem
from fullscale.errors import DataError


def recognise(root: Path) -> Dataset | None:
    """Take a folder in which an image has a channel number that its label lacks; the case's name lacks it too.

    Raises:
        DataError: a case has several channels.
    """
    folders = subfolders(root)
    if "imagestr" not in folders or "labelstr" not in folders:
        return None
    images, tests = volumes(folders["imagestr"]), volumes(folders.get(TEST_FOLDER))
    labels = {volume_stem(file): file for file in volumes(folders["labelstr"])}
    if not any(_channel(file) and _case_name(file) in labels for file in images):
        return None
    for image in images + tests:
        if _channel(image) not in ("0000", None):
            raise DataError(f"{image}: is a second image of its case; one image a case (_0000) is supported")
    dataset = beside(root).dataset(root, "nnU-Net raw")
    pair(dataset, [(_case_name(file), file) for file in images], labels)
    for file in tests:
        dataset.add(Case.of_image(_case_name(file), file))
    return dataset


def _channel(file: Path) -> str | None:
    found = re.search(r"_(\d{4})$", volume_stem(file))
    return found[1] if found else None


def _case_name(file: Path) -> str:
    return re.sub(r"_\d{4}$", "", volume_stem(file))
