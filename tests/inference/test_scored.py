import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fullscale.config.load import load_config
from fullscale.data.case import Case
from fullscale.data.layouts.find import find_dataset
from fullscale.errors import DataError
from fullscale.inference.predictor import Predictor
from fullscale.inference.scored import ModelTest, predict_and_score
from fullscale.scoring.summary import read_summary
from fullscale.training.request import TrainRequest
from fullscale.training.run import train
from tests.conftest import QUICK, Command


@pytest.mark.slow
def test_merged_labels_are_merged_in_the_truth_too(
    fullscale: Command, phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    settings = [*QUICK, "data.labels={1: structure, 2: structure}"]
    train(TrainRequest(phantoms, tmp_path / "run", config=load_config(None, settings), cache=cache))
    found = []
    for model in (tmp_path / "run", tmp_path / "run" / "bundle"):
        done = fullscale("test", model, phantoms, "-o", tmp_path / "tested", "--device", "cpu", "--json")
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout)["mean"])
    assert found[0] == found[1]
    label_map = [nib.load(file).get_fdata() for file in sorted((phantoms / "labelsTr").glob("*.nii.gz"))]
    assert found[0]["1"]["n_ref"] == pytest.approx(np.mean([(array > 0).sum() for array in label_map]))


def test_a_model_tested_on_a_data_set_scores_as_its_validation_did(
    fullscale: Command, trained_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    done = fullscale("test", trained_run, phantoms, "-o", tmp_path, "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content == json.loads((tmp_path / "summary.json").read_text())
    held_back = read_summary(trained_run / "fold_0" / "validation" / "summary.json")
    tested = read_summary(tmp_path / "summary.json")
    assert len(tested.cases) == len(tested.guidance) == 6
    by_name = {case.case: case.metrics for case in tested.cases}
    for case in held_back.cases:
        assert by_name[case.case] == case.metrics
    shown = fullscale("report", tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "Scores with and without the gate" in (tmp_path / "report.html").read_text()


def test_a_bad_scan_does_not_stop_the_others(trained_run: Path, phantoms: Path, tmp_path: Path) -> None:
    predictor = Predictor.from_run(trained_run, "cpu")
    good, *_ = find_dataset(phantoms).cases
    (tmp_path / "bad.nii.gz").write_text("not a scan")
    bad = Case.of_image("bad", tmp_path / "bad.nii.gz", good.label, "bad")
    unread = Case.of_image("unread", *good.channels.values(), tmp_path / "bad.nii.gz", "unread")
    told: list[tuple[int, int, str]] = []
    labels = predictor.card.structures
    out = tmp_path / "out"
    summary = predict_and_score(
        ModelTest(predictor, out, [bad, unread, good], labels), progress=lambda *step: told.append(step)
    )
    assert [case.case for case in summary.cases] == [good.id]
    assert [failure.case for failure in summary.failures] == ["bad", "unread"]
    assert told == [(1, 3, "bad"), (2, 3, "unread"), (3, 3, good.id)]
    with pytest.raises(DataError, match=r"none of 1 cases.*bad: .*bad\.nii\.gz"):
        predict_and_score(ModelTest(predictor, tmp_path / "none", [bad], labels))
    with pytest.raises(DataError, match="there are no labelled cases"):
        predict_and_score(ModelTest(predictor, tmp_path / "none", [], labels))
    assert not (tmp_path / "none").exists()
