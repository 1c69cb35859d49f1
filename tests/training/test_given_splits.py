"""Folds that are given as a file, as nnU-Net writes them, in place of folds that are dealt out."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fullscale.config.load import load_config
from fullscale.errors import DataError, UsageError
from fullscale.runfolder import RunFolder
from fullscale.scoring.summary import read_summary
from fullscale.training.folds import train_folds
from fullscale.training.prepare import find_inputs, find_splits
from fullscale.training.request import TrainRequest
from fullscale.training.run import train
from fullscale.training.views import with_same_folds
from tests.conftest import Command
from tests.training.test_run import request

CONFIG = load_config(None, [])
FOLDS = [
    {"train": ["phantom_000", "phantom_001"], "val": ["phantom_002"]},
    {"train": ["phantom_002"], "val": ["phantom_001", "phantom_000"]},
]


def written(folder: Path, folds: object) -> Path:
    path = folder / "splits_final.json"
    path.write_text(json.dumps(folds))
    return path


def asked_for(phantoms: Path, tmp_path: Path, cache: Path, folds: object, *settings: str) -> TrainRequest:
    asked = request(phantoms, tmp_path / "run", cache, *settings)
    return replace(asked, splits=written(tmp_path, folds))


def test_given_folds_are_taken_as_they_are_and_cases_that_they_leave_out_are_named(
    phantoms: Path, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        inputs = find_inputs(asked_for(phantoms, tmp_path, cache, FOLDS))
    left = len(inputs.cases) - 3
    assert inputs.splits == FOLDS
    assert f"splits_final.json leaves out {left} cases, such as phantom_003" in caplog.text
    assert find_splits(RunFolder(tmp_path / "run"), inputs.cases, CONFIG, inputs.splits) == FOLDS


def test_a_run_keeps_its_folds_in_whatever_order_its_cases_are_named(
    phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    cases = find_inputs(request(phantoms, tmp_path / "run", cache)).cases
    run = RunFolder(tmp_path)
    run.splits.write_text(json.dumps(FOLDS))
    turned = [{side: names[::-1] for side, names in split.items()} for split in FOLDS]
    for given in (None, FOLDS, turned):
        assert find_splits(run, cases, CONFIG, given) == FOLDS
    with pytest.raises(UsageError, match="was begun with other folds: leave out --splits, or choose another run"):
        find_splits(run, cases, CONFIG, FOLDS[::-1])


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([], r"splits_final\.json is not a list"),
        ([{"train": ["phantom_000"]}], r"splits_final\.json is not a list"),
        ([{"train": ["phantom_000"], "val": ["x"]}], r"names 1 case that the data set lacks, such as 'x'"),
        ([{"train": ["phantom_000"], "val": ["phantom_000"]}], r"fold 0 trains and validates on 'phantom_000'"),
        ([{"train": ["phantom_000"], "val": []}], r"fold 0 has 1 case to train on and 0 to validate"),
    ],
)
def test_folds_that_cannot_be_are_refused(
    phantoms: Path, cache: Path, tmp_path: Path, folds: object, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        find_inputs(asked_for(phantoms, tmp_path, cache, folds))


def test_a_case_that_cannot_be_used_is_taken_out_of_its_folds(
    phantoms: Path, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    shutil.copytree(phantoms, data)
    (data / "labelsTr" / "phantom_000.nii.gz").write_bytes(b"no mask")
    asked = replace(asked_for(data, tmp_path, cache, FOLDS), drop_bad_cases=True)
    with caplog.at_level(logging.WARNING):
        found = find_inputs(asked).splits
    assert found == [
        {"train": ["phantom_001"], "val": ["phantom_002"]},
        {"train": ["phantom_002"], "val": ["phantom_001"]},
    ]
    assert "not trained on or scored: 1 case that cannot be used, such as phantom_000" in caplog.text


def test_only_one_of_two_ways_says_which_cases_validate(phantoms: Path, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--splits and data\.validation both say which cases validate"):
        find_inputs(asked_for(phantoms, tmp_path, cache, FOLDS, "data.validation=[phantom_001]"))
    asked = replace(asked_for(phantoms, tmp_path, cache, FOLDS), anonymise=tmp_path / "key.csv")
    with pytest.raises(UsageError, match="--splits calls cases as the data do, and --anonymise by numbers"):
        find_inputs(asked)


def test_folds_side_by_side_are_refused_at_once(phantoms: Path, cache: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    train(replace(asked_for(phantoms, tmp_path, cache, FOLDS[:1]), folds=("0",)))
    with pytest.raises(UsageError, match="was begun with other folds"):
        train_folds(asked_for(phantoms, tmp_path, cache, FOLDS), jobs=2)
    asked = replace(asked_for(phantoms, tmp_path, cache, FOLDS[:1]), folds=("0", "1"))
    with pytest.raises(UsageError, match="there is no fold '1'"):
        train_folds(asked, jobs=2)
    assert not run.fold("1").path.exists()


def test_both_views_have_the_folds_that_one_was_begun_with(phantoms: Path, cache: Path, tmp_path: Path) -> None:
    asked = asked_for(phantoms, tmp_path, cache, FOLDS)
    run = RunFolder(asked.run)
    inputs = {view: find_inputs(replace(asked, splits=None)) for view in ("slices", "patches")}
    assert {one.splits is None for one in with_same_folds(run, inputs).values()} == {True}
    run.view("slices").path.mkdir(parents=True)
    run.view("slices").splits.write_text(json.dumps(FOLDS))
    assert [one.splits for one in with_same_folds(run, inputs).values()] == [FOLDS, FOLDS]
    with pytest.raises(UsageError, match="was begun with other folds"):
        with_same_folds(run, {view: replace(one, splits=FOLDS[::-1]) for view, one in inputs.items()})


@pytest.mark.whole
def test_a_training_holds_back_the_cases_of_the_given_fold(phantoms: Path, cache: Path, tmp_path: Path) -> None:
    folds = [{"train": ["phantom_000", "phantom_002"], "val": ["phantom_003"]}]
    train(asked_for(phantoms, tmp_path, cache, folds))
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
    assert done.returncode == 3
    assert "missing.json" in done.stderr
    assert not (tmp_path / "run").exists()
