"""Regions, ignored voxels and partial labels from the data set to the mask, its scores and its report."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fullscale.bundle.card import CARD, read_card
from fullscale.config.load import load_config
from fullscale.data.phantom import make_case
from fullscale.data.volume_files import write_volume
from fullscale.errors import DataError
from fullscale.inference.predictor import Predictor
from fullscale.runfolder import RunFolder
from fullscale.scoring.summary import read_summary
from fullscale.training.request import TrainRequest
from fullscale.training.run import train
from tests.conftest import Command, Once

SETTINGS = [
    *("network.width=4", "data.batch_size=2", "data.workers=0", "data.folds=2", "data.patch_size=[32,32]"),
    *("trainer.steps_per_epoch=2", "trainer.max_epochs=1", "trainer.device=cpu", "data.view=slices"),
]
REGIONS = {"both": [1, 2], "spleen": [2]}


def write_regions(root: Path) -> None:
    """Phantoms in nnU-Net's layout, with regions and a border of which nothing is known."""
    for number in range(4):
        scan, label = make_case(number, size=32, slices=12)
        border = label.array.copy()
        border[:4] = 9
        write_volume(root / "imagesTr" / f"case_{number}_0000.nii.gz", scan)
        write_volume(root / "labelsTr" / f"case_{number}.nii.gz", label.with_array(border))
    described = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **REGIONS, "ignore": 9},
        "regions_class_order": [1, 2],
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(described))


def write_partial(root: Path) -> None:
    """Phantoms in a list, of which two were drawn without the spleen, and one has a field of view."""
    rows = []
    for number in range(4):
        scan, label = make_case(number, size=32, slices=12)
        alone = number in (1, 2)
        files = {"image": root / f"case_{number}.nii.gz", "label": root / f"label_{number}.nii.gz"}
        write_volume(files["image"], scan)
        write_volume(files["label"], label.with_array(label.array * (label.array == 1)) if alone else label)
        view = np.ones(label.shape, np.uint8)
        view[:4] = 0
        write_volume(root / f"view_{number}.nii.gz", label.with_array(view))
        rows.append(
            {**files, "labelled": "liver" if alone else "", "ignore": root / f"view_{number}.nii.gz" if number else ""}
        )
    with (root / "cases.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["image", "label", "labelled", "ignore"])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def regions(once: Once) -> Path:
    return once("regions_data", write_regions)


@pytest.fixture(scope="module")
def partial(once: Once) -> Path:
    return once("partial_data", write_partial)


@pytest.fixture(scope="module")
def regions_run(once: Once, regions: Path, cache: Path) -> RunFolder:
    return RunFolder(
        once(
            "regions_run",
            lambda run: train(TrainRequest(regions, run, config=load_config(None, SETTINGS), cache=cache)),
        )
    )


@pytest.mark.slow
def test_a_run_of_regions_scores_and_hands_over_regions(regions_run: RunFolder, regions: Path):
    card = read_card(regions_run.bundle / CARD)
    assert card.scheme.members == {1: (1, 2), 2: (2,)}
    assert (card.scheme.channels, card.scheme.activation) == (2, "sigmoid")
    summary = read_summary(regions_run.fold("0").summary)
    assert summary.labels == {1: "both", 2: "spleen"}
    assert {case.ignored_voxels for case in summary.cases} == {4 * 32 * 12}
    for case in summary.cases:
        truth = np.asanyarray(nib.load(regions / "labelsTr" / f"{case.case}.nii.gz").dataobj)
        assert case.metrics[1]["n_ref"] == np.isin(truth, (1, 2)).sum()
        assert case.metrics[2]["n_ref"] == (truth == 2).sum()
    assert {scores.case for scores in summary.guidance} == {case.case for case in summary.cases}


def test_an_ensemble_of_regions_is_decided_and_tells_each_probability(
    regions_run: RunFolder, regions: Path, cache: Path
):
    train(TrainRequest(regions, regions_run.path, folds=("1",), config=load_config(None, SETTINGS), cache=cache))
    predictor = Predictor.from_run(regions_run.path, "cpu", postprocess=False)
    assert len(predictor.members) == 2
    scan = regions / "imagesTr" / "case_0_0000.nii.gz"
    mask, probabilities = predictor.predict_probabilities(scan)
    assert list(probabilities) == ["both", "spleen"]
    present = {name: volume.array > 0.5 for name, volume in probabilities.items()}
    undecided = [np.abs(volume.array.astype(float) - 0.5) < 1e-3 for volume in probabilities.values()]
    expected = np.where(present["spleen"], 2, np.where(present["both"], 1, 0))
    sure = ~np.logical_or.reduce(undecided)
    np.testing.assert_array_equal(mask.array[sure], expected[sure])


def test_a_run_of_regions_is_tested_and_reported_from_the_command_line(
    regions_run: RunFolder, regions: Path, tmp_path: Path, fullscale: Command
):
    tested = fullscale("test", regions_run.fold("0").path, regions, "-o", tmp_path, "--device", "cpu")
    assert tested.returncode == 0, tested.stderr
    assert "voxels ignored in 4 cases" in tested.stderr
    of_run = {case.case: case.metrics for case in read_summary(regions_run.fold("0").summary).cases}
    for case in read_summary(tmp_path / "summary.json").cases:
        if case.case in of_run:
            assert case.metrics == of_run[case.case]
    reported = fullscale("report", regions_run.path, "-o", tmp_path / "report.html")
    assert reported.returncode == 0, reported.stderr
    page = (tmp_path / "report.html").read_text()
    assert "ignored in 4 cases: no score counts them" in page
    assert "data:image/png" in page


@pytest.mark.slow
def test_partial_labels_train_and_are_scored_where_they_are_known(
    partial: Path, cache: Path, tmp_path: Path, fullscale: Command
):
    settings = [*SETTINGS, "data.labels={1: liver, 2: spleen}", "data.validation=[case_0, case_1]"]
    done = fullscale("train", partial / "cases.csv", "-o", tmp_path / "run", "--cache", cache, *settings)
    assert done.returncode == 0, done.stderr
    assert "spleen was not labelled in 1 of 2 cases, which are not scored for it" in done.stderr
    first, second = read_summary(tmp_path / "run" / "summary.json").cases
    assert (first.unknown, first.ignored_voxels) == ((), 0)
    assert (second.unknown, second.ignored_voxels) == ((2,), 4 * 32 * 12)
    again = fullscale("train", partial / "cases.csv", "-o", tmp_path / "run", "--cache", cache, *settings)
    assert again.returncode == 0, again.stderr


def test_a_structure_that_no_training_case_is_labelled_for_is_refused(partial: Path, cache: Path, tmp_path: Path):
    settings = [*SETTINGS, "data.labels={1: liver, 2: spleen}", "data.validation=[case_0, case_3]"]
    request = TrainRequest(partial / "cases.csv", tmp_path / "run", config=load_config(None, settings), cache=cache)
    with pytest.raises(DataError, match=r"fold 0: no training case is labelled for 'spleen', but case_0 that is held"):
        train(request)
