"""What a path holds: each scan once, by its content, and a word on everything else."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest

from fullscale.data.discover import Contents, Scan, discover, summarise
from fullscale.data.read import read_image, stem_of
from fullscale.data.volume_files import write_volume
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume
from tests.dicom_slices import SLICES, write_series


def write_scan(path: Path) -> Path:
    write_volume(path, Volume(np.zeros((4, 5, 6), np.int16), np.eye(4)))
    return path


def study(folder: Path, number: int, **tags: object) -> Path:
    return write_series(folder, **{"StudyInstanceUID": f"1.9.{number}", "SeriesInstanceUID": f"1.9.{number}.1"} | tags)


def names(contents: Contents) -> list[str]:
    return [scan.name for scan in contents.scans]


def slices(scan: Scan) -> int:
    return read_image(scan.source).shape[2]


def zipped(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w") as target:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                target.write(file, file.relative_to(folder))
    shutil.rmtree(folder)
    return archive


def test_a_series_beside_volumes_of_other_patients_is_one_of_three_scans(tmp_path: Path) -> None:
    study(tmp_path / "scans", 1)
    for name in ("patient5.nii", "patient6.nrrd"):
        write_scan(tmp_path / "scans" / name)
    contents = discover(tmp_path / "scans")
    assert sorted(names(contents)) == ["patient5", "patient6", "scans"]
    assert sorted(slices(scan) for scan in contents.scans) == [SLICES, 6, 6]
    assert contents.passed_over == []
    assert all(read_image(scan.source).notes == () for scan in contents.scans if scan.name == "scans")


def test_folders_of_patients_name_their_scans_whatever_kind_they_are(tmp_path: Path) -> None:
    study(tmp_path / "p1" / "ct", 1)
    study(tmp_path / "p2" / "DICOM_anon" / "more", 2)
    (tmp_path / "p3").mkdir()
    write_scan(tmp_path / "p3" / "scan.nii.gz")
    contents = discover(tmp_path)
    assert names(contents) == ["p1", "p2", "p3"]
    assert [slices(scan) for scan in contents.scans] == [SLICES, SLICES, 6]


def test_a_study_whose_series_lie_in_folders_is_one_scan_and_two_studies_are_two(tmp_path: Path) -> None:
    for patient, number in (("a", 1), ("b", 2)):
        study(tmp_path / patient / "st" / "thin", number)
        study(tmp_path / patient / "st" / "scout", number, SeriesInstanceUID="1.8", ImageType=["ORIGINAL", "LOCALIZER"])
    contents = discover(tmp_path)
    assert names(contents) == ["a", "b"]
    assert [len(scan.files) for scan in contents.scans] == [2 * SLICES] * 2
    assert names(discover(tmp_path / "a")) == ["a"]


def test_two_studies_in_one_flat_folder_are_two_scans(tmp_path: Path) -> None:
    for number in (1, 2):
        study(tmp_path / str(number), number)
    flat = tmp_path / "flat"
    flat.mkdir()
    for number in (1, 2):
        for file in (tmp_path / str(number)).iterdir():
            shutil.copy(file, flat / f"{number}-{file.name}")
    contents = discover(flat)
    assert names(contents) == ["flat_1", "flat_2"]
    assert [slices(scan) for scan in contents.scans] == [SLICES, SLICES]


def test_blank_study_identifiers_are_told_apart_by_folder(tmp_path: Path) -> None:
    for patient in ("a", "b"):
        write_series(tmp_path / patient, StudyInstanceUID="", SeriesInstanceUID="")
    contents = discover(tmp_path)
    assert names(contents) == ["a", "b"]
    assert [slices(scan) for scan in contents.scans] == [SLICES, SLICES]


def test_a_zip_of_two_patients_and_zips_among_folders(tmp_path: Path) -> None:
    for patient, number in (("a", 1), ("b", 2)):
        study(tmp_path / "source" / patient / "ct", number)
    archive = zipped(tmp_path / "source", tmp_path / "both.zip")
    contents = discover(archive)
    assert names(contents) == ["a", "b"]
    assert [slices(scan) for scan in contents.scans] == [SLICES, SLICES]
    study(tmp_path / "c", 3)
    assert names(discover(tmp_path)) == ["both_a_ct", "both_b_ct", "c"]
    one = zipped(study(tmp_path / "one", 4), tmp_path / "d.zip")
    assert names(discover(one)) == ["d"]


def test_a_zip_that_is_refused_stays_a_scan_whose_reading_says_why(tmp_path: Path) -> None:
    study(tmp_path / "a", 1)
    (tmp_path / "b.zip").write_bytes(b"PK\x03\x04 no zip")
    contents = discover(tmp_path)
    assert sorted(names(contents)) == ["a", "b"]
    with pytest.raises(DataError, match="the zip is damaged"):
        read_image(next(scan for scan in contents.scans if scan.name == "b").source)
    assert names(discover(tmp_path / "b.zip")) == ["b"]


def test_slices_without_preamble_and_mark_count_like_the_others(tmp_path: Path) -> None:
    folder = study(tmp_path / "scan", 1)
    for file in sorted(folder.iterdir())[:3]:
        dataset = pydicom.dcmread(file)
        pydicom.dcmwrite(file, pydicom.Dataset(dataset), implicit_vr=True, little_endian=True)
        assert file.read_bytes()[128:132] != b"DICM"
    (scan,) = discover(tmp_path).scans
    assert slices(scan) == SLICES


def test_a_slice_that_was_cut_short_does_not_vanish(tmp_path: Path) -> None:
    folder = study(tmp_path / "scan", 1)
    cut = sorted(folder.iterdir())[2]
    cut.rename(cut.with_suffix(".dcm"))
    cut.with_suffix(".dcm").write_bytes(b"")
    study(tmp_path / "good", 2)
    good, bad = discover(tmp_path).scans
    assert slices(good) == SLICES
    with pytest.raises(DataError, match=rf"{cut.name}\.dcm"):
        read_image(bad.source)


def test_everything_that_is_no_scan_is_counted_and_named(tmp_path: Path) -> None:
    folder = study(tmp_path / "scan", 1)
    for name, content in (("notes.txt", b"text"), ("more.txt", b"text"), ("view.png", b"\x89PNG"), (".hidden", b"x")):
        (folder / name).write_bytes(content)
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    study(
        folder / "sr",
        1,
        Modality="SR",
        PixelData=None,
        Rows=None,
        Columns=None,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.22",
    )
    contents = discover(folder)
    assert names(contents) == ["scan"]
    lines = summarise(contents.passed_over)
    assert f"2 files passed over, neither DICOM nor a volume file, such as {folder / 'more.txt'}" in lines
    assert f"{folder / 'view.png'}: passed over, a picture" in lines
    assert f"{folder / '.hidden'}: passed over, hidden" in lines
    assert f"{folder / 'gone'}: passed over, no file, or a link that leads nowhere" in lines
    assert len(contents.passed_over) == 5 + SLICES


def test_a_raw_file_belongs_to_its_header(tmp_path: Path) -> None:
    (tmp_path / "a.mhd").write_text("ObjectType = Image\nElementDataFile = a.raw\n")
    (tmp_path / "a.raw").write_bytes(b"0")
    contents = discover(tmp_path)
    assert (names(contents), contents.passed_over) == (["a"], [])


def test_files_named_by_uid_keep_their_names(tmp_path: Path) -> None:
    for number in (1, 2):
        for file in study(tmp_path / "source", number, slices=[0]).iterdir():
            file.rename(tmp_path / f"1.2.840.{number}")
    contents = discover(tmp_path)
    assert names(contents) == ["1.2.840.1", "1.2.840.2"]
    assert [stem_of(n) for n in ("a.DCM", "a.nii.gz", "1.2.3", "a.v2.zip", ".dcm")] == [
        "a",
        "a",
        "1.2.3",
        "a.v2",
        ".dcm",
    ]


def test_scans_of_one_name_in_different_folders_are_told_apart(tmp_path: Path) -> None:
    for place in ("a/x", "a/y", "b/x"):
        (tmp_path / place).mkdir(parents=True)
        write_scan(tmp_path / place / "scan.nii")
    write_scan(tmp_path / "other.nii")
    assert names(discover(tmp_path)) == ["a_x_scan", "a_y_scan", "b_x_scan", "other"]


def test_a_data_set_stands_for_its_cases_and_names_what_belongs_to_none(tmp_path: Path) -> None:
    for place in ("images/a.nii", "images/b.nii", "labels/a.nii", "imagesVal/c.nii"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        write_scan(tmp_path / place)
    contents = discover(tmp_path)
    assert contents.dataset is not None
    assert contents.scans == [
        Scan("a", tmp_path / "images/a.nii", label=tmp_path / "labels/a.nii"),
        Scan("b", tmp_path / "images/b.nii"),
    ]
    assert [file.path for file in contents.passed_over] == [tmp_path / "imagesVal/c.nii"]


def test_a_data_set_that_cannot_be_used_is_not_taken_for_loose_scans(tmp_path: Path) -> None:
    for name in ("imagesTr/a_0000.nii", "labelsTr/a.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_scan(tmp_path / name)
    (tmp_path / "dataset.json").write_text('{"channel_names": {"0": "T1", "1": "T1"}}')
    with pytest.raises(DataError, match="two channels have one name"):
        discover(tmp_path)


def test_a_path_that_is_not_there_and_one_that_holds_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        discover(tmp_path / "nowhere")
    assert discover(tmp_path).scans == []


def test_progress_counts_the_files_whose_headers_are_read(tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    discover(study(tmp_path / "a", 1), lambda *step: told.append(step))
    assert [step[:2] for step in told] == [(n, SLICES) for n in range(1, SLICES + 1)]
