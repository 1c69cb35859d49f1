"""DRIVE: `images/21_training.tif`, the vessels in `1st_manual/21_manual1.gif`, the field of view in `mask`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from fullscale.data.case import LEFT_OUT, Case, Dataset, Problem
from fullscale.data.image_files import WHITE
from fullscale.data.layouts.description import beside
from fullscale.data.layouts.folders import subfolders, volumes
from fullscale.data.volume_files import volume_stem

_IMAGES, _TRUTH, _VIEW, _TRAINING, _TEST = "images", "1st_manual", "mask", "training", "test"


def recognise(root: Path) -> Dataset | None:
    """Take the folder of the whole set, whose `test` is then without labels, or its `training` or `test` alone."""
    folders = subfolders(root)
    whole = _TRAINING in folders and _TRUTH in subfolders(folders[_TRAINING])
    parts = subfolders(folders[_TRAINING]) if whole else folders
    if not {_IMAGES, _TRUTH} <= parts.keys():
        return None
    dataset = beside(root).dataset(root, "DRIVE")
    if dataset.labels is None:
        dataset = replace(dataset, labels={0: "background", WHITE: "vessel"})
    truths, views = (_by_number(parts.get(name)) for name in (_TRUTH, _VIEW))
    for number, image in _by_number(parts[_IMAGES]).items():
        case = Case.of_image(volume_stem(image), image, truths.pop(number, None))
        dataset.add(replace(case, ignore=views.get(number)))
        if case.label is None:
            dataset.problems.append(Problem(case.id, f"{image}: has no label, {LEFT_OUT}", "warning"))
    for label in truths.values():
        dataset.problems.append(Problem(volume_stem(label), f"{label}: is a label without its image"))
    others = subfolders(folders[_TEST]) if whole and _TEST in folders else {}
    views = _by_number(others.get(_VIEW))
    for number, image in _by_number(others.get(_IMAGES)).items():
        dataset.add(replace(Case.of_image(volume_stem(image), image), ignore=views.get(number)))
    return dataset


def _by_number(folder: Path | None) -> dict[str, Path]:
    """Return the images of a folder by the number that their names begin with."""
    numbered = ((re.match(r"\d+", file.name), file) for file in volumes(folder))
    return {found[0]: file for found, file in numbered if found}
