"""The images that a DICOM SEG refers to: their headers, made fit to be copied from.

A segmentation carries the patient and the study of its images. Scanners, archives and anonymisers write values there
that the standard does not allow, and one of them would spoil the whole segmentation. Such values are left empty, and
told. Lengths and distances come from the affine that the scan was read with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from pydicom import Dataset, config
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import BaseTag
from pydicom.uid import generate_uid
from pydicom.valuerep import DSfloat, validate_value

from fullscale.data.dicom.headers import silence
from fullscale.data.dicom.identifiers import source_headers
from fullscale.data.dicom.series import DicomHeader
from fullscale.geometry.volume import Volume
from fullscale.text import one_line

_COPIED_GROUPS = (0x0008, 0x0010, 0x0012, 0x0032, 0x0040)
"""Groups of the patient's, the study's, the trial's and the specimen's attributes."""
_STUDY_ID = 0x00200010
_PLAIN_TEXT = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM")
"""Representations that are plain ASCII, judged by the bytes of the file."""
_TEXT = ("LO", "LT", "PN", "SH", "ST", "UC", "UT")
_ENUMERATED = {
    "PatientSex": ("M", "F", "O"),
    "PatientSexNeutered": ("ALTERED", "UNALTERED"),
    "PatientIdentityRemoved": ("YES", "NO"),
    "QualityControlSubject": ("YES", "NO"),
    "SmokingStatus": ("YES", "NO", "UNKNOWN"),
    "LongitudinalTemporalInformationModified": ("UNMODIFIED", "MODIFIED", "REMOVED"),
}
"""Attributes that have no other values: DICOM PS3.3, C.7.1.1, C.7.1.4, C.7.2.2 and C.12.1."""
_LENGTHS = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_WITHHELD = (
    "PatientName",
    "PatientID",
    "PatientAddress",
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientMotherBirthName",
)
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_THICKEST_MM = 1e4
_LONGEST_SHOWN = 40


def clean_sources(scan: Volume, header: DicomHeader) -> tuple[list[Dataset], list[str]]:
    """Read the headers of a scan's images and leave empty what is not valid in them.

    Returns:
        The headers in the order of the slices, and a note for each attribute that was changed.

    Raises:
        DataError: a file cannot be read any more.
    """
    with silence():
        sources = source_headers(header)
        changed: dict[str, tuple[str, str, int]] = {}
        for source in sources:
            for name, value, remedy in [*_clean(source), *_clean_frame(source)]:
                changed[name] = (value, remedy, changed[name][2] + 1 if name in changed else 1)
            _set_lengths(source, scan.spacing_mm[2])
    notes = [
        f"{name} {value} of {count} images is not valid; in the segmentation it is {remedy}"
        for name, (value, remedy, count) in changed.items()
    ]
    return sources, notes


def _clean(dataset: Dataset, inside: str = "") -> Iterator[tuple[str, str, str]]:
    """Leave attributes empty that are not valid, also within sequences; yield name, value and what was done."""
    for tag in [tag for tag in list(dataset.keys()) if inside or tag.group in _COPIED_GROUPS or tag == _STUDY_ID]:
        name = inside + _name(tag)
        raw = dataset.get_item(tag)
        problem = _problem(dataset, tag, raw)
        if problem is not None:
            vr = raw.VR or "UN" if raw is not None else "UN"
            value = "(withheld)" if _name(tag).split(" ")[0] in _WITHHELD else problem
            del dataset[tag]
            if vr != "SQ":
                dataset.add(DataElement(tag, vr, None))
            yield name, value, "left empty"
        elif dataset[tag].VR == "SQ":
            for item in dataset[tag].value:
                yield from _clean(item, f"{name} > ")


def _problem(dataset: Dataset, tag: BaseTag, raw: DataElement | RawDataElement | None) -> str | None:
    """Return the value of an attribute that is not valid, shortened, or None for one that is."""
    content = raw.value if isinstance(raw, RawDataElement) else None
    try:
        element = dataset[tag]
        if element.VR in _PLAIN_TEXT and isinstance(content, bytes):
            texts = content.decode("latin-1").rstrip("\0 ").split("\\")
        elif element.VR in (*_PLAIN_TEXT, *_TEXT):
            texts = [
                str(value) for value in (element.value if element.VM > 1 else [element.value]) if value is not None
            ]
        else:
            return None
    except Exception as error:
        return _shown(content.decode("latin-1") if isinstance(content, bytes) else one_line(error))
    allowed = _ENUMERATED.get(keyword_for_tag(tag))
    wrong = [text for text in texts if not _is_valid(element.VR, text.strip()) or not _is_known(text.strip(), allowed)]
    return _shown(wrong[0]) if wrong else None


def _is_known(text: str, allowed: tuple[str, ...] | None) -> bool:
    return not text or allowed is None or text in allowed


def _is_valid(vr: str, text: str) -> bool:
    try:
        validate_value(vr, text, config.RAISE)
        if vr == "DA" and text:
            datetime.strptime(text, "%Y%m%d")
        if vr == "TM" and text:
            datetime.strptime(text[:6], "%H%M%S"[: len(text[:6])])
        if vr in ("DS", "IS") and text:
            float(text)
    except ValueError:
        return False
    return True


def _clean_frame(source: Dataset) -> Iterator[tuple[str, str, str]]:
    """Give a frame of reference that is no identifier a new one, which follows from what was there."""
    stated = str(source.get("FrameOfReferenceUID") or "")
    if stated and not re.fullmatch(r"[0-9.]{1,64}", stated):
        source.FrameOfReferenceUID = generate_uid(entropy_srcs=[str(source.get("StudyInstanceUID")), stated])
        yield _name(BaseTag(0x00200052)), _shown(stated), f"{source.FrameOfReferenceUID}"


def _set_lengths(source: Dataset, thickness_mm: float) -> None:
    """State the lengths of a slice in at most 16 letters; a thickness that is missing is that of the voxels."""
    for name in _LENGTHS:
        if source.get(name):
            setattr(source, name, [DSfloat(float(value), auto_format=True) for value in source[name].value])
    groups = [group for name in _GROUPS for group in source.get(name) or []]
    for measures in (source, *(item for group in groups for item in group.get("PixelMeasuresSequence") or [])):
        try:
            stated = float(measures.get("SliceThickness") or 0)
        except (TypeError, ValueError):
            stated = 0.0
        measures.SliceThickness = DSfloat(stated if 0 < stated < _THICKEST_MM else thickness_mm, auto_format=True)


def _name(tag: BaseTag) -> str:
    return f"{keyword_for_tag(tag) or 'private attribute'} ({tag.group:04X},{tag.element:04X})"


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "...")
