"""Identifiers of a DICOM series: which are blank, and a copy of the series with new ones.

Reading a scan needs none of them. A DICOM SEG refers to its images by them, so that without them no viewer could lay
it over the scan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage, generate_uid

from fullscale.data.dicom.headers import read_dataset, silence
from fullscale.data.dicom.series import DicomHeader
from fullscale.data.dicom.store import digest
from fullscale.errors import DataError
from fullscale.files import atomic_folder

IDENTIFIERS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"),
    *("StudyTime", "ReferringPhysicianName"),
)
"""Attributes that the standard wants in every image but lets be empty (type 2)."""
_KINDS = {"CT": CTImageStorage, "MR": MRImageStorage, "PT": PositronEmissionTomographyImageStorage}


def source_headers(header: DicomHeader) -> list[Any]:
    """Read the headers, without pixels, of the files that a volume came from, in the order of its slices."""
    return [_header(path) for path in dict.fromkeys(header.files)]


def _header(path: Path) -> Any:
    dataset = read_dataset(path)
    for name in _MAY_BE_EMPTY:
        if name not in dataset:
            setattr(dataset, name, None)
    return dataset


def missing_identifiers(headers: Sequence[Any]) -> list[str]:
    """Name the identifiers that are blank, or not one for each image where they should be."""
    with silence():
        missing = [name for name in IDENTIFIERS if any(not header.get(name) for header in headers)]
        if "SOPInstanceUID" not in missing and len({header.SOPInstanceUID for header in headers}) < len(headers):
            missing.append("SOPInstanceUID")
    return missing


def fill_identifiers(headers: Sequence[Any], blank: Sequence[str]) -> None:
    """Fill blank identifiers of headers in memory, as `write_with_identifiers` would in the files.

    Raises:
        DataError: the kind of image is blank too and does not follow from the modality.
    """
    for number, header in enumerate(headers):
        _fill(header, blank, dict.fromkeys(IDENTIFIERS, "all") | {"SOPInstanceUID": str(number)})


def write_with_identifiers(header: DicomHeader, folder: Path) -> tuple[DicomHeader, str]:
    """Write a copy of a series in which blank identifiers are filled; all else, pixels included, stays as it is.

    New ones follow from the contents of the files, so that the same series gets the same ones each time. What was done
    is kept in each copy (ContributingEquipmentSequence).

    Args:
        header: of the volume that was read.
        folder: new folder for the copies, named like the files; it replaces one of an earlier copy.

    Returns:
        The header of the same volume, read from the copies, and a note on what was done.

    Raises:
        DataError: the kind of image is blank too and does not follow from the modality.
        FullscaleError: the folder cannot be written.
    """
    blank = missing_identifiers(source_headers(header))
    digests = {path: digest(path) for path in dict.fromkeys(header.files)}
    series = hashlib.sha256("".join(sorted(digests.values())).encode()).hexdigest()
    copies: dict[Path, Path] = {}
    with atomic_folder(folder) as temporary, silence():
        for number, (path, its_digest) in enumerate(digests.items(), 1):
            copy = f"{number:05d}.dcm"
            dataset = read_dataset(path, stop_before_pixels=False)
            _fill(dataset, blank, dict.fromkeys(IDENTIFIERS, series) | {"SOPInstanceUID": its_digest})
            dataset.save_as(temporary / copy, enforce_file_format=True)
            copies[path] = folder / copy
    note = (
        f"{', '.join(blank)} were blank or not unique: new ones are in the copy {folder}, which the segmentation is of"
    )
    files = tuple(copies[path] for path in header.files)
    return replace(header, files=files, series_uid=""), note


def _fill(dataset: Any, blank: Sequence[str], seeds: Mapping[str, str]) -> None:
    for name in blank:
        new = _kind_of_image(dataset) if name == "SOPClassUID" else generate_uid(entropy_srcs=[name, seeds[name]])
        setattr(dataset, name, new)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    done = pydicom.Dataset()
    done.PurposeOfReferenceCodeSequence = [_code("109103", "DCM", "Modifying Equipment")]
    done.Manufacturer = done.ManufacturerModelName = "fullscale"
    done.SoftwareVersions = version("fullscale")
    done.ContributionDescription = f"New identifiers where they were blank or not unique: {', '.join(blank)}"
    dataset.ContributingEquipmentSequence = [*(dataset.get("ContributingEquipmentSequence") or []), done]


def _kind_of_image(dataset: Any) -> Any:
    stated = dataset.file_meta.get("MediaStorageSOPClassUID")
    kind = stated or _KINDS.get(str(dataset.get("Modality")))
    if not kind:
        raise DataError(f"SOPClassUID is blank and does not follow from the modality {dataset.get('Modality')!r}")
    return kind


def _code(value: str, scheme: str, meaning: str) -> Any:
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code
