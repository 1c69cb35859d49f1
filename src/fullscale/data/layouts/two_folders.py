"""Two folders, one of images and one of labels, whose files have equal names."""

from __future__ import annotations

from pathlib import Path

from fullscale.data.case import Case, Dataset
from fullscale.data.layouts.description import beside
from fullscale.data.layouts.folders import TEST_FOLDER, pair, scans, subfolders, visible, without_previews
from fullscale.data.layouts.rows import COLUMNS
from fullscale.data.read import label_name, stem_of
from fullscale.errors import DataError

_IMAGE_FOLDERS = ("imagestr", "images", "image", "imgs", "img", "volumes", "volume", "scans", "scan", "ct", "data")
_LABEL_FOLDERS = (
    *("labelstr", "labels", "label", "masks", "mask", "segmentations", "segmentation", "segs", "seg", "gt"),
    *("groundtruth", "ground_truth", "truth"),
)


def recognise(root: Path) -> Dataset | None:
    """Take a folder with one folder for images and one for labels, by their usual names.

    Raises:
        DataError: several folders could be either, or no file of one is named like a file of the other.
    """
    folders = subfolders(root)
    image_folders = [folders[name] for name in _IMAGE_FOLDERS if name in folders]
    label_folders = [folders[name] for name in _LABEL_FOLDERS if name in folders]
    if not image_folders or not label_folders:
        return None
    if len(image_folders) + len(label_folders) > 2:
        named = ", ".join(folder.name for folder in image_folders + label_folders)
        raise DataError(f"{root}: which folder holds what? Several fit ({named}); give a CSV file of the pairs")
    images = [(stem_of(file), file) for file in scans(image_folders[0])]
    labels = _labels(label_folders[0])
    if not labels.keys() & dict(images).keys():
        raise DataError(_nothing_pairs(root, image_folders[0], label_folders[0]))
    dataset = beside(root).dataset(root, "two folders")
    pair(dataset, images, labels)
    for file in scans(folders.get(TEST_FOLDER)):
        dataset.add(Case.of_image(stem_of(file), file))
    return dataset


def _labels(folder: Path) -> dict[str, Path]:
    """Return the label maps in a folder by the names of their cases."""
    labels: dict[str, Path] = {}
    for file in without_previews([file for file in visible(folder) if file.is_file() and label_name(file)]):
        other = labels.setdefault(label_name(file) or "", file)
        if other != file:
            raise DataError(f"{folder}: {other.name} and {file.name} stand for one case; remove one")
    return labels


def _nothing_pairs(root: Path, images: Path, labels: Path) -> str:
    """Say why no image has a label, and what to do."""
    return (
        f"{root}: {images.name}/ and {labels.name}/ hold no volumes of equal names, and no images; "
        f"rename them, or give a CSV file with the columns {','.join(COLUMNS)}"
    )
