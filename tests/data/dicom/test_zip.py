"""Studies in a zip: read like the folder, bounded, and refused in one line where they are damaged."""

import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fullscale.data.dicom.series import is_study, list_series, read_series
from fullscale.data.read import read_image
from fullscale.errors import DataError
from tests.dicom_slices import refusal, write_series, write_study, zipped


def test_a_zip_is_read_like_the_folder_it_was_made_of(tmp_path: Path):
    study = write_study(tmp_path / "study")
    archive = zipped(study, tmp_path / "study.zip")
    assert is_study(archive)
    found, expected = read_image(archive), read_series(study)
    np.testing.assert_array_equal(found.array, expected.array)
    np.testing.assert_array_equal(found.affine, expected.affine)
    assert [file.name for file in found.header.files] == [file.name for file in expected.header.files]
    assert list_series(archive).series == list_series(study).series


@pytest.mark.parametrize("name", ["../out.dcm", "/etc/out.dcm", "a/../../out.dcm", "..\\out.dcm", "C:/out.dcm"])
def test_a_zip_with_a_path_that_leads_out_of_it_is_refused(tmp_path: Path, name: str):
    archive = zipped(write_study(tmp_path / "study"), tmp_path / "study.zip", **{name: b"x"})
    assert "which leads out of it" in refusal(archive)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study", "study.zip"]


def test_a_zip_bomb_is_refused_by_what_it_would_become(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    study = write_series(tmp_path / "study")
    archive = zipped(study, tmp_path / "bomb.zip", **{"zeros.dcm": bytes(20 << 20)})
    assert archive.stat().st_size < 100_000
    tracemalloc.start()
    monkeypatch.setattr("fullscale.data.dicom.store.LARGEST_FILE", 10 << 20)
    assert "zeros.dcm in the zip has" in refusal(archive)
    assert tracemalloc.get_traced_memory()[1] < 5 << 20
    tracemalloc.stop()
    monkeypatch.setattr("fullscale.data.dicom.store.LARGEST_ZIP", 15 << 20)
    assert "split it" in refusal(archive)
    monkeypatch.setattr("fullscale.data.dicom.store.MOST_FILES", 3)
    assert "holds 6 files" in refusal(archive)


@pytest.mark.parametrize("length", [0, 30, 500, -40])
def test_a_damaged_zip_is_refused_in_one_line(tmp_path: Path, length: int):
    archive = zipped(write_series(tmp_path / "study"), tmp_path / "study.zip")
    archive.write_bytes(archive.read_bytes()[:length])
    with pytest.raises(DataError, match=r"^[^\n]*study.zip[^\n]*$"):
        read_image(archive)


def test_a_damaged_member_of_a_zip_is_refused_in_one_line(tmp_path: Path):
    archive = zipped(write_series(tmp_path / "study"), tmp_path / "study.zip")
    content = bytearray(archive.read_bytes())
    content[60:200] = bytes(140)
    archive.write_bytes(bytes(content))
    assert "the zip is damaged" in refusal(archive)


@pytest.mark.parametrize("name", [b"\0bcd.dcm", b".//////."])
def test_a_file_without_a_name_in_a_zip_is_refused_in_one_line(tmp_path: Path, name: bytes):
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("abcd.dcm", b"")
    before, _, after = path.read_bytes().rpartition(b"abcd.dcm")
    path.write_bytes(before + name + after)
    with pytest.raises(DataError, match=r"^[^\n]*study.zip: the zip is damaged \(it holds a file without a name\)"):
        read_image(path)


def test_a_file_that_calls_itself_a_zip_is_refused_in_one_line(tmp_path: Path):
    (tmp_path / "study.zip").write_text("no zip")
    with pytest.raises(DataError, match=r"^[^\n]*study.zip: the zip is damaged \(File is not a zip file\)"):
        read_image(tmp_path / "study.zip")
