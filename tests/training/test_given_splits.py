"""Folds that are given as a file, as nnU-Net writes them, in place of folds that are dealt out."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from fullscale.config.load import load_config
from fullscale.data.case import Case
from fullscale.errors import DataError, UsageError
from fullscale.runfolder import RunFolder
from fullscale.scoring.summary import read_summary
from fullscale.training.prepare import find_splits
from fullscale.training.run import train
from tests.conftest import Command
from tests.training.test_run import request

CASES = [Case.of_image(f"case_{i}", Path("image"), Path("label"), f"patient_{i}") for i in range(5)]
CONFIG = load_config(None, [])
FOLDS = [
    {"train": ["case_0", "case_1"], "val": ["case_2", "case_3"]},
    {"train": ["case_2", "case_3"], "val": ["case_0", "case_1"]},
]


def written(folder: Path, folds: object) -> Path:
    path = folder / "splits_final.json"
    path.write_text(json.dumps(folds))
    return path


def test_given_folds_are_taken_as_they_are_and_cases_that_they_leave_out_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert find_splits(RunFolder(tmp_path), CASES, CONFIG, written(tmp_path, FOLDS)) == FOLDS
    assert "splits_final.json leaves out 1 case, such as case_4" in caplog.text


def test_a_run_keeps_its_folds(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.splits.write_text(json.dumps(FOLDS))
    assert find_splits(run, CASES, CONFIG) == FOLDS
    assert find_splits(run, CASES, CONFIG, written(tmp_path, FOLDS)) == FOLDS
    with pytest.raises(UsageError, match=r"has other folds than .*splits_final\.json; choose another run folder"):
        find_splits(run, CASES, CONFIG, written(tmp_path, FOLDS[::-1]))


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([], r"splits_final\.json is not a list"),
        ([{"train": ["case_0"]}], r"splits_final\.json is not a list"),
        ([{"train": ["case_0"], "val": ["case_9"]}], r"names 1 case that the data set lacks, such as 'case_9'"),
        ([{"train": ["case_0"], "val": ["case_0"]}], r"fold 0 trains and validates on 'case_0'"),
        ([{"train": ["case_0"], "val": []}], r"fold 0 has 1 case to train on and 0 to validate"),
    ],
)
def test_folds_that_cannot_be_are_refused(tmp_path: Path, folds: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_splits(RunFolder(tmp_path), CASES, CONFIG, written(tmp_path, folds))


def test_a_patient_on_both_sides_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cases = [replace(case, group="one") for case in CASES]
    with caplog.at_level(logging.WARNING):
        find_splits(RunFolder(tmp_path), cases, CONFIG, written(tmp_path, FOLDS))
    assert "splits_final.json: fold 0 has scans of the patient 'one'" in caplog.text


def test_only_one_of_two_ways_says_which_cases_validate(tmp_path: Path) -> None:
    config = load_config(None, ["data.validation=[case_1]"])
    with pytest.raises(UsageError, match=r"--splits and data\.validation both say which cases validate"):
        find_splits(RunFolder(tmp_path), CASES, config, written(tmp_path, FOLDS))


@pytest.mark.whole
def test_a_training_holds_back_the_cases_of_the_given_fold(phantoms: Path, cache: Path, tmp_path: Path) -> None:
    folds = [{"train": ["phantom_000", "phantom_002"], "val": ["phantom_003"]}]
    asked = replace(request(phantoms, tmp_path / "run", cache), splits=written(tmp_path, folds))
    train(asked)
    run = RunFolder(tmp_path / "run")
    assert json.loads(run.splits.read_text()) == folds
    assert [Path(case.prediction_file).name for case in read_summary(run.summary).cases] == ["phantom_003.nii.gz"]


@pytest.mark.whole
def test_no_case_validates_where_all_train(fullscale: Command, phantoms: Path, tmp_path: Path) -> None:
    given = written(tmp_path, FOLDS)
    done = fullscale("train", str(phantoms), "-o", str(tmp_path / "run"), "--fold", "all", "--splits", str(given))
    assert done.returncode == 2
    assert "with --fold all none does" in done.stderr
    done = fullscale("train", str(phantoms), "-o", str(tmp_path / "run"), "--splits", str(tmp_path / "missing.json"))
    assert done.returncode in (2, 3)
    assert "missing.json" in done.stderr
    assert not (tmp_path / "run").exists()
