"""What a training step needs: counted without taking any memory, near what a real step keeps, and refused in time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fullscale.config.load import load_config
from fullscale.data.label_choice import LabelChoice
from fullscale.data.plan import Plan
from fullscale.errors import UsageError
from fullscale.training.memory import require_memory, step_bytes, step_seconds
from fullscale.training.prepare import resolve
from fullscale.work.machine import has_bf16

pytestmark = pytest.mark.whole
needs_bf16 = pytest.mark.skipif(not has_bf16(), reason="the processor has no bf16")

PLAN = {
    "dataset": "d",
    "modality": {"value": "CT", "reason": "r"},
    "labels": {"value": {"0": "background", "1": "liver"}, "reason": "r"},
    "intensity": {"value": {"per": "dataset", "low": 0, "high": 1}, "reason": "r"},
    "spacing_mm": {"value": 1, "reason": "r"},
    "neighbours": {"value": 1, "reason": "r"},
    "patch_size": {"value": [256, 256], "reason": "r"},
    "width": {"value": 32, "reason": "r"},
    "batch_size": {"value": 4, "reason": "r"},
}
FLAT = Plan.model_validate(PLAN)
DEEP = Plan.model_validate(
    PLAN
    | {
        "view": {"value": "patches", "reason": "r"},
        "spacing_mm": {"value": [1, 1, 1], "reason": "r"},
        "neighbours": {"value": 0, "reason": "r"},
        "patch_size": {"value": [64, 64, 64], "reason": "r"},
        "network": {"value": {"spatial_dims": 3, "levels": 4}, "reason": "r"},
    }
)

MEASURE = """
import json, sys
from fullscale.bench.peak import resident_peak_mib
from fullscale.config.load import load_config
from fullscale.data.label_choice import LabelChoice
from fullscale.data.plan import Plan
from fullscale.training.memory import step_seconds
from fullscale.training.prepare import resolve
plan, settings = Plan.model_validate_json(sys.argv[1]), json.loads(sys.argv[2])
small = [f"data.patch_size={[32] * len(plan.patch_size.value)}", "data.batch_size=1"]
step_seconds(resolve(load_config(None, [*settings, *small]), plan), plan)  # what libraries take is there after it
before = resident_peak_mib()
step_seconds(resolve(load_config(None, settings), plan), plan)
print(resident_peak_mib() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plan", "name"),
    [(FLAT, "unet"), pytest.param(DEEP, "strided-unet", marks=pytest.mark.long)],
    ids=["slices", "patches"],
)
@pytest.mark.parametrize("precision", ["32", pytest.param("bf16", marks=[needs_bf16, pytest.mark.long])])
def test_the_count_is_near_what_a_step_takes(plan: Plan, name: str, precision: str) -> None:
    settings = [f"network.name={name}", "trainer.device=cpu", "network.width=16", f"trainer.precision={precision}"]
    counted = step_bytes(resolve(load_config(None, settings), plan), plan)
    command = [sys.executable, "-c", MEASURE, plan.model_dump_json(), json.dumps(settings)]
    taken = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) * 2**20
    assert counted is not None
    assert 0.6 * taken < counted < 1.15 * taken


def test_a_step_of_regions_is_counted_and_measured_too() -> None:
    regions = {"whole": [1, 2], "core": [2]}
    plan = FLAT.model_copy(
        update={"labels": FLAT.labels.model_copy(update={"value": {0: "background", 1: "shell", 2: "core"}})}
    ).with_labels(LabelChoice(regions={name: tuple(values) for name, values in regions.items()}))
    settings = ["trainer.device=cpu", "data.patch_size=[32,32]", "data.batch_size=2", "network.width=2"]
    config = resolve(load_config(None, settings), plan)
    assert (step_bytes(config, plan) or 0) > 0
    assert step_seconds(config, plan) > 0


def test_what_does_not_fit_is_refused_with_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    config = resolve(load_config(None, ["network.name=unet", "trainer.device=cpu"]), FLAT)
    needed = step_bytes(config, FLAT)
    assert needed is not None
    monkeypatch.setattr("fullscale.training.memory.available_memory", lambda: needed)
    require_memory(config, FLAT)
    monkeypatch.setattr("fullscale.training.memory.available_memory", lambda: needed - 1)
    with pytest.raises(
        UsageError, match=r"needs at least .* GiB of memory, .* are free on this machine: .*batch_size=3"
    ):
        require_memory(config, FLAT)
    monkeypatch.setattr("fullscale.training.memory.available_memory", lambda: 1000)
    with pytest.raises(UsageError, match=r"a smaller patch than 256x256 fits, or lower network\.width"):
        require_memory(config, FLAT)


def test_plan_says_what_a_training_takes_here(phantoms: Path, fullscale: "object") -> None:
    done = fullscale("plan", phantoms, "network.width=4", "trainer.max_epochs=3")  # type: ignore[operator]
    assert done.returncode == 0
    assert "s a step and at least" in done.stderr
    assert "hours for 3 epochs of 250" in done.stderr
