"""What `inspect` prints of loose scans: what predict would use, each series of a study, and what is passed over."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from fullscale.cli.data import inspect, prepare
from fullscale.data.discover import only_scan
from fullscale.data.volume_files import write_volume
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume
from fullscale.inference.batch import find_scans
from fullscale.training.prepare import find_inputs
from fullscale.training.request import TrainRequest
from tests.dicom_slices import SLICES, write_series


def test_loose_scans_are_listed_as_predict_takes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "a")
    write_volume(tmp_path / "b.nii", Volume(np.zeros((3, 4, 5), np.int16), np.eye(4)))
    (tmp_path / "note.txt").write_text("text")
    inspect(tmp_path, json=True)
    content = json.loads(capsys.readouterr().out)
    assert [(scan["name"], scan["path"]) for scan in content["scans"]] == [
        (scan.name, str(scan.path)) for scan in find_scans([tmp_path])[0]
    ]
    assert [(series["scan"], series["slices"]) for series in content["series"]] == [("a", SLICES)]
    assert [file["path"] for file in content["passed_over"]] == [str(tmp_path / "note.txt")]
    inspect(tmp_path)
    shown = capsys.readouterr()
    assert "scans: 2" in shown.out
    assert "note.txt: passed over, neither DICOM nor a volume file" in shown.err


def test_a_folder_without_scans_is_refused_and_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("text")
    with pytest.raises(DataError, match=r"no data set found and no scan: .*note\.txt: passed over"):
        inspect(tmp_path)


def test_one_scan_is_found_wherever_it_lies_and_several_are_named(tmp_path: Path) -> None:
    write_series(tmp_path / "D" / "DICOM_anon")
    assert len(only_scan(tmp_path / "D").files) == SLICES
    write_volume(tmp_path / "D" / "b.nii", Volume(np.zeros((3, 4, 5), np.int16), np.eye(4)))
    with pytest.raises(DataError, match=r"holds 2 scans, expected one: .*b\.nii"):
        only_scan(tmp_path / "D")


@pytest.mark.slow
def test_every_command_on_a_list_says_which_columns_it_does_not_know(
    tmp_path: Path, phantoms: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    names = sorted(file.name for file in (phantoms / "imagesTr").glob("*.nii.gz"))
    rows = [f"{phantoms}/imagesTr/{name},{phantoms}/labelsTr/{name},63" for name in names]
    listed = tmp_path / "cases.csv"
    listed.write_text("\n".join(["image,label,age", *rows]))
    inspect(listed, ["data.labels={1: liver, 2: spleen}"], json=True)
    content = json.loads(capsys.readouterr().out)
    assert content["labels"] == {"0": "background", "1": "liver", "2": "spleen"}
    said = "the column 'age' (6 cases) is not understood and passed over"
    assert said in content["problems"][0]["message"]
    prepare(listed, cache=tmp_path / "cache")
    assert said in capsys.readouterr().err
    assert any(said in note for note in find_scans([listed])[1])
    with caplog.at_level("WARNING"):
        find_inputs(TrainRequest(listed, tmp_path / "run", cache=tmp_path / "cache"))
    assert said in caplog.text


def write_plain(path: Path, array: np.ndarray) -> None:
    write_volume(path, Volume(array, np.diag([1.0, 2.0, 3.0, 1.0])))


@pytest.fixture
def loose(tmp_path: Path) -> Path:
    """A folder of four volumes: one is whole, one cut short, one holds NaN, and one is whole and odd."""
    values = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    write_plain(tmp_path / "whole.nii.gz", values)
    write_plain(tmp_path / "cut.nii.gz", values)
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "whole.nii.gz").read_bytes()[:-20])
    write_plain(tmp_path / "nan.nrrd", np.where(values == 7, np.nan, values))
    write_plain(tmp_path / "odd.mha", (values > 50).astype(np.int16))
    return tmp_path


def test_a_broken_volume_among_others_is_named_with_its_fault(loose: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inspect(loose, jobs=1)
    shown = " ".join(capsys.readouterr().out.split())
    assert "whole whole.nii.gz 1 3 x 4 x 5 1 x 2 x 3 mm RAS" in shown
    errors, warnings = shown[shown.index("Errors (2)") :].split("Warnings (1)")
    assert "cut.nii.gz" in errors
    assert "1 of 60 voxels of the image are NaN or infinite" in errors
    assert "odd the image holds 2 different values only" in warnings


def test_json_tells_of_each_volume_what_it_holds_or_why_not(loose: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inspect(loose, json=True, jobs=1)
    scans = {scan["name"]: scan for scan in json.loads(capsys.readouterr().out)["scans"]}
    assert scans["whole"]["shape"] == [3, 4, 5]
    assert scans["whole"]["spacing_mm"] == [1, 2, 3]
    assert [name for name, scan in scans.items() if scan["problem"]] == ["cut", "nan"]
    assert scans["cut"]["shape"] is None
    assert str(loose / "cut.nii.gz") in scans["cut"]["problem"]


def test_volumes_of_which_none_can_be_used_are_refused(loose: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("whole.nii.gz", "odd.mha"):
        (loose / name).unlink()
    with pytest.raises(DataError, match=r"no scan of .* can be used as it is: .*cut\.nii\.gz: cannot be read"):
        inspect(loose, jobs=1)
    assert "Errors (2)" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"cut\.nii\.gz"):
        inspect(loose / "cut.nii.gz", json=True)


def test_a_volume_of_channels_and_a_colour_image_are_read_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = nib.Nifti1Image(np.arange(120, dtype=np.int16).reshape(3, 4, 5, 2), np.eye(4))
    nib.save(frames, tmp_path / "channels.nii")
    inspect(tmp_path / "channels.nii", json=True)
    [scan] = json.loads(capsys.readouterr().out)["scans"]
    assert (scan["channels"], scan["shape"], scan["problem"]) == (2, [3, 4, 5], None)
    colours = np.random.default_rng(0).integers(0, 255, (8, 9, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "colours.png")
    inspect(tmp_path / "colours.png", json=True)
    [scan] = json.loads(capsys.readouterr().out)["scans"]
    assert (scan["channels"], scan["shape"], scan["unit"]) == (3, [9, 8, 1], "px")
