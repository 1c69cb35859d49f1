"""DICOM files are known by their content, and planes that are no slices by their ImageType."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from fullscale.data.dicom.headers import is_dicom_file
from fullscale.data.dicom.identifiers import write_with_identifiers
from fullscale.data.dicom.series import is_study, list_series, read_series
from fullscale.errors import DataError, GeometryError
from tests.dicom_slices import SLICES, refusal, slice_hu, slice_position, write_series, write_slice


def strip(file: Path, implicit: bool, meta: bool = False) -> None:
    """Write a file again as its data set alone, or with its meta header but no preamble."""
    dataset = pydicom.dcmread(file)
    content = file.read_bytes()
    if meta:
        file.write_bytes(content[132:])
        return
    bare = pydicom.Dataset(dataset)
    pydicom.dcmwrite(file, bare, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    assert file.read_bytes()[128:132] != b"DICM"


@pytest.mark.parametrize("options", [{"implicit": True}, {"implicit": False}, {"implicit": False, "meta": True}])
@pytest.mark.parametrize("kept", [0, 3])
def test_every_file_without_preamble_and_mark_is_read(tmp_path: Path, options: dict[str, bool], kept: int):
    expected = read_series(write_series(tmp_path / "whole"))
    folder = write_series(tmp_path / "bare")
    for file in sorted(folder.iterdir())[kept:]:
        strip(file, **options)
    assert is_study(folder)
    volume = read_series(folder)
    np.testing.assert_array_equal(volume.array, expected.array)
    np.testing.assert_array_equal(volume.affine, expected.affine)
    found = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    assert sorted(map(Path, found)) == sorted(volume.header.files)


def test_a_bare_file_gets_its_identifiers_too(tmp_path: Path):
    folder = write_series(tmp_path / "bare", StudyInstanceUID="")
    for file in folder.iterdir():
        strip(file, implicit=True)
    scan = read_series(folder)
    header, _ = write_with_identifiers(scan.header, tmp_path / "copy")
    np.testing.assert_array_equal(read_series(tmp_path / "copy").array, scan.array)
    assert pydicom.dcmread(header.files[0]).StudyInstanceUID


@pytest.mark.parametrize(
    "content", [b"", b"\x08\x00", b"\x08\x00\x99\x99CS\x02\x00", b"text " * 90, b"\x5c\x01\0\0" * 99]
)
def test_other_bytes_are_no_dicom(tmp_path: Path, content: bytes):
    (tmp_path / "file").write_bytes(content)
    assert not is_dicom_file(tmp_path / "file")
    write_series(tmp_path / "scan")
    (tmp_path / "scan" / "file").write_bytes(content)
    volume = read_series(tmp_path / "scan")
    assert volume.shape[2] == SLICES
    assert volume.notes == ("1 file passed over (not DICOM: file)",)


def test_a_bare_slice_cut_short_does_not_vanish(tmp_path: Path):
    folder = write_series(tmp_path / "scan")
    victim = sorted(folder.iterdir())[0]
    strip(victim, implicit=True)
    victim.write_bytes(victim.read_bytes()[:300])
    assert victim.name in refusal(folder)


def test_everything_that_is_not_read_is_counted_with_its_reason(tmp_path: Path):
    folder = write_series(tmp_path / "scan")
    (folder / "notes.txt").write_text("x" * 500)
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "link").symlink_to(folder / "nowhere")
    (folder / "up").symlink_to(folder, target_is_directory=True)
    report = pydicom.dcmread(sorted(folder.iterdir())[1])
    write_slice(folder / "report", slice_hu(0), slice_position(0), Rows=None, Modality="SR", SOPClassUID="1.2")
    report = pydicom.dcmread(folder / "report")
    report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    report.save_as(folder / "report")
    reasons = {file.path.name: file.reason for file in list_series(folder).passed_over}
    assert reasons == {
        "notes.txt": "not DICOM",
        ".DS_Store": "hidden",
        "link": "no file, or a link that leads nowhere",
        "report": "no image but SR",
    }
    [note] = read_series(folder).notes
    assert note.startswith("4 files passed over (hidden: .DS_Store; ")


def test_a_linked_folder_is_followed(tmp_path: Path):
    write_series(tmp_path / "elsewhere")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "ct").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert read_series(tmp_path / "study").shape[2] == SLICES


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("MOSAIC", "are a mosaic, many slices tiled in one image"),
        ("MIP", "are a maximum intensity projection"),
        ("PROJECTION IMAGE", "are a projection"),
        ("VOLUME_RENDERING", "are a 3D rendering"),
        ("CURVED MPR", "are a curved reformat"),
    ],
)
def test_planes_that_are_no_slices_are_named_alone_among_slices_and_beside_a_scan(tmp_path: Path, value, named):
    kind = {"ImageType": ["DERIVED", "SECONDARY", value]}
    alone = write_series(tmp_path / "alone", **kind)
    assert f"5 of 5 images {named}" in refusal(alone, GeometryError)
    among = write_series(tmp_path / "among", slices=range(4))
    write_slice(among / "odd", slice_hu(4), slice_position(4), **kind)
    assert f"1 of 5 images {named}" in refusal(among, GeometryError)
    beside = tmp_path / "beside"
    write_series(beside / "scan")
    write_series(beside / "derived", SeriesInstanceUID="4.4", **kind)
    volume = read_series(beside)
    assert volume.header.series_uid == "1.2.3"
    assert "passed over CT '' (5 slices)" in volume.notes[0]
    assert {series.uid: named.removeprefix("are ") in series.kind for series in list_series(beside).series} == {
        "1.2.3": False,
        "4.4": True,
    }


@pytest.mark.parametrize("value", ["AXIAL", "MPR", "ADC", "M"])
def test_reformats_and_maps_are_still_slices(tmp_path: Path, value: str):
    folder = write_series(tmp_path / "scan", ImageType=["DERIVED", "SECONDARY", value])
    assert read_series(folder).shape[2] == SLICES


def test_a_named_slice_that_is_not_dicom_at_all_is_refused(tmp_path: Path):
    folder = write_series(tmp_path / "scan")
    (folder / "IM.dcm").write_text("an error page of a web server " * 20)
    with pytest.raises(DataError, match=r"^[^\n]*IM.dcm is named like a slice but is no DICOM file"):
        read_series(folder)
