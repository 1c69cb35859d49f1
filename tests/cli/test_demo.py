"""The demo: the whole way, and the same result when it is asked for again."""

import json
from pathlib import Path

import pytest

from fullscale.cli.demo import CASES
from tests.conftest import Command


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.whole
def test_the_demo_ends_with_a_mask_its_scores_and_its_picture(fullscale: Command, tmp_path: Path) -> None:
    output = tmp_path / "demo"
    done = fullscale("demo", "-o", output, "--steps", "2")
    assert done.returncode == 0, done.stderr
    assert "for 2 steps" in done.stderr
    masks = output / "predictions"
    mask = masks / f"phantom_{CASES:03d}.nii.gz"
    assert {path.name for path in masks.glob("[!.]*")} >= {mask.name, "summary.json", "overlay.png"}
    [case] = json.loads((masks / "summary.json").read_text())["metric_per_case"]
    assert set(case["metrics"]) == {"1", "2"}
    first = mask.read_bytes()
    again = fullscale("demo", "-o", output, "--steps", "2")
    assert again.returncode == 0, again.stderr
    assert mask.read_bytes() == first
