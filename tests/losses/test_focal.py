import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fullscale.errors import UsageError
from fullscale.losses.focal import FocalLoss
from tests.losses.loss_twins import focal


def random_case(classes, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 3, (2, classes, 5, 6)), rng.integers(0, max(2, classes), (2, 5, 6))


@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 3.0])
@pytest.mark.parametrize("alpha", [None, 0.25, 0.3])
def test_equals_the_formula_pixel_by_pixel(classes, gamma, alpha):
    logits, target = random_case(classes)
    got = FocalLoss(gamma, alpha)(torch.tensor(logits), torch.tensor(target))
    assert got.item() == pytest.approx(focal(logits, target, gamma, alpha), rel=1e-12)


def test_by_hand_at_probability_one_half():
    structure, background = torch.ones(1, 1, 1, dtype=torch.long), torch.zeros(1, 1, 1, dtype=torch.long)
    even = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    assert FocalLoss(2, 0.25)(even, structure).item() == pytest.approx(0.25 * 0.25 * math.log(2), rel=1e-14)
    assert FocalLoss(2, 0.25)(even, background).item() == pytest.approx(0.75 * 0.25 * math.log(2), rel=1e-14)
    assert FocalLoss()(even, structure).item() == pytest.approx(0.25 * math.log(2), rel=1e-14)


def test_gamma_0_is_cross_entropy():
    logits, target = (torch.tensor(x) for x in random_case(4))
    assert FocalLoss(gamma=0)(logits, target).item() == pytest.approx(F.cross_entropy(logits, target).item(), rel=1e-12)


@pytest.mark.parametrize(("alpha", "truths"), [(None, [1, 0]), (0.25, [1, 1, 1, 0])])
def test_probability_one_half_is_where_pixels_are_structure_this_often(alpha, truths):
    logit = torch.zeros((), dtype=torch.float64, requires_grad=True)
    target = torch.tensor(truths).reshape(1, 1, -1)
    FocalLoss(2, alpha)(logit.expand(1, 1, 1, len(truths)), target).backward()
    assert logit.grad.item() == pytest.approx(0, abs=1e-15)


def test_the_binary_loss_is_the_loss_of_two_classes_with_a_background_logit_of_0():
    logits, target = (torch.tensor(x) for x in random_case(1))
    two = torch.cat([torch.zeros_like(logits), logits], dim=1)
    assert FocalLoss()(logits, target).item() == pytest.approx(FocalLoss()(two, target).item(), rel=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("size", [50.0, 1e4])
@pytest.mark.parametrize("classes", [1, 3])
def test_gradient_is_finite_at_saturated_logits_for_any_gamma(gamma, size, classes):
    _, target = random_case(classes)
    logits = (size * torch.randn(2, classes, 5, 6).sign()).requires_grad_()
    loss = FocalLoss(gamma)(logits, torch.tensor(target))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"gamma": -1.0}, "gamma"), ({"gamma": math.nan}, "gamma"), ({"alpha": 1.5}, "alpha"), ({"alpha": 0.0}, "alpha")],
)
def test_settings_out_of_range_are_refused_by_name(settings, name):
    with pytest.raises(UsageError, match=name):
        FocalLoss(**settings)
