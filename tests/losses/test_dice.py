import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fullscale.errors import UsageError
from fullscale.losses.dice import CrossEntropyDiceLoss, DiceLoss, soft_dice
from tests.losses.loss_twins import cross_entropy, dice


def random_case(classes, seed=2):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 3, (3, classes, 6, 5)), rng.integers(0, max(2, classes), (3, 6, 5))


@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("smooth", [1.0, 1e-3])
def test_equals_the_formula_pixel_by_pixel(classes, batch_dice, smooth):
    logits, target = random_case(classes)
    got = DiceLoss(smooth, batch_dice)(torch.tensor(logits), torch.tensor(target))
    assert got.item() == pytest.approx(dice(logits, target, smooth, batch_dice), rel=1e-12)


@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("batch_dice", [False, True])
def test_sum_of_cross_entropy_and_dice(classes, batch_dice):
    logits, target = random_case(classes)
    loss = CrossEntropyDiceLoss(batch_dice=batch_dice)
    parts = loss.parts(torch.tensor(logits), torch.tensor(target))
    assert parts["cross_entropy"].item() == pytest.approx(cross_entropy(logits, target), rel=1e-12)
    assert parts["dice"].item() == pytest.approx(dice(logits, target, 1.0, batch_dice), rel=1e-12)
    assert loss(torch.tensor(logits), torch.tensor(target)).item() == pytest.approx(sum(parts.values()).item())


def test_masks_that_share_2_of_4_and_4_pixels():
    p, g = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    p[0, 0, 0, :4] = 1
    g[0, 0, 0, 2:] = g[0, 0, 1, 2:] = 1
    assert soft_dice(p, g, smooth=1e-6).item() == pytest.approx(0.5, abs=1e-5)


def test_an_structure_missing_from_one_slice_weighs_little_over_the_batch():
    target = torch.zeros(2, 8, 8, dtype=torch.long)
    target[0] = 1
    logits = torch.where(target == 1, 50.0, -50.0).unsqueeze(1)
    logits[1, 0, 0, 0] = 50
    assert DiceLoss()(logits, target).item() == pytest.approx(0.25)
    assert DiceLoss(batch_dice=True)(logits, target).item() == pytest.approx(1 / 130, abs=1e-6)


def test_with_cross_entropy_dice_is_taken_over_the_batch_by_default():
    logits, target = random_case(3)
    got = CrossEntropyDiceLoss().parts(torch.tensor(logits), torch.tensor(target))["dice"].item()
    assert got == pytest.approx(dice(logits, target, batch_dice=True), rel=1e-12)
    assert got != pytest.approx(dice(logits, target), rel=1e-3)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.integers(1, 4), st.floats(0.01, 100), st.floats(1e-6, 10), st.booleans())
def test_stays_between_0_and_1(seed, classes, size, smooth, batch_dice):
    generator = torch.Generator().manual_seed(seed)
    logits = size * torch.randn(2, classes, 7, 5, generator=generator, dtype=torch.float64)
    target = torch.randint(0, max(2, classes), (2, 7, 5), generator=generator)
    assert -1e-12 <= DiceLoss(smooth, batch_dice)(logits, target).item() <= 1


@pytest.mark.parametrize("loss", [DiceLoss, CrossEntropyDiceLoss])
def test_smoothing_must_be_above_0(loss):
    with pytest.raises(UsageError, match="smooth"):
        loss(smooth=0.0)
