"""What the plan says of the augmentation: patches are turned in mm and mirrored where that is safe, slices as ever."""

from pathlib import Path
from typing import Any

import pytest

from fullscale.config.load import load_config
from fullscale.data.plan import Plan, read_plan
from fullscale.training.augment import DefaultAugmentation
from fullscale.training.prepare import resolve

PATCHES = {
    "view": "patches",
    "spacing_mm": [3.0, 1.0, 1.0],
    "neighbours": 0,
    "patch_size": [8, 32, 32],
}


def options(plan: Plan, *overrides: str) -> dict[str, Any]:
    return resolve(load_config(None, ["network.width=4", *overrides]), plan).augment.options


def of_patches(plan: Plan, *names: str) -> Plan:
    values = plan.model_dump(mode="json")
    for key, value in (PATCHES | {"labels": dict(enumerate(["background", *names]))}).items():
        values[key] = {"value": value, "reason": "a test"}
    return Plan.model_validate(values)


@pytest.mark.parametrize(("names", "flip"), [(("Anterior", "Posterior"), 0.5), (("kidney_left", "kidney_right"), 0.0)])
def test_patches(trained_run: Path, names: tuple[str, ...], flip: float) -> None:
    plan = of_patches(read_plan(trained_run / "plan.json"), *names)
    found = options(plan)
    assert (found["flip"], found["mirrors"], found["spacing_mm"]) == (flip, ["left-right"], [3.0, 1.0, 1.0])
    assert DefaultAugmentation(**found).spacing_mm == (3.0, 1.0, 1.0)
    given = options(plan, "augment.flip=0.1", "augment.spacing_mm=[1,1,1]")
    assert (given["flip"], given["spacing_mm"]) == (0.1, [1, 1, 1])


def test_slices_have_the_defaults_alone(trained_run: Path) -> None:
    found = options(read_plan(trained_run / "plan.json"))
    assert (found["flip"], found["spacing_mm"]) == (0, None)


def test_an_augmentation_without_these_options_is_given_none(trained_run: Path) -> None:
    plan = of_patches(read_plan(trained_run / "plan.json"), "liver")
    assert options(plan, "augment.name=tests.testing.test_contract_checks:Mirror") == {}
