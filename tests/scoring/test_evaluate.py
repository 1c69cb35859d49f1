"""What a mask scores against its truth: by hand, turned, in another order, on another grid."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullscale.data.dicom.seg import write_seg
from fullscale.data.labels import Algorithm
from fullscale.data.png_stack import name_order
from fullscale.data.read import read_image
from fullscale.data.volume_files import write_volume
from fullscale.errors import UsageError
from fullscale.geometry.orientation import reorient
from fullscale.geometry.volume import Volume
from fullscale.metrics.slices import SLICES
from fullscale.scoring.evaluate import evaluate, score_arrays, score_case
from fullscale.scoring.summary import METRICS
from tests.dicom_slices import COLUMNS, ROWS, write_series
from tests.dicom_slices import SLICES as DICOM_SLICES
from tests.masks import AFFINE, SHAPE, cube, strict, write_mask


def test_a_shifted_cube_scored_by_hand() -> None:
    [scores] = score_case(Volume(cube(3), AFFINE), Volume(cube(2), AFFINE), [1]).values()
    assert (scores["TP"], scores["FP"], scores["FN"], scores["n_pred"], scores["n_ref"]) == (48, 16, 16, 64, 64)
    assert scores["TN"] == 12 * 10 * 8 - 80
    assert scores["Dice"] == 0.75
    assert scores["IoU"] == 0.6
    assert scores["HD95"] == 1.0
    assert scores["NSD"] == 1.0
    assert scores["volume_ml"] == scores["reference_volume_ml"] == pytest.approx(64 * 2.5 / 1000)
    assert scores["volume_error_ml"] == 0
    assert [scores[name] for name in SLICES] == [8, 4, 0, 0]
    assert set(scores) == {*METRICS, *SLICES}


@pytest.mark.parametrize("codes", ["LPS", "RAS", "SAR", "PIR", "ILP"])
def test_scores_do_not_depend_on_the_stored_orientation(codes: str) -> None:
    rng = np.random.default_rng(0)
    prediction, truth = (Volume(rng.integers(0, 3, SHAPE), np.diag([0.7, 1.3, 4, 1])) for _ in range(2))
    straight = score_case(prediction, truth, [1, 2])
    turned = score_case(reorient(prediction, codes), reorient(truth, codes), [1, 2])
    for label in (1, 2):
        assert turned[label] == pytest.approx(straight[label])


@pytest.mark.parametrize("orders", ["CC", "FF", "CF"])
def test_scores_do_not_depend_on_the_order_in_memory(orders: str) -> None:
    rng = np.random.default_rng(1)
    prediction, truth = rng.integers(0, 3, (2, *SHAPE))
    expected = score_arrays(prediction, truth, (0.7, 1.3, 4), [2, 1])
    got = score_arrays(
        np.array(prediction, order=orders[0]),
        np.array(truth, order=orders[1]),
        (0.7, 1.3, 4),
        [2, 1],
    )
    assert list(got) == [2, 1]
    for label in (1, 2):
        assert got[label] == pytest.approx(expected[label])


def test_without_surfaces_the_overlap_is_the_same() -> None:
    quick = score_arrays(cube(3), cube(2), (1, 1, 1), [1], surface=False)[1]
    whole = score_arrays(cube(3), cube(2), (1, 1, 1), [1])[1]
    assert whole == quick | {name: whole[name] for name in ("HD95", "ASSD", "NSD")}


def test_each_class_has_its_own_tolerance() -> None:
    truth = cube(2, 1) + cube(7, 2)
    prediction = np.roll(truth, 1, axis=2)
    scores = score_arrays(prediction, truth, (1, 1, 3), [1, 2], tolerance_mm={1: 3.0, 2: 0.5})
    assert scores[1]["NSD"] == 1
    assert 0 < (scores[2]["NSD"] or 0) < 1
    with pytest.raises(UsageError, match="label 2"):
        score_arrays(prediction, truth, (1, 1, 3), [1, 2], tolerance_mm={1: 3.0})


def test_labels_of_one_name_are_scored_as_one_structure(tmp_path: Path) -> None:
    predicted = write_mask(tmp_path / "p.nii.gz", cube())
    truth = cube()
    truth[4:, 2:6, 2:6] *= 2  # the half of the liver that is tumour
    reference = write_mask(tmp_path / "t.nii.gz", truth)
    [case] = evaluate(predicted, reference, {1: "liver", 2: "liver"}).cases
    assert list(case.metrics) == [1]
    assert case.metrics[1]["Dice"] == 1
    [apart] = evaluate(predicted, reference, {1: "liver", 2: "tumour"}).cases
    assert apart.metrics[1]["Dice"] == pytest.approx(2 / 3)


def test_labels_not_asked_for_count_as_background(tmp_path: Path) -> None:
    files = write_mask(tmp_path / "p.nii", cube() + cube(7, 3)), write_mask(tmp_path / "t.nii")
    content = strict(evaluate(*files, labels={1: "liver", 2: "spleen"}))
    assert content["labels"] == {"1": "liver", "2": "spleen"}
    assert content["mean"]["1"]["Dice"] == 1
    assert content["mean"]["2"]["true_negative_cases"] == 1


def test_a_label_that_only_a_prediction_holds_is_scored(tmp_path: Path) -> None:
    content = strict(evaluate(write_mask(tmp_path / "p.nii", cube() + cube(7, 3)), write_mask(tmp_path / "t.nii")))
    assert content["labels"] == {"1": "label 1", "3": "label 3"}
    assert content["mean"]["3"]["Dice"] == 0
    assert content["mean"]["3"]["false_positive_cases"] == 1


def test_a_segmentation_is_scored_against_the_png_masks_of_its_patient(tmp_path: Path) -> None:
    scan = read_image(write_series(tmp_path / "3" / "DICOM_anon"))
    files = sorted(scan.header.files, key=name_order)
    for n, file in enumerate(files):
        mask = np.zeros((ROWS, COLUMNS), np.uint8)
        mask[1, : scan.header.files.index(file)] = 255  # slice k along the normal holds k voxels
        (tmp_path / "3" / "Ground").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "3" / "Ground" / f"liver_{n}.png")
    found = np.zeros(scan.shape, np.uint8)
    for k in range(DICOM_SLICES):
        found[: min(k, COLUMNS), 1, k] = 1
    found[0, 1, 1] = 0  # one voxel of ten is missed
    write_seg(tmp_path / "SEG", scan.with_array(found), {1: "liver"}, Algorithm("a", "1"))
    for truth in (tmp_path / "3" / "Ground", tmp_path / "3"):
        given = tmp_path / "SEG" if truth.name == "Ground" else (tmp_path / "SEG").rename(tmp_path / "3.dcm")
        (case,) = evaluate(given, truth).cases
        assert case.metrics[1]["Dice"] == pytest.approx(2 * 9 / (9 + 10))


def test_other_grids_are_scored_on_request_and_said_to_be(folders: tuple[Path, Path]) -> None:
    predictions, truth = folders
    turned = reorient(Volume(cube(3), AFFINE), "SPL")
    write_volume(predictions / "b.nii.gz", turned)
    assert [failure.case for failure in evaluate(predictions, truth).failures] == ["b"]
    summary = evaluate(predictions, truth, resample=True)
    assert [(case.case, case.resampled) for case in summary.cases] == [("a", False), ("b", True)]
    assert summary.cases[1].metrics[1]["Dice"] == 0.75
    assert [case["resampled"] for case in strict(summary)["metric_per_case"]] == [False, True]


def test_progress_is_told_after_each_case(folders: tuple[Path, Path]) -> None:
    seen: list[tuple[int, int, str]] = []
    evaluate(*folders, progress=lambda done, total, case: seen.append((done, total, case)))
    assert seen == [(1, 2, "a"), (2, 2, "b")]


def test_scoring_loads_neither_torch_nor_matplotlib() -> None:
    code = "import sys, fullscale.scoring.evaluate, fullscale.reporting.overlay, fullscale.reporting.curves\n"
    code += "sys.exit(bool({'torch', 'matplotlib', 'monai'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
