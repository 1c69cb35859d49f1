"""What the plan says of the augmentation reaches it, as far as it has the options; slices are changed as ever."""

from pathlib import Path
from typing import Any

from fullscale.config.load import load_config
from fullscale.data.plan import Plan, read_plan
from fullscale.training.augment import DefaultAugmentation
from fullscale.training.prepare import resolve

PATCHES = {
    "view": "patches",
    "spacing_mm": [3.0, 1.0, 1.0],
    "neighbours": 0,
    "patch_size": [8, 32, 32],
    "network": {"spatial_dims": 3, "levels": 3, "strides": [[1, 2, 2], [2, 2, 2]]},
    "augment": {"spacing_mm": [3.0, 1.0, 1.0], "flip": 0.5, "mirrors": ["left-right"]},
}


def options(plan: Plan, *overrides: str) -> dict[str, Any]:
    return resolve(load_config(None, ["network.width=4", *overrides]), plan).augment.options


def of_patches(plan: Plan) -> Plan:
    values = plan.model_dump(mode="json")
    return Plan.model_validate(values | {key: {"value": value, "reason": "a test"} for key, value in PATCHES.items()})


def test_patches_have_what_the_plan_says_and_the_user_has_the_last_word(trained_run: Path) -> None:
    plan = of_patches(read_plan(trained_run / "plan.json"))
    found = options(plan)
    assert (found["flip"], found["mirrors"], found["spacing_mm"]) == (0.5, ["left-right"], [3.0, 1.0, 1.0])
    assert DefaultAugmentation(**found).spacing_mm == (3.0, 1.0, 1.0)
    given = options(plan, "augment.flip=0.1", "augment.spacing_mm=[1,1,1]")
    assert (given["flip"], given["spacing_mm"]) == (0.1, [1, 1, 1])


def test_slices_have_the_defaults_alone(trained_run: Path) -> None:
    found = options(read_plan(trained_run / "plan.json"))
    assert (found["flip"], found["spacing_mm"]) == (0, None)


def test_an_augmentation_without_these_options_is_given_none(trained_run: Path) -> None:
    plan = of_patches(read_plan(trained_run / "plan.json"))
    assert options(plan, "augment.name=tests.testing.test_contract_checks:Mirror") == {}
