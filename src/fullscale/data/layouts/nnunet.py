"""nnU-Net's raw layout: `imagesTr/CASE_0000.nii.gz`, a file for each channel, with `labelsTr/CASE.nii.gz`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from fullscale.data.case import LEFT_OUT, WHOLE_SET, Case, Dataset, Problem
from fullscale.data.layouts.description import beside
from fullscale.data.layouts.folders import TEST_FOLDER, subfolders, volumes
from fullscale.data.layouts.rows import add_channels
from fullscale.data.volume_files import volume_stem
from fullscale.errors import DataError

_DESCRIPTION = "dataset.json"


def recognise(root: Path) -> Dataset | None:
    """Take a folder in which an image has a channel number that its label lacks; the case's name lacks it too."""
    folders = subfolders(root)
    if "imagestr" not in folders or "labelstr" not in folders:
        return None
    declared = beside(root)
    if declared.by_case:
        return None  # it lists its cases as the Decathlon does
    found = [volumes(folders.get(name)) for name in ("imagestr", TEST_FOLDER, "labelstr")]
    images, tests, masks = ([file for file in files if _ends(file, declared.ending)] for files in found)
    if not images and found[0]:
        raise DataError(
            f"{root / _DESCRIPTION}: 'file_ending' is '{declared.ending}', but the images are other files, such as "
            f"{found[0][0].name}; correct it"
        )
    labels = {volume_stem(file): file for file in masks}
    if not any(_channel(file) and _case_name(file) in labels for file in images):
        return None
    dataset = _with_found_channels(declared.dataset(root, "nnU-Net raw"), images)
    others = [file.name for files in found for file in files if not _ends(file, declared.ending)]
    if others:
        message = f"files that do not end in '{declared.ending}' are passed over: {len(others)}, such as {others[0]}"
        dataset.problems.append(Problem(WHOLE_SET, message, "warning"))
    for name, files in _by_case(images, dataset.channels).items():
        add_channels(dataset, Case(name, files, labels.get(name), group=name))
        if name not in labels:
            file = next(iter(files.values()))
            dataset.problems.append(Problem(name, f"{file}: has no label, {LEFT_OUT}", "warning"))
    for name, files in _by_case(tests, dataset.channels).items():
        add_channels(dataset, Case(name, files, None, group=name))
    for name in sorted(labels.keys() - {_case_name(file) for file in images}):
        dataset.problems.append(Problem(name, f"{labels[name]}: is a label without its image"))
    return dataset


def _ends(file: Path, ending: str | None) -> bool:
    return ending is None or file.name.lower().endswith(ending.lower())


def _with_found_channels(dataset: Dataset, images: list[Path]) -> Dataset:
    """Name the channels by their numbers where nothing declares their names."""
    numbers = sorted({_channel(file) or "0000" for file in images})
    if len(dataset.channels) > 1 or len(numbers) == 1:
        return dataset
    return replace(dataset, channels=tuple(numbers))


def _by_case(images: list[Path], channels: tuple[str, ...]) -> dict[str, dict[str, Path]]:
    """Put the files of each case together, by the names of their channels; one beyond those keeps its number."""
    cases: dict[str, dict[str, Path]] = {}
    for file in images:
        number = int(_channel(file) or 0)
        name = channels[number] if number < len(channels) else f"{number:04d}"
        cases.setdefault(_case_name(file), {})[name] = file
    return cases


def _channel(file: Path) -> str | None:
    found = re.search(r"_(\d{4})$", volume_stem(file))
    return found[1] if found else None


def _case_name(file: Path) -> str:
    return re.sub(r"_\d{4}$", "", volume_stem(file))
