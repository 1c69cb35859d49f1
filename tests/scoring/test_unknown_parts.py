"""Scores of regions, without ignored voxels, and without the structures that a case was not labelled for."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fullscale.data.case import Case
from fullscale.data.labels import LabelScheme
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume
from fullscale.metrics.overlap import overlap_counts
from fullscale.metrics.presence import Guided, Known, score_guided
from fullscale.metrics.slices import slice_scores
from fullscale.scoring.evaluate import evaluate, score_arrays
from fullscale.scoring.paired import compare_summaries
from fullscale.scoring.summary import Summary, read_summary, write_summary
from fullscale.scoring.tables import case_table, left_out, mean_table
from tests.conftest import Command
from tests.masks import AFFINE, SHAPE, cube, strict, write_mask

REGIONS = {2: (1, 2, 3), 3: (3,), 1: (1, 3)}


def two_masks(seed: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 5, SHAPE).astype(np.uint8), rng.integers(0, 5, SHAPE).astype(np.uint8)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_region_scores_as_the_mask_of_its_values_does_alone(order: Any):
    prediction, truth = (np.asarray(mask, order=order) for mask in two_masks())
    found = score_arrays(prediction, truth, [1, 2, 3], REGIONS, members=REGIONS)
    for label, values in REGIONS.items():
        alone = [np.asarray(np.isin(mask, values), np.uint8, order=order) for mask in (prediction, truth)]
        assert found[label] == score_arrays(*alone, [1, 2, 3], [1])[1]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("members", [None, REGIONS])
def test_nothing_under_an_ignored_voxel_changes_a_score(order: Any, members):
    rng = np.random.default_rng(5)
    prediction, truth = (np.asarray(mask, order=order) for mask in two_masks())
    ignored = np.asarray(rng.random(SHAPE) < 0.3, order=order)
    scores = score_arrays(prediction, truth, [1, 2, 3], [1, 2, 3], members=members, ignored=ignored)
    strange = rng.integers(0, 5, (2, *SHAPE))
    others = [
        np.asarray(np.where(ignored, other, mask), np.uint8, order=order)
        for mask, other in zip((prediction, truth), strange, strict=True)
    ]
    assert score_arrays(*others, [1, 2, 3], [1, 2, 3], members=members, ignored=ignored) == scores
    counts = scores[1]
    assert sum(counts[name] for name in ("TP", "FP", "FN", "TN")) == (~ignored).sum()
    seen = overlap_counts(prediction[~ignored], truth[~ignored], [1], members)[0]
    assert (counts["TP"], counts["FP"], counts["FN"], counts["TN"]) == (seen.tp, seen.fp, seen.fn, seen.tn)


def test_a_slice_of_which_a_part_is_ignored_is_without_nothing():
    prediction, truth, ignored = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, bool)
    prediction[0, 0, :4] = 1
    truth[5, 5, 0] = 1
    ignored[9, 9, 1] = True
    [scores] = slice_scores(Volume(prediction, AFFINE), Volume(truth, AFFINE), [1], None, ignored).values()
    assert (scores["slices"], scores["slices_without_structure"], scores["false_positive_slices"]) == (8, 6, 2)


def test_the_gate_is_scored_as_far_as_the_truth_is_known():
    truth, ignored = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, bool)
    truth[2, 2, :3] = 3
    ignored[0, 0, 2:5] = True
    mask = Volume(truth, AFFINE)
    guided = Guided(mask, mask, np.ones((8, 2), dtype=bool))
    known = Known({2: (2, 3), 3: (3,)}, ignored, unknown=(3,))
    metrics = score_guided("a", guided, mask, [2, 3], known).metrics
    assert metrics[2]["presence"] == {
        "present_found": 3,
        "present_missed": 0,
        "absent_invented": 3,
        "absent_found": 0,
    }
    assert metrics[2]["gated"]["Dice"] == 1
    assert set(metrics[3]["gated"].values()) == {None}
    assert set(metrics[3]["presence"].values()) == {None}


def write_case(root: Path, name: str, truth: np.ndarray, **known: Any) -> Case:
    scan = write_mask(root / "scans" / f"{name}.nii.gz", cube().astype(np.int16) * 100)
    return replace(Case.of_image(name, scan, write_mask(root / "truth" / f"{name}.nii.gz", truth)), **known)


@pytest.fixture
def cases(tmp_path: Path) -> dict[str, Case]:
    """One case is known whole; of one a voxel of ten is ignored, and of one the spleen was not drawn."""
    both = np.maximum(cube(2), cube(6, label=2))
    view = np.ones(SHAPE, np.uint8)
    view[2] = 0
    mask = write_mask(tmp_path / "view" / "b.nii.gz", view)
    found = [
        write_case(tmp_path, "a", both),
        write_case(tmp_path, "b", both, ignore=mask),
        write_case(tmp_path, "c", cube(2), labelled=("liver",)),
    ]
    for name in "abc":
        write_mask(tmp_path / "predictions" / f"{name}.nii.gz", np.maximum(cube(3), cube(6, label=2)))
    return {case.id: case for case in found}


LABELS = {1: "liver", 2: "spleen"}


def test_means_leave_out_what_is_unknown_and_say_so(tmp_path: Path, cases: dict[str, Case]):
    summary = evaluate(tmp_path / "predictions", cases, LABELS)
    by_name = {case.case: case for case in summary.cases}
    assert by_name["a"].metrics[1]["Dice"] == pytest.approx(2 * 48 / (48 + 64))
    assert by_name["b"].metrics[1]["Dice"] == 1
    assert (by_name["b"].ignored_voxels, by_name["c"].unknown) == (80, (2,))
    assert set(by_name["c"].metrics[2].values()) == {None}
    spleen = summary.mean(2)
    assert (spleen["cases"], spleen["unknown_cases"], spleen["true_negative_cases"]) == (2, 1, 0)
    assert spleen["false_positive_cases"] == 0
    assert summary.mean(1)["unknown_cases"] == 0
    content = strict(summary)
    assert left_out(content) == [
        "spleen was not labelled in 1 of 3 cases, which are not scored for it",
        "80 voxels ignored in 1 case: no score counts them",
    ]
    assert [row[2].text for row in case_table(summary).rows] == ["0.8571", "1.0000", "1.0000", "1.0000", "0.8571", "-"]
    assert [row[1].value for row in mean_table(content).rows] == [3, 2, 3]


def test_what_is_unknown_is_read_back(tmp_path: Path, cases: dict[str, Case]):
    summary = evaluate(tmp_path / "predictions", cases, LabelScheme({}, {"small": (1,), "all": (1, 2)}, ignore=7))
    write_summary(summary, tmp_path / "summary.json")
    again = read_summary(tmp_path / "summary.json")
    assert (again.regions, again.ignore) == ({"small": (1,), "all": (1, 2)}, 7)
    assert list(again.scheme.structures.items()) == list(summary.labels.items()) == [(1, "small"), (2, "all")]
    assert [case.unknown for case in again.cases] == [case.unknown for case in summary.cases]
    assert [case.ignored_voxels for case in again.cases] == [0, 80, 0]
    assert again.cases[1].ignore_file is not None
    assert strict(again)["mean"] == strict(summary)["mean"]


def test_regions_are_read_back_in_their_own_order():
    summary = Summary({2: "whole", 1: "core"}, {}, regions={"whole": (1, 2), "core": (1,)})
    assert summary.scheme.members == {2: (1, 2), 1: (1,)}


def test_two_sets_of_masks_are_compared_where_the_truth_is_known(tmp_path: Path, cases: dict[str, Case]):
    first = evaluate(tmp_path / "predictions", cases, LABELS)
    for name in "abc":
        write_mask(tmp_path / "others" / f"{name}.nii.gz", np.maximum(cube(2), cube(5, label=2)))
    compared = compare_summaries(first, evaluate(tmp_path / "others", cases, LABELS))
    assert (compared.classes[1].cases, compared.classes[2].cases) == (3, 2)


def test_a_data_set_says_which_value_is_ignored_and_which_structures_overlap(tmp_path: Path, fullscale: Command):
    truth, prediction = np.maximum(cube(2), cube(5, label=2)), np.maximum(cube(3), cube(5, label=2))
    truth[0] = 3
    write_mask(tmp_path / "d" / "imagesTr" / "a_0000.nii.gz", np.arange(truth.size, dtype=np.int16).reshape(SHAPE))
    write_mask(tmp_path / "d" / "labelsTr" / "a.nii.gz", truth)
    write_mask(tmp_path / "p" / "a.nii.gz", prediction)
    labels = {"background": 0, "all": [1, 2], "small": [2], "ignore": 3}
    (tmp_path / "d" / "dataset.json").write_text(json.dumps({"labels": labels, "regions_class_order": [1, 2]}))
    summary = evaluate(tmp_path / "p", tmp_path / "d")
    [case] = summary.cases
    assert (summary.labels, case.ignored_voxels) == ({1: "all", 2: "small"}, 80)
    both = [np.where(truth == 3, 0, mask) for mask in (prediction, truth)]
    whole = score_arrays(*(np.minimum(mask, 1) for mask in both), AFFINE[:3, :3], [1])
    assert case.metrics[1]["Dice"] == whole[1]["Dice"]
    one = evaluate(tmp_path / "p", tmp_path / "d", {2: "small"})
    assert (one.cases[0].ignored_voxels, one.cases[0].metrics[2]) == (80, case.metrics[2])
    shown = fullscale(
        *("evaluate", tmp_path / "p", tmp_path / "d" / "labelsTr", "--regions", "all=1+2,small=2", "--ignore", 3)
    )
    assert shown.returncode == 0, shown.stderr
    again: Summary = read_summary(tmp_path / "p" / "summary.json")
    assert again.cases[0].metrics == case.metrics
    assert "note: 80 voxels ignored in 1 case" in shown.stderr


def test_a_truth_that_says_nothing_is_refused(tmp_path: Path):
    write_mask(tmp_path / "truth" / "a.nii.gz", np.full(SHAPE, 9, np.uint8))
    write_mask(tmp_path / "p" / "a.nii.gz")
    with pytest.raises(DataError, match="every voxel is ignored"):
        evaluate(tmp_path / "p", tmp_path / "truth", LabelScheme({1: "liver"}, ignore=9))
