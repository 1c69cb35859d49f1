"""The example of the losses: the formula with its numbers gives what the module gives."""

import math

import pytest

from fullscale.paper.losses import Example, loss_formulas


@pytest.mark.parametrize("formula", loss_formulas(), ids=lambda formula: formula.title)
def test_the_formula_with_numbers_is_the_module(formula):
    assert formula.by_formula == pytest.approx(formula.by_module, rel=1e-9)
    assert 0 < formula.by_module < 2


def test_the_numbers_that_are_shown_lead_to_the_value():
    by_title = {formula.title.split(",")[0]: formula for formula in loss_formulas()}
    iou = by_title["IoU loss"].numbers[-1].replace(",", "")
    assert eval(iou) == pytest.approx(by_title["IoU loss"].by_formula, abs=1e-5)
    product = by_title["MS-SSIM loss"].numbers[-1].replace("·", "*")
    assert eval(product) == pytest.approx(by_title["MS-SSIM loss"].by_formula, abs=1e-3)
    hybrid = by_title["Hybrid loss"]
    assert eval(hybrid.numbers[0]) == pytest.approx(hybrid.by_formula, abs=1e-5)


def test_the_disc_of_the_example_has_the_area_of_a_disc():
    parts = Example().parts
    assert parts.both + parts.missed == pytest.approx(math.pi * 60**2, rel=0.005)
    assert parts.invented == parts.missed
    assert sum(parts) == 320 * 320
