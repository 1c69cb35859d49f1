"""Which folder is which data set: the layouts that are recognised, and the cases found in them.

The name of a case is the file name of its image without the suffix; in nnU-Net's layout without `_0000` too, in
CHAOS the patient's folder, in a list what the column `case` says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from fullscale.data.case import WHOLE_SET, Case, Dataset, Problem
from fullscale.data.dicom.headers import is_seg, segment_names
from fullscale.data.dicom.series import is_dicom_folder
from fullscale.data.layouts.lists import COLUMNS, Description, Row, read_description, read_list
from fullscale.data.read import label_name
from fullscale.data.volume_files import volume_stem, volume_suffix
from fullscale.errors import DataError

_IMAGE_FOLDERS = ("imagestr", "images", "image", "imgs", "img", "volumes", "volume", "scans", "scan", "ct", "data")
_LABEL_FOLDERS = (
    *("labelstr", "labels", "label", "masks", "mask", "segmentations", "segmentation", "segs", "seg", "gt"),
    *("groundtruth", "ground_truth", "truth"),
)
_TEST_FOLDER = "imagests"
_LITTER = re.compile(r"^\._|^\.DS_Store$|^Thumbs\.db$")


def find_dataset(path: str | Path) -> Dataset:
    """Recognise a data set by its layout and list its cases; no voxel is read.

    Known are: the Medical Segmentation Decathlon (`dataset.json` with a list `training`), nnU-Net raw
    (`imagesTr/CASE_0000.nii.gz`, `labelsTr/CASE.nii.gz`), LiTS (`volume-N`, `segmentation-N`), CHAOS CT
    (`ID/DICOM_anon`, `ID/Ground`), two folders with files of equal names, and a CSV or JSON list with the columns
    `image,label,case,patient`.

    Raises:
        DataError: the path is missing, nothing known is found, a case has several images, or two have one name.
    """
    path = Path(path)
    if path.is_file():
        return _finish(_from_file(path))
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    layouts: tuple[Callable[[Path], Dataset | None], ...] = (_nnunet, _decathlon, _lits, _chaos, _two_folders)
    for recognise in layouts:
        dataset = recognise(path)
        if dataset is not None:
            return _finish(dataset)
    contents = "it is empty" if not any(path.iterdir()) else "none of the known layouts fits"
    raise DataError(
        f"{path}: no data set found, {contents} (Decathlon or nnU-Net dataset.json, volume-N with segmentation-N, "
        f"ID/DICOM_anon with ID/Ground, images/ with labels/); give a CSV file with the columns {','.join(COLUMNS)}"
    )


def _finish(dataset: Dataset) -> Dataset:
    """Order the cases by name, refuse a name that stands for two images, and report litter."""
    for cases in (dataset.cases, dataset.unlabelled):
        cases.sort(key=lambda case: case.id)
        for first, second in pairwise(cases):
            if first.id == second.id:
                raise DataError(
                    f"{dataset.root}: the case name '{first.id}' stands for two images, {first.image} and "
                    f"{second.image}; remove one, or give a CSV file with a column 'case'"
                )
    if dataset.labels is None:
        dataset = replace(dataset, labels=_segment_labels(dataset))
    litter = _litter(dataset)
    if litter:
        message = f"files left by the operating system are passed over: {len(litter)}, such as {litter[0]}"
        dataset.problems.append(Problem(WHOLE_SET, message, "warning"))
    return dataset


def _segment_labels(dataset: Dataset) -> dict[int, str] | None:
    """Take the labels' names from the DICOM SEGs among the masks; None where there is none.

    Raises:
        DataError: one number is another structure from file to file.
    """
    labels: dict[int, str] = {}
    for case in dataset.cases:
        for number, name in segment_names(case.label).items() if case.label and is_seg(case.label) else ():
            if labels.setdefault(number, name) != name:
                raise DataError(f"{case.label}: segment {number} is {name!r}, in another case {labels[number]!r}")
    return {0: "background", **dict(sorted(labels.items()))} if labels else None


def _litter(dataset: Dataset) -> list[Path]:
    folders = {file.parent for case in dataset.cases for file in (case.image, case.label) if file is not None}
    folders |= {file for case in dataset.cases for file in (case.image, case.label) if file and file.is_dir()}
    if dataset.root.is_dir():
        folders.add(dataset.root)
    return sorted(file for folder in folders for file in folder.iterdir() if _LITTER.match(file.name))


def _from_file(path: Path) -> Dataset:
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".json"):
        raise DataError(f"{path}: is a file, expected the folder of a data set or a CSV or JSON list of cases")
    if suffix == ".json" and path.read_bytes()[:200].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        description = read_description(path)
        if description.training is None:
            raise DataError(f"{path}: has no list 'training'; give the folder of the data set instead")
        return _described(path.parent, description, description.training)
    dataset = Dataset(path, f"{suffix[1:].upper()} list", path.stem, None, None)
    _add_rows(dataset, read_list(path))
    return dataset


def _decathlon(root: Path) -> Dataset | None:
    file = root / "dataset.json"
    if not file.is_file():
        return None
    description = read_description(file)
    if description.training is None:
        return None
    return _described(root, description, description.training)


def _described(root: Path, description: Description, training: list[Row]) -> Dataset:
    name = description.name or root.resolve().name
    dataset = Dataset(root, "Medical Segmentation Decathlon", name, description.modality, description.labels)
    _add_rows(dataset, training)
    present = [row for row in description.test if row.image.exists()]
    _add_rows(dataset, present)
    return dataset


def _add_rows(dataset: Dataset, rows: Iterable[Row]) -> None:
    """Take over the rows of a list; a row whose files are missing becomes a problem."""
    for row in rows:
        name = row.case or volume_stem(row.image)
        missing = [file for file in (row.image, row.label) if file is not None and not file.exists()]
        if missing:
            dataset.problems.append(Problem(name, f"{missing[0]}: no such file, the list names it"))
            continue
        case = Case(name, row.image, row.label, row.patient or name)
        (dataset.unlabelled if case.label is None else dataset.cases).append(case)


def _nnunet(root: Path) -> Dataset | None:
    folders = _subfolders(root)
    if "imagestr" not in folders or "labelstr" not in folders:
        return None
    images, tests = _volumes(folders["imagestr"]), _volumes(folders.get(_TEST_FOLDER))
    labels = {volume_stem(file): file for file in _volumes(folders["labelstr"])}
    if not any(_channel(file) and _without_channel(file) in labels for file in images):
        return None
    for image in images + tests:
        if _channel(image) not in ("0000", None):
            raise DataError(f"{image}: is a second image of its case; one image a case (_0000) is supported")
    dataset = _with_description(root, "nnU-Net raw")
    _pair(dataset, [(_without_channel(file), file) for file in images], labels)
    dataset.unlabelled.extend(_case(_without_channel(file), file) for file in tests)
    return dataset


def _with_description(root: Path, layout: str) -> Dataset:
    """Start a data set with what its `dataset.json` says, if it has one."""
    file = root / "dataset.json"
    said = read_description(file) if file.is_file() else Description(None, None, None, None, [])
    return Dataset(root, layout, said.name or root.resolve().name, said.modality, said.labels)


def _channel(file: Path) -> str | None:
    found = re.search(r"_(\d{4})$", volume_stem(file))
    return found[1] if found else None


def _without_channel(file: Path) -> str:
    return re.sub(r"_\d{4}$", "", volume_stem(file))


def _lits(root: Path) -> Dataset | None:
    found: dict[str, list[tuple[str, Path]]] = {"volume": [], "segmentation": [], "test-volume": []}
    for file in (file for folder in (root, *_subfolders(root).values()) for file in _volumes(folder)):
        match = re.fullmatch(r"(volume|segmentation|test-volume)-(\d+)", volume_stem(file))
        if match is not None:
            name = match[0] if match[1] == "test-volume" else f"volume-{match[2]}"
            found[match[1]].append((name, file))
    if not found["volume"] or not found["segmentation"]:
        return None
    dataset = Dataset(root, "LiTS", root.resolve().name, "CT", None)
    _pair(dataset, found["volume"], dict(found["segmentation"]))
    dataset.unlabelled.extend(_case(name, file) for name, file in found["test-volume"])
    return dataset


def _chaos(root: Path) -> Dataset | None:
    patterns = ("DICOM_anon", "*/DICOM_anon", "*/*/DICOM_anon", "*/*/*/DICOM_anon")
    scans = sorted(folder for pattern in patterns for folder in root.glob(pattern) if is_dicom_folder(folder))
    patients = {scan: scan.resolve().parent.name for scan in scans}
    if not any(name.isdecimal() for name in patients.values()):
        return None
    dataset = Dataset(root, "CHAOS", root.resolve().name, "CT", {0: "background", 1: "liver"})
    for scan, name in patients.items():
        truth = scan.parent / "Ground"
        if not name.isdecimal():
            dataset.problems.append(Problem(name, f"{scan}: is no CT (MR of CHAOS is passed over)", "warning"))
        elif truth.is_dir():
            dataset.cases.append(Case(name, scan, truth, name))
        else:
            dataset.unlabelled.append(_case(name, scan))
    return dataset


def _two_folders(root: Path) -> Dataset | None:
    folders = _subfolders(root)
    image_folders = [folders[name] for name in _IMAGE_FOLDERS if name in folders]
    label_folders = [folders[name] for name in _LABEL_FOLDERS if name in folders]
    if not image_folders or not label_folders:
        return None
    if len(image_folders) + len(label_folders) > 2:
        named = ", ".join(folder.name for folder in image_folders + label_folders)
        raise DataError(f"{root}: which folder holds what? Several fit ({named}); give a CSV file of the pairs")
    images = [(volume_stem(file), file) for file in _scans(image_folders[0])]
    labels = {name: file for file in _visible(label_folders[0]) if file.is_file() and (name := label_name(file))}
    if not labels.keys() & dict(images).keys():
        raise DataError(
            f"{root}: {image_folders[0].name}/ and {label_folders[0].name}/ hold no volumes of equal names; "
            f"rename them, or give a CSV file with the columns {','.join(COLUMNS)}"
        )
    dataset = _with_description(root, "two folders")
    _pair(dataset, images, labels)
    dataset.unlabelled.extend(_case(volume_stem(file), file) for file in _scans(folders.get(_TEST_FOLDER)))
    return dataset


def _pair(dataset: Dataset, images: list[tuple[str, Path]], labels: dict[str, Path]) -> None:
    """Make cases of images and labels of one name; an image alone is unlabelled, a label alone is a problem."""
    for name, image in images:
        if name in labels:
            dataset.cases.append(Case(name, image, labels[name], name))
        else:
            dataset.unlabelled.append(_case(name, image))
            dataset.problems.append(Problem(name, f"{image}: has no label, left out of training", "warning"))
    for name in sorted(labels.keys() - dict(images).keys()):
        dataset.problems.append(Problem(name, f"{labels[name]}: is a label without its image"))


def _case(name: str, image: Path) -> Case:
    return Case(name, image, None, name)


def _subfolders(folder: Path) -> dict[str, Path]:
    return {entry.name.lower(): entry for entry in _visible(folder) if entry.is_dir()}


def _volumes(folder: Path | None) -> list[Path]:
    return [entry for entry in _visible(folder) if volume_suffix(entry) and entry.is_file()]


def _scans(folder: Path | None) -> list[Path]:
    """List volume files and folders of DICOM slices."""
    return sorted([*_volumes(folder), *(entry for entry in _visible(folder) if is_dicom_folder(entry))])


def _visible(folder: Path | None) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith(".")) if folder else []
