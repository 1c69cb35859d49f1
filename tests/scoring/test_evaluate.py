import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from tests.dicom_slices import COLUMNS, ROWS, write_series
from tests.dicom_slices import SLICES as DICOM_SLICES

from fullscale.data.case import Case
from fullscale.data.dicom.seg import write_seg
from fullscale.data.image_files import name_order
from fullscale.data.labels import Algorithm
from fullscale.data.read import read_image
from fullscale.data.volume_files import write_volume
from fullscale.errors import DataError, FullscaleError, GeometryError, UsageError
from fullscale.geometry.orientation import reorient
from fullscale.geometry.volume import Volume
from fullscale.metrics.slices import SLICES
from fullscale.scoring.evaluate import evaluate, score_arrays, score_case
from fullscale.scoring.summary import METRICS, Summary, read_summary, write_summary

AFFINE = np.diag([1.0, 1.0, 2.5, 1.0])
SHAPE = (12, 10, 8)
DIAGONAL = float(np.linalg.norm([12, 10, 20]))


def cube(start: int = 2, label: int = 1, size: int = 4) -> npt.NDArray[np.uint8]:
    array = np.zeros(SHAPE, dtype=np.uint8)
    array[start : start + size, 2:6, 2:6] = label
    return array


def write(path: Path, array: npt.NDArray[Any] | None = None, affine: npt.NDArray[Any] = AFFINE) -> Path:
    write_volume(path, Volume(cube() if array is None else array, affine))
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two cases with their truth: `a` perfect, `b` shifted by one voxel."""
    for name, start in (("a", 2), ("b", 3)):
        write(tmp_path / "predictions" / f"{name}.nii.gz", cube(start))
        write(tmp_path / "truth" / f"{name}.nii.gz")
    return tmp_path / "predictions", tmp_path / "truth"


def strict(summary: Summary) -> dict[str, Any]:
    """The summary as it stands in a file, read by a reader that refuses NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    content: dict[str, Any] = json.loads(json.dumps(summary.as_dict(), allow_nan=False), parse_constant=refuse)
    return content


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


def test_empty_masks_in_a_summary(tmp_path: Path) -> None:
    empty = np.zeros(SHAPE, dtype=np.uint8)
    cases = {"both": (cube(3), cube()), "missed": (empty, cube()), "invented": (cube(), empty), "none": (empty, empty)}
    for name, (prediction, truth) in cases.items():
        write(tmp_path / "p" / f"{name}.nii.gz", prediction)
        write(tmp_path / "t" / f"{name}.nii.gz", truth)
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
    assert first["prediction_file"] == str(predictions / "a.nii.gz")
    assert first["reference_file"] == str(truth / "a.nii.gz")
    nnunet = {"Dice", "IoU", "TP", "FP", "FN", "TN", "n_pred", "n_ref"}
    assert nnunet < set(first["metrics"]["1"])
    assert content["labels"] == {"1": "liver"}
    assert content["tolerance_mm"] == {"1": 1.0}
    assert content["failures"] == []


@pytest.mark.parametrize(("both", "one"), [("a", "b"), ("b", "a")])
def test_the_mean_of_classes_weighs_each_class_once(tmp_path: Path, both: str, one: str) -> None:
    write(tmp_path / "p" / f"{both}.nii", cube(2, 1) + cube(8, 2))
    write(tmp_path / "t" / f"{both}.nii", cube(2, 1) + cube(7, 2))
    write(tmp_path / "p" / f"{one}.nii", cube(3, 1))
    write(tmp_path / "t" / f"{one}.nii", cube(2, 1))
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
    content = strict(evaluate(write(tmp_path / "p.nii", empty), write(tmp_path / "t.nii", empty)))
    assert content["labels"] == {}
    assert content["foreground_mean"]["Dice"] is None
    assert content["foreground_mean"]["cases"] == 0


def test_a_label_that_only_a_prediction_holds_is_scored(tmp_path: Path) -> None:
    content = strict(evaluate(write(tmp_path / "p.nii", cube() + cube(7, 3)), write(tmp_path / "t.nii")))
    assert content["labels"] == {"1": "label 1", "3": "label 3"}
    assert content["mean"]["3"]["Dice"] == 0
    assert content["mean"]["3"]["false_positive_cases"] == 1


def test_labels_of_one_name_are_scored_as_one_structure(tmp_path: Path) -> None:
    predicted = write(tmp_path / "p.nii.gz", cube())
    truth = cube()
    truth[4:, 2:6, 2:6] *= 2  # the half of the liver that is tumour
    reference = write(tmp_path / "t.nii.gz", truth)
    [case] = evaluate(predicted, reference, {1: "liver", 2: "liver"}).cases
    assert list(case.metrics) == [1]
    assert case.metrics[1]["Dice"] == 1
    [apart] = evaluate(predicted, reference, {1: "liver", 2: "tumour"}).cases
    assert apart.metrics[1]["Dice"] == pytest.approx(2 / 3)


def test_labels_not_asked_for_count_as_background(tmp_path: Path) -> None:
    files = write(tmp_path / "p.nii", cube() + cube(7, 3)), write(tmp_path / "t.nii")
    content = strict(evaluate(*files, labels={1: "liver", 2: "spleen"}))
    assert content["labels"] == {"1": "liver", "2": "spleen"}
    assert content["mean"]["1"]["Dice"] == 1
    assert content["mean"]["2"]["true_negative_cases"] == 1


def test_two_files_are_paired_whatever_their_names(tmp_path: Path) -> None:
    prediction, truth = write(tmp_path / "mine.nrrd"), write(tmp_path / "theirs.nii.gz")
    [case] = evaluate(prediction, truth).cases
    assert (case.case, case.prediction_file, case.reference_file) == ("mine", prediction, truth)


def test_one_file_finds_its_truth_in_a_folder_and_misses_no_other(folders: tuple[Path, Path]) -> None:
    predictions, truth = folders
    summary = evaluate(predictions / "b.nii.gz", truth)
    assert [case.case for case in summary.cases] == ["b"]
    assert summary.failures == []


@pytest.mark.parametrize(
    ("prediction", "truth"),
    [
        ("volume-7", "segmentation-7"),
        ("segmentation-7", "segmentation-7"),
        ("liver_007_0000", "liver_007"),
        ("liver_0000", "liver_0000"),
    ],
)
def test_names_that_layouts_give_are_paired(tmp_path: Path, prediction: str, truth: str) -> None:
    write(tmp_path / "p" / f"{prediction}.nii.gz")
    write(tmp_path / "t" / f"{truth}.mha")
    summary = evaluate(tmp_path / "p", tmp_path / "t")
    assert [case.reference_file.name for case in summary.cases] == [f"{truth}.mha"]
    assert summary.failures == []


def test_the_exact_name_goes_first(tmp_path: Path) -> None:
    for folder in ("p", "t"):
        for name in ("x_0000", "x"):
            write(tmp_path / folder / f"{name}.nii")
    summary = evaluate(tmp_path / "p", tmp_path / "t")
    assert [case.prediction_file.name for case in summary.cases] == [c.reference_file.name for c in summary.cases]
    assert len(summary.cases) == 2


def test_a_lits_folder_as_truth_gives_its_masks_and_not_its_scans(tmp_path: Path) -> None:
    write(tmp_path / "lits" / "volume-0.nii.gz", np.full(SHAPE, -7, dtype=np.int16))
    write(tmp_path / "lits" / "segmentation-0.nii.gz")
    write(tmp_path / "p" / "volume-0.nii.gz")
    [case] = evaluate(tmp_path / "p", tmp_path / "lits").cases
    assert case.reference_file.name == "segmentation-0.nii.gz"
    assert case.metrics[1]["Dice"] == 1


def test_a_decathlon_folder_as_truth_gives_its_names_of_labels(tmp_path: Path) -> None:
    write(tmp_path / "d" / "imagesTr" / "a.nii.gz", np.zeros(SHAPE, dtype=np.int16))
    write(tmp_path / "d" / "labelsTr" / "a.nii.gz")
    training = [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]
    text = {"name": "x", "labels": {"0": "background", "1": "liver", "2": "spleen"}, "training": training, "test": []}
    (tmp_path / "d" / "dataset.json").write_text(json.dumps(text))
    write(tmp_path / "p" / "a.nii.gz")
    content = strict(evaluate(tmp_path / "p", tmp_path / "d"))
    assert content["labels"] == {"1": "liver", "2": "spleen"}
    assert content["mean"]["2"]["true_negative_cases"] == 1


def test_cases_may_be_given_by_name(folders: tuple[Path, Path]) -> None:
    predictions, truth = folders
    cases = {"b": Case.of_image("b", truth / "scan.nii.gz", truth / "b.nii.gz", "b")}
    summary = evaluate(predictions, cases)
    assert [case.case for case in summary.cases] == ["b"]
    assert [failure.case for failure in summary.failures] == ["a"]


def test_litter_and_probabilities_are_no_predictions(folders: tuple[Path, Path]) -> None:
    predictions, truth = folders
    (predictions / "._a.nii.gz").write_bytes(b"litter")
    (predictions / "summary.json").write_text("{}")
    write(predictions / "a_liver_probability.nii.gz", np.full(SHAPE, 0.3, np.float32))
    summary = evaluate(predictions, truth)
    assert len(summary.cases) == 2
    assert summary.failures == []


def test_what_has_no_counterpart_is_reported(folders: tuple[Path, Path]) -> None:
    predictions, truth = folders
    write(predictions / "c.nii.gz")
    write(truth / "d.nii.gz")
    summary = evaluate(predictions, truth)
    assert len(summary.cases) == 2
    messages = {failure.case: failure.message for failure in summary.failures}
    assert list(messages) == ["c", "d"]
    assert "no truth" in messages["c"]
    assert "no prediction" in messages["d"]
    assert [failure["case"] for failure in strict(summary)["failures"]] == ["c", "d"]


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


def test_a_truth_with_voxels_to_ignore_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "d" / "imagesTr" / "a_0000.nii.gz", np.zeros(SHAPE, dtype=np.int16))
    write(tmp_path / "d" / "labelsTr" / "a.nii.gz")
    (tmp_path / "d" / "dataset.json").write_text('{"labels": {"background": 0, "liver": 1, "ignore": 2}}')
    with pytest.raises(DataError, match="label 2 is 'ignore'"):
        evaluate(tmp_path / "d" / "labelsTr" / "a.nii.gz", tmp_path / "d")


def test_label_maps_in_deeper_folders_are_spoken_of(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    predictions, truth = folders
    write(predictions / "old" / "a.nii.gz")
    assert len(evaluate(predictions, truth).cases) == 2
    assert f"volumes in folders of it are not scored: 1, such as {predictions / 'old' / 'a.nii.gz'}" in caplog.text


def shifted(path: Path) -> None:
    affine = AFFINE.copy()
    affine[0, 3] = 0.5
    write(path, affine=affine)


def negative(path: Path) -> None:
    write(path, cube().astype(np.int16) - 1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: write(path, cube()[:-1]), r"shapes differ: \(11, 10, 8\) and \(12, 10, 8\).*2\.5 mm"),
        (shifted, r"affines differ by up to 0\.5 mm.*stored RAS"),
        (lambda path: write(path, cube() * np.float32(0.5)), "whole numbers"),
        (negative, "label -1"),
        (lambda path: path.write_text("no mask"), "NIfTI|read"),
        (lambda path: path.write_bytes(path.read_bytes()[:90]), "read"),
    ],
    ids=["other shape", "moved", "fractions", "negative label", "text file", "truncated"],
)
def test_a_case_that_cannot_be_scored_does_not_stop_the_others(
    folders: tuple[Path, Path], spoil: Callable[[Path], None], message: str
) -> None:
    predictions, truth = folders
    spoil(predictions / "b.nii.gz")
    summary = evaluate(predictions, truth)
    assert [case.case for case in summary.cases] == ["a"]
    [failure] = summary.failures
    assert failure.case == "b"
    assert "\n" not in failure.message
    with pytest.raises(DataError, match=message) as error:
        evaluate(predictions / "b.nii.gz", truth)
    assert str(error.value) == failure.message


def test_other_grids_are_refused_with_both_geometries() -> None:
    other = Volume(cube(), np.diag([-2.0, 1.0, 2.5, 1.0]))
    with pytest.raises(GeometryError, match=r"prediction 12 x 10 x 8 .* 2 x 1 x 2\.5 mm, stored LAS; truth .*RAS"):
        score_case(other, Volume(cube(), AFFINE), [1])


def test_other_grids_are_scored_on_request_and_said_to_be(folders: tuple[Path, Path]) -> None:
    predictions, truth = folders
    turned = reorient(Volume(cube(3), AFFINE), "SPL")
    write_volume(predictions / "b.nii.gz", turned)
    assert [failure.case for failure in evaluate(predictions, truth).failures] == ["b"]
    summary = evaluate(predictions, truth, resample=True)
    assert [(case.case, case.resampled) for case in summary.cases] == [("a", False), ("b", True)]
    assert summary.cases[1].metrics[1]["Dice"] == 0.75
    assert [case["resampled"] for case in strict(summary)["metric_per_case"]] == [False, True]


def test_no_case_scored_is_an_error(folders: tuple[Path, Path]) -> None:
    predictions, truth = folders
    for name in ("a", "b"):
        shifted(predictions / f"{name}.nii.gz")
    with pytest.raises(DataError, match=r"none of 2 cases.*b: .*affines differ"):
        evaluate(predictions, truth)


@pytest.mark.parametrize(
    ("predictions", "truth", "message"),
    [
        ("nowhere", "truth", "nowhere: no such"),
        ("predictions", "nowhere", "nowhere: no such"),
        ("empty", "truth", "nothing to evaluate.*holds nothing, the truth a, b"),
        ("predictions", "empty", "empty"),
        ("predictions", "strangers", "nothing to evaluate.*a, b.*u, v, w and 1 more"),
        ("predictions/a.nii.gz", "strangers", "nothing to evaluate"),
    ],
)
@pytest.mark.usefixtures("folders")
def test_nothing_to_evaluate_is_one_clear_line(tmp_path: Path, predictions: str, truth: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    for name in "uvwx":
        write(tmp_path / "strangers" / f"{name}.nii.gz")
    with pytest.raises(DataError, match=message):
        evaluate(tmp_path / predictions, tmp_path / truth)


def test_two_files_of_one_name_are_refused(folders: tuple[Path, Path]) -> None:
    predictions, truth = folders
    write(predictions / "a.nrrd")
    with pytest.raises(DataError, match="one case"):
        evaluate(predictions, truth)


def test_progress_is_told_after_each_case(folders: tuple[Path, Path]) -> None:
    seen: list[tuple[int, int, str]] = []
    evaluate(*folders, progress=lambda done, total, case: seen.append((done, total, case)))
    assert seen == [(1, 2, "a"), (2, 2, "b")]


def test_a_summary_is_written_whole_and_the_same_twice(folders: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "out" / "summary.json"
    write_summary(evaluate(*folders), path)
    first = path.read_bytes()
    write_summary(evaluate(*folders), path)
    assert path.read_bytes() == first
    assert json.loads(first) == evaluate(*folders).as_dict()
    assert [file.name for file in path.parent.iterdir()] == ["summary.json"]


def test_a_summary_is_read_back_as_it_was_written(folders: tuple[Path, Path], tmp_path: Path) -> None:
    shifted(folders[0] / "b.nii.gz")
    summary = evaluate(*folders)
    assert [failure.case for failure in summary.failures] == ["b"]
    write_summary(summary, tmp_path / "summary.json")
    assert read_summary(tmp_path / "summary.json") == summary


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"cannot read the scores .*No such file"),
        ("{", r"is no summary\.json of this version \(JSONDecodeError"),
        ("[]", "TypeError"),
        ("{}", "KeyError: 'labels'"),
        (
            '{"labels": {"1": "liver"}, "tolerance_mm": {}, "metric_per_case": [{"case": "a", "metrics": '
            '{"1": {"Dice": 1}}, "prediction_file": "a", "reference_file": "a"}], "failures": []}',
            "case a lacks ASSD, .*fullscale evaluate",
        ),
        ('{"labels": {"liver": "1"}, "tolerance_mm": {}, "metric_per_case": [], "failures": []}', "ValueError"),
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


def test_scoring_loads_neither_torch_nor_matplotlib() -> None:
    code = "import sys, fullscale.scoring.evaluate, fullscale.reporting.overlay, fullscale.reporting.curves\n"
    code += "sys.exit(bool({'torch', 'matplotlib', 'monai'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
