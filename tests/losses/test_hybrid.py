import numpy as np
import pytest
import torch

from fullscale.errors import UsageError
from fullscale.losses.hybrid import HybridLoss
from tests.losses.loss_twins import focal, iou, ms_ssim


def random_case(classes):
    rng = np.random.default_rng(5)
    return rng.normal(0, 2, (2, classes, 24, 22)), rng.integers(0, max(2, classes), (2, 24, 22))


@pytest.mark.parametrize("classes", [1, 3])
def test_is_the_sum_of_the_three_formulas(classes):
    logits, target = random_case(classes)
    expected = {"focal": focal(logits, target), "ms_ssim": ms_ssim(logits, target), "iou": iou(logits, target)}
    loss = HybridLoss()
    parts = loss.parts(torch.tensor(logits), torch.tensor(target))
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(expected, rel=1e-10)
    assert loss(torch.tensor(logits), torch.tensor(target)).item() == pytest.approx(sum(expected.values()), rel=1e-10)


def test_weights_and_settings_reach_the_parts():
    logits, target = random_case(1)
    loss = HybridLoss((2.0, 0.0, 0.5), gamma=1.0, alpha=0.3, variant="wang", smooth=3.0)
    expected = {"focal": 2 * focal(logits, target, 1, 0.3), "ms_ssim": 0.0, "iou": 0.5 * iou(logits, target, 3)}
    parts = loss.parts(torch.tensor(logits), torch.tensor(target))
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(expected, rel=1e-10)
    assert loss.ms_ssim.variant == "wang"


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 1.0, -1.0), (0.0, 0.0, 0.0), (1.0, float("nan"), 1.0)])
def test_weights_that_make_no_loss_are_refused(weights):
    with pytest.raises(UsageError, match="weights"):
        HybridLoss(weights)
