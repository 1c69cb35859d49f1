"""Two folders, one of images and one of labels, whose files have equal names."""

from __future__ import annotations

from pathlib import Path

from fullscale.data.case import Case, Dataset
from fullscale.data.image_files import PICTURES
from fullscale.data.layouts.description import beside
from fullscale.data.layouts.folders import TEST_FOLDER, pair, scans, subfolders, visible
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
    labels = {name: file for file in visible(label_folders[0]) if file.is_file() and (name := label_name(file))}
    if not labels.keys() & dict(images).keys():
        raise DataError(_nothing_pairs(root, image_folders[0], label_folders[0]))
    dataset = beside(root).dataset(root, "two folders")
    pair(dataset, images, labels)
    for file in scans(folders.get(TEST_FOLDER)):
        dataset.add(Case.of_image(stem_of(file), file))
    return dataset


def _nothing_pairs(root: Path, images: Path, labels: Path) -> str:
    """Say why no image has a label, and what to do."""
    pictures = [folder.name for folder in (images, labels) if _holds_pictures(folder)]
    if pictures:
        return (
            f"{root}: {'/ and '.join(pictures)}/ hold pictures (PNG, JPEG, TIFF ...), which are not read as scans or "
            "label maps; write them as volumes (.nii.gz, .nrrd, .mha). PNG masks are read beside a DICOM series, as "
            "ID/DICOM_anon with ID/Ground"
        )
    return (
        f"{root}: {images.name}/ and {labels.name}/ hold no volumes of equal names; "
        f"rename them, or give a CSV file with the columns {','.join(COLUMNS)}"
    )


def _holds_pictures(folder: Path) -> bool:
    """Tell whether a folder, or a folder in it, holds pictures and no volumes."""
    files = [file for inner in (folder, *subfolders(folder).values()) for file in visible(inner) if file.is_file()]
    return not scans(folder) and any(file.suffix.lower() in PICTURES for file in files)
