"""What `inspect` prints of loose scans: what predict would use, each series of a study, and what is passed over."""

import json
from pathlib import Path

import numpy as np
import pytest

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
