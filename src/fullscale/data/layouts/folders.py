"""What the layouts share: looking into folders, and pairing images with labels of one name."""

from __future__ import annotations

from pathlib import Path

from fullscale.data.case import LEFT_OUT, Case, Dataset, Problem
from fullscale.data.dicom.series import is_study
from fullscale.data.image_files import is_picture
from fullscale.data.volume_files import volume_suffix

TEST_FOLDER = "imagests"
"""Folder of images without labels, in lower case."""


def visible(folder: Path | None) -> list[Path]:
    """List what is in a folder, hidden entries left out; nothing where there is no folder."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith(".")) if folder else []


def subfolders(folder: Path) -> dict[str, Path]:
    """Return the folders in a folder by their names in lower case."""
    return {entry.name.lower(): entry for entry in visible(folder) if entry.is_dir()}


def volumes(folder: Path | None) -> list[Path]:
    """List the volume files in a folder, and its images as `without_previews` does."""
    return without_previews([entry for entry in visible(folder) if volume_suffix(entry) and entry.is_file()])


def without_previews(files: list[Path]) -> list[Path]:
    """Leave out images beside other files, which are pictures of those; images alone are the data."""
    return [file for file in files if not is_picture(file)] or files


def scans(folder: Path | None) -> list[Path]:
    """List the volume files in a folder, and the folders and zips in it that hold DICOM images."""
    studies = (entry for entry in visible(folder) if (entry.is_dir() or entry.suffix.lower() == ".zip"))
    return sorted([*volumes(folder), *(entry for entry in studies if is_study(entry))])


def pair(dataset: Dataset, images: list[tuple[str, Path]], labels: dict[str, Path]) -> None:
    """Make cases of images and labels of one name; an image alone is unlabelled, a label alone is a problem."""
    for name, image in images:
        dataset.add(Case.of_image(name, image, labels.get(name)))
        if name not in labels:
            dataset.problems.append(Problem(name, f"{image}: has no label, {LEFT_OUT}", "warning"))
    for name in sorted(labels.keys() - dict(images).keys()):
        dataset.problems.append(Problem(name, f"{labels[name]}: is a label without its image"))
