"""Attributes of a scan that the standard does not allow: left empty in its segmentation and told, before any work."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

from fullscale.data.dicom.identifiers import missing_identifiers, source_headers
from fullscale.data.dicom.seg import require_sources, write_seg
from fullscale.data.dicom.series import read_series
from fullscale.data.labels import Algorithm
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume
from tests.data.dicom.test_seg import complaints
from tests.dicom_slices import SLICES, STEP_MM, write_series

ALGORITHM = Algorithm("fullscale unet3+", "1")
LIVER = {1: "liver"}


def scan_with(folder: Path, keyword: str, vr: str, value: Any) -> Volume:
    """A series whose slices have an attribute of any value; None removes it."""
    write_series(folder)
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        if value is None:
            del dataset[keyword]
        else:
            tag = tag_for_keyword(keyword)
            assert tag is not None
            dataset[tag] = RawDataElement(BaseTag(tag), vr, len(value), value.encode(), 0, False, True)
        dataset.save_as(file)
    return read_series(folder)


def written(scan: Volume, path: Path) -> pydicom.Dataset:
    write_seg(path, scan.with_array((scan.array > 200).astype(np.uint8)), LIVER, ALGORITHM)
    assert complaints(path) == []
    return pydicom.dcmread(path)


@pytest.mark.filterwarnings("ignore:Invalid value|The value length:UserWarning")
@pytest.mark.parametrize(
    ("keyword", "vr", "value", "named"),
    [
        ("PatientWeight", "DS", "70.123456789012345678", "PatientWeight (0010,1030) '70.123456789012345678'"),
        ("PatientBirthDate", "DA", "00000000", "PatientBirthDate (0010,0030) '00000000'"),
        ("PatientBirthDate", "DA", "1970-01-01", "PatientBirthDate (0010,0030) '1970-01-01'"),
        ("StudyTime", "TM", "25:61", "StudyTime (0008,0030) '25:61'"),
        ("StudyDate", "DA", "20261399", "StudyDate (0008,0020) '20261399'"),
        ("PatientAge", "AS", "forty", "PatientAge (0010,1010) 'forty'"),
        ("PatientSize", "DS", "1,75", "PatientSize (0010,1020) '1,75'"),
        ("StudyID", "SH", "much longer than sixteen", "StudyID (0020,0010) 'much longer than sixteen'"),
        ("AccessionNumber", "SH", "x" * 80, f"AccessionNumber (0008,0050) '{'x' * 40}...'"),
        ("PatientSex", "CS", "U", "PatientSex (0010,0040) 'U'"),
        ("PatientSex", "CS", "m", "PatientSex (0010,0040) 'm'"),
        ("PatientIdentityRemoved", "CS", "PARTLY", "PatientIdentityRemoved (0012,0062) 'PARTLY'"),
        ("SmokingStatus", "CS", "FORMER", "SmokingStatus (0010,21A0) 'FORMER'"),
        ("PatientID", "LO", "y" * 70, "PatientID (0010,0020) (withheld)"),
    ],
)
def test_what_is_not_valid_is_left_empty_and_named_before_the_work(tmp_path: Path, keyword, vr, value, named):
    scan = scan_with(tmp_path / "scan", keyword, vr, value)
    [note] = require_sources(scan, LIVER, ALGORITHM)
    assert note == f"{named} of {SLICES} images is not valid; in the segmentation it is left empty"
    assert not written(scan, tmp_path / "seg.dcm").get(keyword)
    assert pydicom.dcmread(scan.header.files[0])[keyword].value, "the scan itself stays as it is"


def test_valid_attributes_are_carried_over_as_they_are(tmp_path: Path):
    write_series(
        tmp_path / "scan",
        PatientWeight="70.5",
        PatientBirthDate="19700131",
        PatientName="Müller^A",
        StudyTime="101112.5",
        SpecificCharacterSet="ISO_IR 192",
    )
    scan = read_series(tmp_path / "scan")
    assert require_sources(scan, LIVER, ALGORITHM) == []
    segmentation = written(scan, tmp_path / "seg.dcm")
    assert (segmentation.PatientWeight, segmentation.PatientBirthDate) == (70.5, "19700131")
    assert (str(segmentation.PatientName), segmentation.StudyTime) == ("Müller^A", "101112.5")


@pytest.mark.parametrize("value", [None, "", "0", "-3"])
def test_a_thickness_that_is_missing_is_that_of_the_voxels(tmp_path: Path, value: str | None):
    scan = scan_with(tmp_path / "scan", "SliceThickness", "DS", value)
    assert require_sources(scan, LIVER, ALGORITHM) == []
    [shared] = written(scan, tmp_path / "seg.dcm").SharedFunctionalGroupsSequence
    assert float(shared.PixelMeasuresSequence[0].SliceThickness) == pytest.approx(STEP_MM)


@pytest.mark.filterwarnings("ignore:Invalid value:UserWarning")
def test_a_frame_of_reference_that_is_no_identifier_gets_one(tmp_path: Path):
    scan = scan_with(tmp_path / "scan", "FrameOfReferenceUID", "UI", "anon-frame-1")
    [note] = require_sources(scan, LIVER, ALGORITHM)
    new = str(written(scan, tmp_path / "seg.dcm").FrameOfReferenceUID)
    assert note.startswith("FrameOfReferenceUID (0020,0052) 'anon-frame-1' of 5 images is not valid")
    assert note.endswith(new)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert missing_identifiers(source_headers(scan.header)) == []
    assert pydicom.uid.UID(new).is_valid


def test_what_no_segmentation_can_be_made_of_is_refused_before_the_work(tmp_path: Path):
    write_series(tmp_path / "scan", SOPClassUID="1.2.3.4")
    with pytest.raises(DataError, match=r"^[^\n]*cannot be read or written as DICOM SEG[^\n]*$"):
        require_sources(read_series(tmp_path / "scan"), LIVER, ALGORITHM)
    blank = read_series(write_series(tmp_path / "blank", StudyInstanceUID=""))
    with pytest.raises(DataError, match="--fix-identifiers"):
        require_sources(blank, LIVER, ALGORITHM)
    assert require_sources(blank, LIVER, ALGORITHM, new_identifiers=True) == []
