"""Every recipe: its rows are networks that can be built, with losses that fit them."""

from pathlib import Path

import pytest
import torch

from fullscale.compare.comparison import Comparison, Row, load_comparison
from fullscale.config.schema import Config
from fullscale.losses import create_loss
from fullscale.networks import create_network

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.yaml"))
PUBLISHED = {
    "UNet VGG-16": 39_396_033,
    "UNet++ VGG-16": 47_176_132,
    "UNet 3+ VGG-16 without supervision": 26_971_777,
    "UNet 3+ VGG-16": 26_989_637,
}


def recipe(name: str) -> Path:
    return next(file for file in RECIPES if file.stem == name)


def build(config: Config) -> torch.nn.Module:
    with torch.device("meta"):
        return create_network(config.network.name, 3, 1, **config.network.options)


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


@pytest.mark.slow
def test_table_1_has_the_published_networks() -> None:
    comparison = load_comparison(recipe("paper-table-1"))
    found = {row.name: sum(p.numel() for p in build(comparison.config(row)).parameters()) for row in comparison.rows}
    assert {name: found[name] for name in PUBLISHED} == PUBLISHED
