"""The command: a page with its figures, settings that are refused, and the Dice of a comparison beside the paper's."""

import json
from pathlib import Path

import pytest

from fullscale.errors import DataError
from fullscale.paper import tables
from fullscale.paper.tables import Compared, Measured, paper_tables
from tests.conftest import Command


@pytest.mark.long
def test_a_page_holds_all_and_the_figures_lie_beside_it(fullscale: Command, tmp_path: Path) -> None:
    row = {"name": "UNet 3+ VGG-16", "dice": {"liver": {"mean": 0.5, "interval": [0.4, 0.6], "cases": 9}}}
    found = {"dataset": "LiTS", "budget": "9 steps each", "rows": [row]}
    (tmp_path / "results.json").write_text(json.dumps(found))
    given = ("network.width=4", "network.skip_channels=4", "network.levels=3", "--comparison", str(tmp_path))
    for _ in range(2):  # the same command may write again
        done = fullscale("paper", "-o", str(tmp_path / "out"), *given)
        assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / "paper.html").read_text()
    assert "network.width=4" in page
    assert "0.4000 to 0.6000" in page
    assert "26,971,777" in page
    assert len(list((tmp_path / "out").glob("figure-*.*"))) == 9


@pytest.mark.parametrize(
    ("setting", "line"),
    [("network.widht=4", "did you mean 'width'"), ("data.folds=2", "changes nothing"), ("network.init=x", "nothing")],
)
def test_settings_that_change_nothing_or_do_not_exist_are_refused(
    fullscale: Command, tmp_path: Path, setting: str, line: str
) -> None:
    done = fullscale("paper", "-o", str(tmp_path / "out"), setting)
    assert done.returncode == 2
    assert line in done.stderr
    assert not (tmp_path / "out").exists()


def test_rows_of_a_comparison_are_matched_by_name_and_others_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_count", lambda *_: None)  # the counts are tested by themselves
    rows = {"UNet++ ResNet-101": {"liver": Measured(0.75, (0.7, 0.8))}, "mine": {"liver": Measured(0.1, None)}}
    first, second = paper_tables(Compared("LiTS, 1 step", rows))
    line = next(row for row in first.table.rows if (row[0].text, row[1].text) == ("UNet++", "ResNet-101"))
    assert (line[5].text, line[6].text, line[7].text, line[7].interval) == (
        "0.9475",
        "0.9423",
        "0.7500",
        "0.7000 to 0.8000",
    )
    assert first.table.heads[-1] == "liver, here"
    assert "Not in the paper's tables: mine." in first.notes
    assert all(row[-1].text == "-" for row in second.table.rows)
    with pytest.raises(DataError, match=r"no row of the paper's tables, only mine"):
        paper_tables(Compared("LiTS, 1 step", {"mine": {}}))
