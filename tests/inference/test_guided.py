"""The gate seen from outside: one pass gives the mask as `predict` hands it out, and the mask without the gate."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fullscale.bundle.card import ModelCard
from fullscale.bundle.store import load_bundle, save_bundle, save_ensemble
from fullscale.data.volume_files import read_volume
from fullscale.geometry.orientation import reorient
from fullscale.geometry.volume import Volume
from fullscale.inference.guided import predict_guided
from fullscale.inference.predictor import Predictor
from fullscale.metrics.presence import Guided
from fullscale.networks import create_network
from fullscale.scoring.summary import read_summary


@pytest.fixture(scope="module")
def scan(phantoms: Path) -> Volume:
    return read_volume(phantoms / "imagesTs" / "phantom_006.nii.gz")


def with_bias(trained_run: Path, structure: int, absent: float) -> Predictor:
    """A predictor whose guidance is pushed to call one structure absent or present."""
    [member] = load_bundle(trained_run).members
    with torch.no_grad():
        member.network.guidance.conv.bias[2 * structure] = absent  # type: ignore[union-attr,index]
    return Predictor.from_network(member.card, member.network, "cpu")


def guided(predictor: Predictor, scan: Volume) -> Guided:
    mask, found = predict_guided(predictor, scan)
    assert found is not None
    np.testing.assert_array_equal(mask.array, found.gated.array)
    return found


def test_the_gated_mask_is_the_one_that_predict_gives(trained_run: Path, scan: Volume) -> None:
    for codes in ("RAS", "LSP"):
        stored = reorient(scan, codes)
        predictor = Predictor.from_run(trained_run, "cpu")
        np.testing.assert_array_equal(guided(predictor, stored).gated.array, predictor.predict(stored).array)


def test_the_gate_takes_out_what_is_called_absent_and_nothing_else(trained_run: Path, scan: Volume) -> None:
    everywhere = guided(with_bias(trained_run, 0, -1e6), scan)
    nowhere = guided(with_bias(trained_run, 0, 1e6), scan)
    assert everywhere.predicted_present[:, 0].all()
    assert not nowhere.predicted_present[:, 0].any()
    assert not (nowhere.gated.array == 1).any()
    np.testing.assert_array_equal(nowhere.ungated.array, everywhere.ungated.array)
    assert everywhere.predicted_present.shape == (14, 2)
    for slice_said, gated, ungated in zip(
        everywhere.predicted_present, everywhere.gated.array.T, everywhere.ungated.array.T, strict=True
    ):
        if slice_said.all():
            np.testing.assert_array_equal(gated, ungated)


def test_a_run_keeps_what_its_gate_did(trained_run: Path) -> None:
    summary = read_summary(trained_run / "fold_0" / "validation" / "summary.json")
    assert [scores.case for scores in summary.guidance] == [case.case for case in summary.cases]
    for scores, case in zip(summary.guidance, summary.cases, strict=True):
        for label, parts in scores.metrics.items():
            assert parts["gated"]["FP"] == case.metrics[label]["FP"]
            assert parts["gated"]["false_positive_slices"] == case.metrics[label]["false_positive_slices"]
            assert sum(parts["presence"].values()) == case.metrics[label]["slices"]  # type: ignore[arg-type]


def test_a_network_without_guidance_has_no_gate_to_leave_out(trained_run: Path, scan: Volume) -> None:
    card = Predictor.from_run(trained_run, "cpu").card
    plain = ModelCard(**(card.model_dump() | {"network": "unet", "options": {"width": 4}}))
    predictor = Predictor.from_network(plain, create_network("unet", 3, 3, width=4), "cpu")
    mask, found = predict_guided(predictor, scan)
    assert found is None
    np.testing.assert_array_equal(mask.array, predictor.predict(scan).array)


def test_an_ensemble_gates_each_member_and_counts_their_votes(trained_run: Path, scan: Volume, tmp_path: Path) -> None:
    [member] = load_bundle(trained_run).members
    folders = {}
    for name, absent in (("a", 1e6), ("b", -1e6), ("c", -1e6)):
        with torch.no_grad():
            member.network.guidance.conv.bias[0] = absent  # type: ignore[union-attr,index]
        save_bundle(tmp_path / name, member.card, member.network.state_dict())
        folders[name] = tmp_path / name
    save_ensemble(tmp_path / "three", folders)
    save_ensemble(tmp_path / "two", {name: folders[name] for name in "ab"})
    three, two = (Predictor.from_run(tmp_path / name, "cpu") for name in ("three", "two"))
    assert guided(three, scan).predicted_present[:, 0].all()
    assert not guided(two, scan).predicted_present[:, 0].any()
    for predictor in (three, two):
        np.testing.assert_array_equal(guided(predictor, scan).gated.array, predictor.predict(scan).array)
    # Without the gate all members are one and the same network.
    alone = guided(Predictor.from_run(folders["b"], "cpu"), scan).ungated.array
    np.testing.assert_array_equal(guided(two, scan).ungated.array, alone)
