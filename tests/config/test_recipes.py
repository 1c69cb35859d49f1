"""Every recipe: its rows are networks that can be built, and the paper's experiments run on data in that layout."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import Command

from fullscale.compare.comparison import Comparison, Row, load_comparison
from fullscale.config.schema import Config
from fullscale.data.phantom import write_dataset
from fullscale.losses import create_loss
from fullscale.networks import create_network, network_options

RECIPES = sorted((Path(__file__).resolve().parents[1] / "recipes").glob("*.yaml"))
QUICK = [
    "network.encoder=resnet18",
    "network.skip_channels=4",
    "data.patch_size=[32,32]",
    "data.batch_size=2",
    "data.workers=0",
    "trainer.device=cpu",
    "trainer.validation_cases=1",
]
PUBLISHED = {
    "UNet VGG-16": 39_396_033,
    "UNet++ VGG-16": 47_176_132,
    "UNet 3+ VGG-16 without supervision": 26_971_777,
    "UNet 3+ VGG-16": 26_989_637,
}


def recipe(name: str) -> Path:
    return next(file for file in RECIPES if file.stem == name)


def build(config: Config) -> torch.nn.Module:
    options = {k: v for k, v in config.network.model_dump(exclude={"name"}).items() if v is not None}
    with torch.device("meta"):
        return create_network(config.network.name, 3, 1, **options)


ROWS = [
    pytest.param(comparison, row, id=f"{file.stem}: {row.name}")
    for file in RECIPES
    for comparison in [load_comparison(file)]
    for row in comparison.rows
]


@pytest.mark.parametrize(("comparison", "row"), ROWS)
def test_every_row_of_a_recipe_is_a_network_with_its_loss(comparison: Comparison, row: Row) -> None:
    config = comparison.config(row)
    network = build(config)
    create_loss(config.loss.name, **config.loss.options)
    if config.loss.level_weights is not None:
        assert len(config.loss.level_weights) == network.num_supervised
    assert set(network_options(config.network.name)) >= {
        option for option, value in config.network.model_dump(exclude={"name"}).items() if value is not None
    }


def test_table_1_has_the_published_networks() -> None:
    comparison = load_comparison(recipe("paper-table-1"))
    found = {row.name: sum(p.numel() for p in build(comparison.config(row)).parameters()) for row in comparison.rows}
    assert {name: found[name] for name in PUBLISHED} == PUBLISHED


def compared(fullscale: Command, name: str, data: Path, cache: Path, output: Path, *more: str) -> dict[str, Any]:
    head = ("compare", data, "--rows", recipe(name), "--steps-each", "2", "--cache", cache, "-o", output)
    done = fullscale(*head, *more, *QUICK)
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads((output / "results.json").read_text())
    return content


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


def test_the_spleen_of_the_decathlon(fullscale: Command, tmp_path: Path, cache: Path) -> None:
    list(write_dataset(tmp_path / "spleen", 5, structures=(2,), size=32, slices=8))
    content = compared(fullscale, "msd-spleen", tmp_path / "spleen", cache, tmp_path / "out", "--folds", "2")
    for row in content["rows"]:
        assert len(row["by_case"]) == 2
        assert "spleen" in row["dice"]
