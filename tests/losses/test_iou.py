import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fullscale.errors import UsageError
from fullscale.losses.iou import IoULoss, soft_iou
from tests.losses.loss_twins import iou


@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("smooth", [1.0, 1e-3])
def test_equals_the_formula_pixel_by_pixel(classes, smooth):
    rng = np.random.default_rng(1)
    logits, target = rng.normal(0, 3, (3, classes, 6, 5)), rng.integers(0, max(2, classes), (3, 6, 5))
    got = IoULoss(smooth)(torch.tensor(logits), torch.tensor(target))
    assert got.item() == pytest.approx(iou(logits, target, smooth), rel=1e-12)


def test_masks_that_share_2_of_6_pixels():
    p, g = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    p[0, 0, 0, :4] = 1
    g[0, 0, 0, 2:] = g[0, 0, 1, 2:] = 1
    assert soft_iou(p, g, smooth=1e-6).item() == pytest.approx(2 / 6, abs=1e-5)
    assert soft_iou(p, g).item() == pytest.approx(3 / 7)


def test_empty_prediction_of_an_empty_truth_scores_0():
    assert IoULoss()(torch.full((2, 1, 8, 8), -50.0), torch.zeros(2, 8, 8, dtype=torch.long)).item() == 0


def test_two_false_pixels_are_worse_than_one():
    truth = torch.zeros(1, 8, 8, dtype=torch.long)
    one = torch.full((1, 1, 8, 8), -50.0)
    one[0, 0, 0, 0] = 50
    two = one.clone()
    two[0, 0, 5, 5] = 50
    assert IoULoss()(one, truth).item() == pytest.approx(1 / 2)
    assert IoULoss()(two, truth).item() == pytest.approx(2 / 3)


def test_images_count_alike_whatever_their_structures_size():
    target = torch.zeros(2, 8, 8, dtype=torch.long)
    target[0, :, :] = 1
    target[1, 0, 0] = 1
    logits = torch.full((2, 1, 8, 8), -50.0)
    logits[0] = 50
    assert IoULoss(1e-6)(logits, target).item() == pytest.approx(0.5, abs=1e-5)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.integers(1, 4), st.floats(0.01, 100), st.floats(1e-6, 10))
def test_stays_between_0_and_1(seed, classes, size, smooth):
    generator = torch.Generator().manual_seed(seed)
    logits = size * torch.randn(2, classes, 7, 5, generator=generator, dtype=torch.float64)
    target = torch.randint(0, max(2, classes), (2, 7, 5), generator=generator)
    assert -1e-12 <= IoULoss(smooth)(logits, target).item() <= 1


@pytest.mark.parametrize("smooth", [0.0, -1.0, float("inf")])
def test_smoothing_must_be_above_0(smooth):
    with pytest.raises(UsageError, match="smooth"):
        IoULoss(smooth)
