"""The paper's experiments, as their recipes describe them, run on small data in the same layout."""

import json
from pathlib import Path
from typing import Any

import pytest

from fullscale.data.phantom import write_dataset
from tests.conftest import Command

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
QUICK = [
    "network.encoder=resnet18",
    "network.skip_channels=4",
    "data.patch_size=[32,32]",
    "data.batch_size=2",
    "data.workers=0",
    "trainer.device=cpu",
    "trainer.validation_cases=1",
]


def compared(fullscale: Command, name: str, data: Path, cache: Path, output: Path, *more: str) -> dict[str, Any]:
    head = ("compare", data, "--rows", RECIPES / f"{name}.yaml", "--steps-each", "2", "--cache", cache, "-o", output)
    done = fullscale(*head, *more, *QUICK)
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads((output / "results.json").read_text())
    return content


@pytest.mark.long
@pytest.mark.slow
def test_the_liver_of_lits(fullscale: Command, tmp_path: Path, cache: Path) -> None:
    list(write_dataset(tmp_path / "lits", 31, layout="lits", size=32, slices=5))
    content = compared(fullscale, "lits-liver", tmp_path / "lits", cache, tmp_path / "out")
    assert [row["name"] for row in content["rows"]] == ["focal", "focal CGM", "hybrid", "hybrid CGM"]
    for row in content["rows"]:
        assert sorted(row["by_case"]) == sorted(f"volume-{number}" for number in range(28))
        assert set(row["dice"]) == {"liver", "mean"}
    [split] = json.loads((tmp_path / "out" / "focal" / "splits.json").read_text())
    assert sorted(split["train"]) == ["volume-28", "volume-29", "volume-30"]
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert plan["labels"]["value"] == {"0": "background", "1": "liver", "2": "liver"}


@pytest.mark.long
@pytest.mark.slow
def test_the_spleen_of_the_decathlon(fullscale: Command, tmp_path: Path, cache: Path) -> None:
    list(write_dataset(tmp_path / "spleen", 5, structures=(2,), size=32, slices=8))
    content = compared(fullscale, "msd-spleen", tmp_path / "spleen", cache, tmp_path / "out", "--folds", "2")
    for row in content["rows"]:
        assert len(row["by_case"]) == 2
        assert "spleen" in row["dice"]
