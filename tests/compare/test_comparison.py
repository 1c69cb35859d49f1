"""What may be compared, and what is refused."""

from pathlib import Path

import pytest

from fullscale.compare.comparison import load_comparison, rows_of
from fullscale.errors import UsageError


def test_a_row_of_one_name_is_that_network_and_settings_are_laid_over_each_other() -> None:
    comparison = load_comparison(
        None,
        rows=["unet", {"name": "guided", "settings": {"network.name": "unet3+", "network.width": 8}}],
        steps_each=500,
        settings={"network.width": 16, "optimizer.learning_rate": "1e-3"},
    )
    assert comparison.reference == "guided"
    unet, guided = (comparison.config(row) for row in comparison.rows)
    assert (unet.network.name, unet.network.options) == ("unet", {"width": 16})
    assert (guided.network.name, guided.network.options) == ("unet3+", {"width": 8})
    assert unet.optimizer.learning_rate == 1e-3
    assert (unet.trainer.max_epochs, unet.trainer.steps_per_epoch) == (2, 250)
    assert comparison.budget == "500 steps each"


def test_a_mapping_of_options_leaves_those_that_stand_beside_it() -> None:
    common = {"network.encoder": "resnet18", "network.options": {"width": 4, "skip_channels": 4}}
    row = {"network.pretrained": False, "network.options": {"width": 8}, "network": {"name": "unet3+"}}
    comparison = load_comparison(None, rows=[{"name": "a", "settings": row}], steps_each=4, settings=common)
    network = comparison.config(comparison.rows[0]).network
    assert network.name == "unet3+"
    assert network.options == {"encoder": "resnet18", "width": 8, "skip_channels": 4, "pretrained": False}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network.encoder": "plain", "network.options": {"encoder": "resnet18"}}, "network.encoder is given twice"),
        ({"network.options.width": 4, "network": {"width": 4}}, "network.width is given twice, .* by network:"),
        ({"trainer": {"max_minutes": 3}}, "row a: trainer.max_minutes is the budget"),
        ({"data": {"folds": 2}}, "row a: data.folds must be the same for all rows"),
    ],
)
def test_a_mapping_says_nothing_that_a_single_setting_may_not(settings: dict[str, object], message: str) -> None:
    rows = [{"name": "a", "settings": {"network.name": "unet", **settings} if "network" not in settings else settings}]

    def configure() -> None:
        comparison = load_comparison(None, rows=rows, steps_each=4)
        comparison.config(comparison.rows[0])

    with pytest.raises(UsageError, match=message):
        configure()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": ["unet"]}, "minutes_each or steps_each"),
        ({"rows": ["unet"], "steps_each": 4, "minutes_each": 1}, "one of the two"),
        ({"rows": ["unet", "unet"], "steps_each": 4}, "two rows are called 'unet'"),
        ({"rows": ["unet"], "steps_each": 4, "reference": "pspnet"}, "none of the rows"),
        ({"rows": ["unett"], "steps_each": 4}, "did you mean 'unet'"),
        ({"rows": ["unet"], "steps_each": 1001}, r"no multiple of 250.*take 1000"),
        ({"rows": [], "steps_each": 4}, "rows"),
        ({"rows": ["unet"], "steps_each": 4, "clock": "processor"}, "clock=processor is of minutes"),
        ({"rows": ["unet"], "minutes_each": 4, "clock": "sun"}, "clock: Input should be 'wall' or 'processor'"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_comparison(None, **changes)


def test_minutes_of_processor_time_are_those_of_every_row() -> None:
    comparison = load_comparison(None, rows=["unet"], minutes_each=2.5, clock="processor")
    assert comparison.budget == "2.5 processor minutes each"
    trainer = comparison.config(comparison.rows[0]).trainer
    assert (trainer.max_minutes, trainer.clock) == (2.5, "processor")
    rows = [{"name": "unet", "settings": {"trainer.clock": "wall"}}]
    comparison = load_comparison(None, rows=rows, minutes_each=1, clock="processor")
    with pytest.raises(UsageError, match=r"row unet: trainer\.clock is the budget"):
        comparison.config(comparison.rows[0])


def test_a_row_may_not_set_the_budget_and_an_unknown_setting_names_its_row() -> None:
    rows = [{"name": "unet", "settings": {"trainer.max_minutes": 3}}]
    comparison = load_comparison(None, rows=rows, minutes_each=1)
    with pytest.raises(UsageError, match=r"row unet: trainer\.max_minutes is the budget"):
        comparison.config(comparison.rows[0])
    comparison = load_comparison(None, rows=["unet"], minutes_each=1, settings={"network.widht": 3})
    with pytest.raises(UsageError, match=r"row unet: network 'unet' has no option 'widht'; did you mean 'width'"):
        comparison.config(comparison.rows[0])
    with pytest.raises(UsageError, match="did you mean 'unet3\\+'"):
        rows_of(["unet", "unet3"])


def test_a_row_may_not_set_what_makes_rows_comparable() -> None:
    rows = [{"name": "unet", "settings": {"data.labels": {1: "liver"}}}]
    comparison = load_comparison(None, rows=rows, minutes_each=1)
    with pytest.raises(UsageError, match=r"row unet: data\.labels must be the same for all rows"):
        comparison.config(comparison.rows[0])


def test_the_common_settings_may_name_the_network() -> None:
    comparison = load_comparison(None, rows=["plain", "unet"], steps_each=4, settings={"network.name": "unet3+"})
    assert [comparison.config(row).network.name for row in comparison.rows] == ["unet3+", "unet"]


def test_validations_are_as_far_apart_as_asked() -> None:
    for budget in ({"steps_each": 60}, {"minutes_each": 1}):
        comparison = load_comparison(None, rows=["unet"], validate_every=20, **budget)
        assert comparison.config(comparison.rows[0]).trainer.steps_per_epoch == 20


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the comparison"):
        load_comparison(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("rows: [")
    with pytest.raises(UsageError, match="is not YAML"):
        load_comparison(broken)
