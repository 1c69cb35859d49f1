"""Identifiers of a DICOM series: which are blank, and a copy of the series with new ones.

Reading a scan needs none of them. A DICOM SEG refers to its images by them, so that without them no viewer could lay
it over the scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydicom

from fullscale.data.dicom import DicomHeader

IDENTIFIERS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"),
    *("StudyTime", "ReferringPhysicianName"),
)
"""Attributes that the standard wants in every image but lets be empty (type 2)."""


def source_headers(header: DicomHeader) -> list[Any]:
    """Read the headers, without pixels, of the files that a volume came from, in the order of its slices."""
    return [_header(path) for path in dict.fromkeys(header.files)]


def _header(path: Path) -> Any:
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    for name in _MAY_BE_EMPTY:
        if name not in dataset:
            setattr(dataset, name, None)
    return dataset


def missing_identifiers(headers: Sequence[Any]) -> list[str]:
    """Name the identifiers that are blank, or not one for each image where they should be."""
    missing = [name for name in IDENTIFIERS if any(not header.get(name) for header in headers)]
    if "SOPInstanceUID" not in missing and len({header.SOPInstanceUID for header in headers}) < len(headers):
        missing.append("SOPInstanceUID (one for several images)")
    return missing
