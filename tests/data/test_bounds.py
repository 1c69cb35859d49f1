"""Sizes that a header claims are checked against the file and the memory before anything is allocated."""

import gzip
import struct
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest

from fullscale.data import bounds
from fullscale.data.bounds import human_size, require_room
from fullscale.data.read import read_image
from fullscale.data.volume_files import read_volume, write_volume
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume
from tests.bombs import grown_and_said, meta_header, nifti_header, nrrd_header, refused, zeros
from tests.dicom_slices import refusal, slice_hu, slice_position, write_series, write_slice

HUGE = (2048, 2048, 1024)
"""4 GiB of uint8, beyond what any file may become."""


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
def test_a_small_file_that_claims_gigabytes_is_refused_before_they_are_taken(tmp_path: Path, name: str):
    contents = {
        "a.nii": nifti_header(HUGE),
        "a.nii.gz": gzip.compress(nifti_header(HUGE)),
        "a.nrrd": nrrd_header(HUGE, "raw"),
        "a.mha": meta_header(HUGE, b"", compressed=False),
    }
    (tmp_path / name).write_bytes(contents[name])
    assert "states 4 GiB, but" in refused(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha"])
def test_gigabytes_of_zeros_in_a_few_megabytes_are_refused(tmp_path: Path, name: str):
    count = int(np.prod(HUGE))
    packed = {
        "a.nii.gz": gzip.compress(nifti_header(HUGE)) + zeros(count, 31),
        "a.nrrd": nrrd_header(HUGE, "gzip") + zeros(count, 31),
        "a.mha": meta_header(HUGE, zeros(count, 15)),
    }
    (tmp_path / name).write_bytes(packed[name])
    assert "more than 100 to 1 is no scan" in refused(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha"])
def test_far_more_bytes_than_the_header_states_are_refused(tmp_path: Path, name: str):
    shape, count = (4, 4, 4), 40 << 20
    packed = {
        "a.nii.gz": gzip.compress(nifti_header(shape)) + zeros(count, 31),
        "a.nrrd": nrrd_header(shape, "gzip") + zeros(count, 31),
        "a.mha": meta_header(shape, zeros(count, 15)),
    }
    (tmp_path / name).write_bytes(packed[name])
    assert any(said in refused(tmp_path / name) for said in ("goes on for more than", "holds more than the 64 bytes"))


def test_a_mask_of_zeros_is_no_bomb(tmp_path: Path):
    for name in ("a.nii.gz", "a.nrrd", "a.mha"):
        write_volume(tmp_path / name, Volume(np.zeros((256, 256, 200), np.uint8), np.eye(4)))
        assert (tmp_path / name).stat().st_size < 100_000
        assert not read_volume(tmp_path / name).array.any()


@pytest.mark.parametrize("syntax", [None, pydicom.uid.RLELossless])
def test_a_dicom_header_that_claims_65535_rows_and_columns_is_refused(tmp_path: Path, syntax: str | None):
    folder = write_series(tmp_path / "scan")
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        if syntax is not None:
            dataset.compress(syntax, generate_instance_uid=False)
        dataset.Rows = dataset.Columns = 65535
        dataset.save_as(file)
    assert "states 40 GiB, but" in refused(folder)


def test_a_deflated_dicom_series_is_read_as_a_plain_one(tmp_path: Path):
    plain, deflated = write_series(tmp_path / "plain"), write_series(tmp_path / "deflated")
    for file in deflated.iterdir():
        dataset = pydicom.dcmread(file)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        dataset.save_as(file)
    np.testing.assert_array_equal(read_image(deflated).array, read_image(plain).array)


def test_a_zip_of_zeros_is_refused_by_what_it_would_become(tmp_path: Path):
    write_slice(tmp_path / "a.dcm", slice_hu(0), slice_position(0))
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "a.dcm", "a.dcm")
    content = (tmp_path / "bomb.zip").read_bytes()
    size = (tmp_path / "a.dcm").stat().st_size
    claimed = content.replace(struct.pack("<I", size), struct.pack("<I", 3 << 30))
    (tmp_path / "bomb.zip").write_bytes(claimed)
    assert "the zip states 3 GiB, but" in refused(tmp_path / "bomb.zip")


def test_only_as_much_of_a_zip_is_unpacked_as_is_read(tmp_path: Path):
    folder = write_series(tmp_path / "scan")
    with zipfile.ZipFile(tmp_path / "scan.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
        archive.writestr("film.avi", bytes(300 << 20))
    grown, said = grown_and_said(tmp_path / "scan.zip")
    assert grown < 64 << 20
    assert said == ""


def test_what_does_not_fit_into_the_free_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_volume(tmp_path / "a.nii", Volume(np.zeros((10, 10, 10), np.uint8), np.eye(4)))
    monkeypatch.setattr(bounds, "available_memory", lambda: 99)
    with pytest.raises(DataError, match=r"states 1000 bytes, more than the 99 bytes of memory that are free"):
        read_volume(tmp_path / "a.nii")
    assert "of memory that are free" in refusal(write_series(tmp_path / "scan"))


def test_the_bound_itself():
    require_room(bounds.ALWAYS_ALLOWED, 1, "it")
    with pytest.raises(DataError, match="it states 2 GiB, but 1 bytes are stored"):
        require_room(bounds.ALWAYS_ALLOWED + 1, 1, "it")
    assert [human_size(n) for n in (3, 2048, 5 << 20, 3 << 30)] == ["3 bytes", "2 KiB", "5 MiB", "3 GiB"]
