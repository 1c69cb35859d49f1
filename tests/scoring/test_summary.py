"""The scores of many cases in one file: its form, its means, and the way back."""

import json
from pathlib import Path

import numpy as np
import pytest

from fullscale.data.places import place_of
from fullscale.errors import DataError, FullscaleError
from fullscale.metrics.slices import SLICES
from fullscale.scoring.evaluate import evaluate
from fullscale.scoring.summary import METRICS, read_summary, write_summary
from fullscale.scoring.tables import not_scored
from tests.masks import DIAGONAL, SHAPE, cube, strict, write_mask, write_shifted


def test_empty_masks_in_a_summary(tmp_path: Path) -> None:
    empty = np.zeros(SHAPE, dtype=np.uint8)
    cases = {"both": (cube(3), cube()), "missed": (empty, cube()), "invented": (cube(), empty), "none": (empty, empty)}
    for name, (prediction, truth) in cases.items():
        write_mask(tmp_path / "p" / f"{name}.nii.gz", prediction)
        write_mask(tmp_path / "t" / f"{name}.nii.gz", truth)
    content = strict(evaluate(tmp_path / "p", tmp_path / "t"))
    by_case = {case["case"]: case["metrics"]["1"] for case in content["metric_per_case"]}
    for name in ("missed", "invented"):
        scores = by_case[name]
        assert (scores["Dice"], scores["IoU"], scores["Precision"], scores["NSD"]) == (0, 0, 0, 0)
        assert scores["HD95"] == scores["ASSD"] == pytest.approx(DIAGONAL)
    assert (by_case["missed"]["Recall"], by_case["invented"]["Recall"]) == (0, None)
    assert all(by_case["none"][name] is None for name in ("Dice", "IoU", "Precision", "Recall", "HD95", "ASSD", "NSD"))
    mean = content["mean"]["1"]
    assert mean["Dice"] == pytest.approx((0.75 + 0 + 0) / 3)
    assert mean["Recall"] == pytest.approx((0.75 + 0) / 2)
    assert mean["HD95"] == pytest.approx((1 + 2 * DIAGONAL) / 3)
    assert mean["volume_error_percent"] == pytest.approx((0 - 100) / 2)
    assert mean["absolute_volume_error_ml"] == pytest.approx(2 * 0.16 / 3)
    counts = {"cases": 3, "cases_with_structure": 2, "true_negative_cases": 1}
    counts |= {"missed_cases": 1, "false_positive_cases": 1}
    assert {name: mean[name] for name in counts} == counts
    assert content["foreground_mean"] == mean | {"classes": 1}
    assert "true negative" in content["policy"]


def test_the_summary_has_the_form_of_nnunet(folders: tuple[Path, Path]) -> None:
    predictions, truth = folders
    content = strict(evaluate(predictions, truth, labels={1: "liver"}))
    assert content["foreground_mean"]["Dice"] == content["mean"]["1"]["Dice"] == pytest.approx((1 + 0.75) / 2)
    first, second = content["metric_per_case"]
    assert (first["case"], second["case"]) == ("a", "b")
    assert first["prediction_file"] == first["reference_file"] == "a.nii.gz"
    assert (content["data"], content["masks"]) == (place_of(truth), place_of(predictions))
    nnunet = {"Dice", "IoU", "TP", "FP", "FN", "TN", "n_pred", "n_ref"}
    assert nnunet < set(first["metrics"]["1"])
    assert content["labels"] == {"1": "liver"}
    assert content["tolerance_mm"] == {"1": 1.0}
    assert content["failures"] == []


@pytest.mark.parametrize(("both", "one"), [("a", "b"), ("b", "a")])
def test_the_mean_of_classes_weighs_each_class_once(tmp_path: Path, both: str, one: str) -> None:
    write_mask(tmp_path / "p" / f"{both}.nii", cube(2, 1) + cube(8, 2))
    write_mask(tmp_path / "t" / f"{both}.nii", cube(2, 1) + cube(7, 2))
    write_mask(tmp_path / "p" / f"{one}.nii", cube(3, 1))
    write_mask(tmp_path / "t" / f"{one}.nii", cube(2, 1))
    content = strict(evaluate(tmp_path / "p", tmp_path / "t"))
    assert content["mean"]["1"]["cases"] == 2
    assert content["mean"]["2"]["cases"] == 1
    assert content["mean"]["2"]["true_negative_cases"] == 1
    assert content["mean"]["1"]["Dice"] == pytest.approx((1 + 0.75) / 2)
    assert content["mean"]["2"]["Dice"] == pytest.approx(0.75)
    assert content["foreground_mean"]["Dice"] == pytest.approx((0.875 + 0.75) / 2)
    assert (content["foreground_mean"]["cases"], content["foreground_mean"]["classes"]) == (2, 2)
    without = {case["case"]: case["metrics"]["2"] for case in content["metric_per_case"]}[one]
    assert set(without) == {*METRICS, *SLICES}
    assert [without[name] for name in SLICES] == [8, 8, 0, 0]
    assert (without["TN"], without["Dice"], without["volume_ml"]) == (np.prod(SHAPE), None, 0)


def test_nothing_anywhere_is_a_summary_without_scores(tmp_path: Path) -> None:
    empty = np.zeros(SHAPE, dtype=np.uint8)
    content = strict(evaluate(write_mask(tmp_path / "p.nii", empty), write_mask(tmp_path / "t.nii", empty)))
    assert content["labels"] == {}
    assert content["foreground_mean"]["Dice"] is None
    assert content["foreground_mean"]["cases"] == 0


def test_a_summary_is_written_whole_and_the_same_twice(folders: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "out" / "summary.json"
    write_summary(evaluate(*folders), path)
    first = path.read_bytes()
    write_summary(evaluate(*folders), path)
    assert path.read_bytes() == first
    assert json.loads(first) == evaluate(*folders).as_dict()
    assert [file.name for file in path.parent.iterdir()] == ["summary.json"]


def test_a_summary_is_read_back_as_it_was_written(folders: tuple[Path, Path], tmp_path: Path) -> None:
    write_shifted(folders[0] / "b.nii.gz")
    summary = evaluate(*folders)
    assert [failure.case for failure in summary.failures] == ["b"]
    write_summary(summary, tmp_path / "summary.json")
    assert read_summary(tmp_path / "summary.json") == summary


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"cannot read the scores .*No such file"),
        ("{", r"summary\.json: is not JSON .*fullscale evaluate"),
        ("[]", r"is no summary\.json of this version: its text: .*\[\]"),
        ("{}", "labels: Field required"),
        (
            '{"labels": {"1": "liver"}, "tolerance_mm": {}, "metric_per_case": [{"case": "a", "metrics": '
            '{"1": {"Dice": 1}}, "prediction_file": "a", "reference_file": "a"}], "failures": []}',
            "case a lacks ASSD, .* of label 1; .*fullscale evaluate",
        ),
        ('{"labels": {"liver": "1"}, "tolerance_mm": {}, "metric_per_case": [], "failures": []}', "labels.liver"),
    ],
)
def test_what_is_no_summary_is_refused_in_one_line(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "summary.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_summary(path)


def test_a_summary_that_cannot_be_written_is_one_clear_line(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FullscaleError, match=r"summary\.json"):
        write_summary(evaluate(*folders), tmp_path / "file" / "summary.json")


def test_many_cases_that_failed_alike_are_one_line() -> None:
    missing = [{"case": f"c{k}", "message": f"truth/c{k}.nii.gz: has no prediction in masks"} for k in range(200)]
    other = {"case": "d", "message": "truth/d.nii.gz: is empty (0 bytes)"}
    alike, apart = not_scored([*missing, other])
    assert alike.line == "200 cases, such as c0, c1, c2: has no prediction in masks"
    assert alike.each[199] == "c199: truth/c199.nii.gz: has no prediction in masks"
    assert apart == ("d: truth/d.nii.gz: is empty (0 bytes)", ["d: truth/d.nii.gz: is empty (0 bytes)"])
    assert [failed.line for failed in not_scored(missing[:2])] == [
        f"c{k}: truth/c{k}.nii.gz: has no prediction in masks" for k in range(2)
    ]
