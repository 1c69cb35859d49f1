"""Masks beside their images: `NAME` with `NAME_mask`, and with `NAME_mask_1` where one has several, as in BUSI."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from fullscale.data.case import LEFT_OUT, Case, Dataset, Problem
from fullscale.data.layouts.description import beside
from fullscale.data.layouts.folders import subfolders, volumes
from fullscale.data.volume_files import volume_stem

_MASK = re.compile(r"^(.+?)[ _-](?:mask|seg|segmentation|label)(?:[ _-](\d+))?$", re.IGNORECASE)


def recognise(root: Path) -> Dataset | None:
    """Take a folder, or one of folders such as `benign` and `malignant`, in which masks are named after images."""
    by_folder = [files for folder in (root, *subfolders(root).values()) if (files := _by_name(folder))]
    if not any(_masks(files) for files in by_folder):
        return None
    dataset = beside(root).dataset(root, "masks beside their images")
    names = [name for files in by_folder for name in files]
    for files in by_folder:
        masks = _masks(files)
        taken = {name for parts in masks.values() for name in parts}
        for name in sorted(files.keys() - taken):
            case = name if names.count(name) == 1 else f"{files[name].parent.name}_{name}"
            _add(dataset, case, files[name], [files[mask] for mask in masks.get(name, [])])
    return dataset


def _add(dataset: Dataset, name: str, image: Path, masks: list[Path]) -> None:
    if masks:
        dataset.add(replace(Case.of_image(name, image, masks[0]), masks=tuple(masks[1:])))
        return
    found = _MASK.match(volume_stem(image))
    text = "is a label without its image" if found else f"has no label, {LEFT_OUT}"
    dataset.problems.append(Problem(name, f"{image}: {text}", "error" if found else "warning"))
    if not found:
        dataset.add(Case.of_image(name, image))


def _by_name(folder: Path) -> dict[str, Path]:
    return {volume_stem(file): file for file in volumes(folder)}


def _masks(files: dict[str, Path]) -> dict[str, list[str]]:
    """Return the names of the masks of each image, in the order of their numbers."""
    found: dict[str, list[tuple[int, str]]] = {}
    for name in files:
        match = _MASK.match(name)
        if match is not None and match[1] in files:
            found.setdefault(match[1], []).append((int(match[2] or 0), name))
    return {image: [name for _, name in sorted(masks)] for image, masks in found.items()}
