import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from fullscale.data.volume_files import write_volume
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume
from fullscale.scoring.evaluate import evaluate
from fullscale.scoring.paired import compare_summaries
from fullscale.scoring.summary import CaseScores, Summary
from fullscale.scoring.tables import about_intervals
from tests.conftest import Command


def summary(dice: dict[str, list[float | None]], labels: dict[int, str]) -> Summary:
    """An evaluation with these Dice: per case one for each label."""
    cases = [
        CaseScores(name, {k: {"Dice": d} for k, d in zip(labels, values, strict=True)}, Path("p"), Path("r"))
        for name, values in dice.items()
    ]
    return Summary(labels, dict.fromkeys(labels, 1.0), cases)


def test_each_class_and_their_mean_are_compared_case_by_case() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.uniform(0.6, 0.9, (12, 2)), rng.uniform(0.5, 0.9, (12, 2))
    labels = {1: "liver", 2: "spleen"}
    names = [f"c{k}" for k in range(12)]
    found = compare_summaries(
        summary({n: list(v) for n, v in zip(names, ours, strict=True)}, labels),
        summary({n: list(v) for n, v in reversed(list(zip(names, theirs, strict=True)))}, labels),
    )
    raw = [stats.wilcoxon(ours[:, k], theirs[:, k]).pvalue for k in range(2)]
    for k, label in enumerate(labels):
        comparison = found.classes[label]
        assert comparison.difference == pytest.approx((ours - theirs)[:, k].mean())
        assert comparison.p_value == pytest.approx(raw[k])
        assert comparison.adjusted_p == pytest.approx(max(raw) if raw[k] == max(raw) else min(2 * raw[k], 1))
    assert found.mean is not None
    assert found.mean.mean == pytest.approx(ours.mean())
    assert found.alone == []
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["classes"].keys() == {"1", "2"}


def test_what_only_one_has_is_named_and_left_out() -> None:
    first = summary({"a": [0.9, 0.5], "b": [0.8, 0.5]}, {1: "liver", 2: "spleen"})
    second = summary({"b": [0.7], "c": [0.1]}, {1: "liver"})
    found = compare_summaries(first, second)
    assert list(found.classes) == [1]
    assert found.classes[1].cases == 1
    assert found.classes[1].difference == pytest.approx(0.1)
    assert found.mean is None
    assert found.alone == ["a", "c"]


def test_an_structure_that_no_common_case_holds_is_passed_over() -> None:
    labels = {1: "liver", 2: "spleen"}
    first, second = (summary({"a": [dice, None]}, labels) for dice in (0.9, 0.8))
    assert list(compare_summaries(first, second).classes) == [1]


def test_evaluations_of_other_cases_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="no scored case and class in common"):
        compare_summaries(summary({"a": [0.9]}, {1: "liver"}), summary({"b": [0.9]}, {1: "liver"}))


def test_two_folders_of_masks_are_compared_by_the_command(fullscale: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for k in range(8):
        truth = np.zeros((12, 12, 6), np.uint8)
        truth[2:9, 2:9, 1:5] = 1
        for folder, share in (("truth", 0), ("good", 0.02), ("bad", 0.2)):
            array = np.where(rng.random(truth.shape) < share, 1 - truth, truth).astype(np.uint8)
            write_volume(tmp_path / folder / f"c{k}.nii.gz", Volume(array, np.eye(4)))
    done = fullscale("evaluate", tmp_path / "good", tmp_path / "truth", "--against", tmp_path / "bad")
    assert done.returncode == 0, done.stderr
    assert "higher" in done.stdout
    content = json.loads((tmp_path / "good" / "summary.json").read_text())
    found = content["against"]["classes"]["1"]
    assert found["verdict"] == "higher"
    assert found["p_value"] == pytest.approx(2 / 2**8)
    low, high = found["interval"]
    assert low < found["difference"] < high
    assert found["smallest_difference"] < found["difference"]
    low, high = content["interval"]["1"]["Dice"]
    assert low < content["mean"]["1"]["Dice"] < high
    assert content["foreground_interval"]["Dice"] == [low, high]
    page = tmp_path / "report.html"
    assert fullscale("report", tmp_path / "good", "-o", page).returncode == 0
    assert "Compared with bad<" in page.read_text()
    assert f">{found['difference']:+.4f}<small>" in page.read_text()
    again = fullscale(
        *("evaluate", tmp_path / "bad", tmp_path / "truth", "--against", tmp_path / "good" / "summary.json", "--json")
    )
    assert json.loads(again.stdout)["against"]["classes"]["1"]["difference"] == pytest.approx(-found["difference"])
    wrong = fullscale("evaluate", tmp_path / "bad", tmp_path / "truth", "--against", tmp_path / "nowhere")
    assert wrong.returncode == 3
    assert "nowhere" in wrong.stderr.splitlines()[-1]


def test_one_case_has_no_interval_and_equal_cases_a_point(tmp_path: Path) -> None:
    cube = np.zeros((6, 6, 6), np.uint8)
    cube[1:4, 1:4, 1:4] = 1
    for name in "abcd":
        write_volume(tmp_path / "p" / f"{name}.nii.gz", Volume(cube, np.eye(4)))
        write_volume(tmp_path / "t" / f"{name}.nii.gz", Volume(cube, np.eye(4)))
    both = evaluate(tmp_path / "p", tmp_path / "t").as_dict()
    assert both["interval"]["1"]["Dice"] == [1, 1]
    one = evaluate(tmp_path / "p" / "a.nii.gz", tmp_path / "t").as_dict()
    assert one["interval"]["1"]["Dice"] is None
    assert one["foreground_interval"]["Dice"] is None
    assert about_intervals(both).startswith("95 % intervals")
    assert about_intervals(one) == "No intervals: fewer than 4 cases do not show how cases differ."
    assert one["spread"]["1"]["Dice"]["median"] == 1
