"""Which truth belongs to which prediction, and what has none."""

import json
from pathlib import Path

import numpy as np
import pytest

from fullscale.data.case import Case
from fullscale.errors import DataError
from fullscale.scoring.evaluate import evaluate
from tests.masks import SHAPE, strict, write_mask


def test_two_files_are_paired_whatever_their_names(tmp_path: Path) -> None:
    prediction, truth = write_mask(tmp_path / "mine.nrrd"), write_mask(tmp_path / "theirs.nii.gz")
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
    write_mask(tmp_path / "p" / f"{prediction}.nii.gz")
    write_mask(tmp_path / "t" / f"{truth}.mha")
    summary = evaluate(tmp_path / "p", tmp_path / "t")
    assert [case.reference_file.name for case in summary.cases] == [f"{truth}.mha"]
    assert summary.failures == []


def test_the_exact_name_goes_first(tmp_path: Path) -> None:
    for folder in ("p", "t"):
        for name in ("x_0000", "x"):
            write_mask(tmp_path / folder / f"{name}.nii")
    summary = evaluate(tmp_path / "p", tmp_path / "t")
    assert [case.prediction_file.name for case in summary.cases] == [c.reference_file.name for c in summary.cases]
    assert len(summary.cases) == 2


def test_a_lits_folder_as_truth_gives_its_masks_and_not_its_scans(tmp_path: Path) -> None:
    write_mask(tmp_path / "lits" / "volume-0.nii.gz", np.full(SHAPE, -7, dtype=np.int16))
    write_mask(tmp_path / "lits" / "segmentation-0.nii.gz")
    write_mask(tmp_path / "p" / "volume-0.nii.gz")
    [case] = evaluate(tmp_path / "p", tmp_path / "lits").cases
    assert case.reference_file.name == "segmentation-0.nii.gz"
    assert case.metrics[1]["Dice"] == 1


def test_a_decathlon_folder_as_truth_gives_its_names_of_labels(tmp_path: Path) -> None:
    write_mask(tmp_path / "d" / "imagesTr" / "a.nii.gz", np.zeros(SHAPE, dtype=np.int16))
    write_mask(tmp_path / "d" / "labelsTr" / "a.nii.gz")
    training = [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]
    text = {"name": "x", "labels": {"0": "background", "1": "liver", "2": "spleen"}, "training": training, "test": []}
    (tmp_path / "d" / "dataset.json").write_text(json.dumps(text))
    write_mask(tmp_path / "p" / "a.nii.gz")
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
    write_mask(predictions / "a_liver_probability.nii.gz", np.full(SHAPE, 0.3, np.float32))
    summary = evaluate(predictions, truth)
    assert len(summary.cases) == 2
    assert summary.failures == []


def test_label_maps_in_deeper_folders_are_spoken_of(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    predictions, truth = folders
    write_mask(predictions / "old" / "a.nii.gz")
    assert len(evaluate(predictions, truth).cases) == 2
    assert f"volumes in folders of it are not scored: 1, such as {predictions / 'old' / 'a.nii.gz'}" in caplog.text


def test_what_has_no_counterpart_is_reported(folders: tuple[Path, Path]) -> None:
    predictions, truth = folders
    write_mask(predictions / "c.nii.gz")
    write_mask(truth / "d.nii.gz")
    summary = evaluate(predictions, truth)
    assert len(summary.cases) == 2
    messages = {failure.case: failure.message for failure in summary.failures}
    assert list(messages) == ["c", "d"]
    assert "no truth" in messages["c"]
    assert "no prediction" in messages["d"]
    assert [failure["case"] for failure in strict(summary)["failures"]] == ["c", "d"]


def test_two_files_of_one_name_are_refused(folders: tuple[Path, Path]) -> None:
    predictions, truth = folders
    write_mask(predictions / "a.nrrd")
    with pytest.raises(DataError, match="one case"):
        evaluate(predictions, truth)
