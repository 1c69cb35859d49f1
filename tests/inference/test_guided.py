"""The gate seen from outside: one pass gives the mask as `predict` hands it out, and the mask without the gate."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fullscale.bundle.card import ModelCard
from fullscale.data.volume_files import read_volume
from fullscale.errors import UsageError
from fullscale.geometry.orientation import reorient
from fullscale.geometry.volume import Volume
from fullscale.inference.guided import is_guided, predict_guided
from fullscale.inference.predictor import Predictor
from fullscale.networks import create_network
from fullscale.scoring.summary import read_summary


@pytest.fixture(scope="module")
def scan(phantoms: Path) -> Volume:
    return read_volume(phantoms / "imagesTs" / "phantom_006.nii.gz")


def with_bias(trained_run: Path, structure: int, absent: float) -> Predictor:
    """A predictor whose guidance is pushed to call one structure absent or present."""
    predictor = Predictor.from_run(trained_run, "cpu")
    with torch.no_grad():
        predictor.network.guidance.conv.bias[2 * structure] = absent  # type: ignore[union-attr,index]
    return predictor


def test_the_gated_mask_is_the_one_that_predict_gives(trained_run: Path, scan: Volume) -> None:
    for codes in ("RAS", "LSP"):
        stored = reorient(scan, codes)
        predictor = Predictor.from_run(trained_run, "cpu")
        np.testing.assert_array_equal(predict_guided(predictor, stored).gated.array, predictor.predict(stored).array)


def test_the_gate_takes_out_what_is_called_absent_and_nothing_else(trained_run: Path, scan: Volume) -> None:
    everywhere = predict_guided(with_bias(trained_run, 0, -1e6), scan)
    nowhere = predict_guided(with_bias(trained_run, 0, 1e6), scan)
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
    predictor = Predictor(plain, create_network("unet", 3, 3, width=4), "cpu")
    assert not is_guided(predictor)
    with pytest.raises(UsageError, match="'unet' has no guidance"):
        predict_guided(predictor, scan)
