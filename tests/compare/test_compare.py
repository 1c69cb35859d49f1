"""A comparison from start to end on small phantoms."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fullscale.compare.comparison import load_comparison
from fullscale.compare.results import gather
from fullscale.compare.run import Job, run_comparison
from fullscale.compare.tables import latex, markdown, numbers, rows
from fullscale.config.load import parse_override
from fullscale.errors import UsageError
from fullscale.scoring.summary import read_summary
from tests.conftest import QUICK, Command

SETTINGS = [s for s in QUICK if "epoch" not in s]
HEAD = ("compare", "--networks", "unet,unet3+", "--folds", "2", "--steps-each", "2")


trains = pytest.mark.slow
"""Four trainings, by the test or by its fixture."""


@pytest.fixture(scope="module")
def compared(fullscale: Command, phantoms: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("comparison") / "out"
    done = fullscale(*HEAD, phantoms, *SETTINGS, "--cache", cache, "-o", output)
    assert done.returncode == 0, done.stderr
    assert "reference" in done.stdout
    return output


@trains
def test_the_results_are_those_of_the_runs(compared: Path) -> None:
    content = json.loads((compared / "results.json").read_text())
    assert [row["name"] for row in content["rows"]] == ["unet", "unet3+"]
    assert content["reference"] == "unet3+"
    for row in content["rows"]:
        folds = [compared / row["name"] / f"fold_{k}" / "validation" / "summary.json" for k in range(2)]
        cases = [case for fold in folds for case in read_summary(fold).cases]
        assert sorted(row["by_case"]) == sorted(case.case for case in cases)
        means = [
            np.mean([s["Dice"] for s in case.metrics.values() if s["Dice"] is not None])  # type: ignore[misc]
            for case in cases
        ]
        assert row["dice"]["mean"]["mean"] == pytest.approx(np.mean(means))
        assert row["dice"]["mean"]["cases"] == len(cases)
        assert row["steps"] == [2, 2]
    assert "too few to show any" in content["rows"][0]["against_reference"]["verdict"]
    assert content["rows"][1]["against_reference"] is None
    table = list(csv.DictReader((compared / "results.csv").read_text().splitlines()))
    assert [line["network"] for line in table] == ["unet", "unet3+"]
    assert float(table[0]["dice mean"]) == content["rows"][0]["dice"]["mean"]["mean"]
    assert (compared / "results.md").read_text().count("\n| ") >= 3
    assert r"\toprule" in (compared / "results.tex").read_text()
    assert (compared / "results.png").read_bytes().startswith(b"\x89PNG")


@trains
def test_all_rows_have_the_same_splits(compared: Path) -> None:
    first, second = ((compared / name / "splits.json").read_text() for name in ("unet", "unet3+"))
    assert first == second


@trains
def test_the_same_command_again_trains_nothing_and_another_one_is_refused(
    fullscale: Command, compared: Path, phantoms: Path, cache: Path
) -> None:
    before = (compared / "unet" / "fold_0" / "last.ckpt").stat().st_mtime_ns
    elsewhere = [setting.replace("data.workers=0", "data.workers=2") for setting in SETTINGS]  # a machine of more cores
    assert elsewhere != SETTINGS
    for settings in (SETTINGS, elsewhere):
        again = fullscale(*HEAD, phantoms, *settings, "--cache", cache, "-o", compared)
        assert again.returncode == 0, again.stderr
        assert again.stderr.count("done already") == 4
    assert (compared / "unet" / "fold_0" / "last.ckpt").stat().st_mtime_ns == before
    results = (compared / "results.json").read_bytes()
    other = fullscale(*HEAD[:-1], "3", phantoms, *SETTINGS, "--cache", cache, "-o", compared)
    assert other.returncode == 2
    assert "another steps_each (2, not 3)" in other.stderr
    assert (compared / "results.json").read_bytes() == results


@trains
@trains
def test_a_comparison_killed_before_a_run_was_closed_closes_it_when_it_is_repeated(
    compared: Path, fullscale: Command, phantoms: Path, cache: Path
) -> None:
    run = compared / "unet"
    whole = (run / "summary.json").read_bytes()
    shutil.rmtree(run / "bundle")
    (run / "summary.json").unlink()
    again = fullscale(*HEAD, phantoms, *SETTINGS, "--cache", cache, "-o", compared)
    assert again.returncode == 0, again.stderr
    assert (run / "summary.json").read_bytes() == whole
    assert (run / "bundle").is_dir()


@pytest.mark.slow
def test_a_row_that_fails_is_told_and_the_others_are_done(phantoms: Path, cache: Path, tmp_path: Path) -> None:
    diverging = {"network.name": "unet", "optimizer.learning_rate": 1e30, "optimizer.warmup_steps": 0}
    quick = dict(map(parse_override, SETTINGS))
    comparison = load_comparison(
        None,
        rows=[{"name": "diverging", "settings": diverging}, "unet3+"],
        folds=1,
        steps_each=6,
        settings=quick,
    )
    outcomes = run_comparison(Job(phantoms, tmp_path / "out", comparison, cache=cache))
    results = gather(comparison, outcomes)
    assert [line.name for line in results.failed] == ["diverging"]
    assert "the loss became" in results.lines[0].failures[0]
    assert rows(results)[0][-1] == "no scores"
    for text in (markdown(results), latex(results), numbers(results)):
        assert "diverging" in text
    cases = results.lines[1].by_case
    part = replace(results.lines[0], by_case=dict(list(cases.items())[:1]), dice=results.lines[1].dice)
    assert rows(replace(results, lines=[part, results.lines[1]]))[0][0] == f"diverging (1 of {len(cases)} cases)"


def test_what_cannot_be_compared_is_refused_before_anything_is_written(
    phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    for changes, message in (
        ({"rows": ["unet"], "folds": 7}, "7 folds are wanted, these cases have 5"),
        ({"rows": ["unet", "attention-unet"], "settings": {"network.encoder": "resnet18"}}, "row attention-unet: "),
    ):
        comparison = load_comparison(None, **({"folds": 1, "steps_each": 2} | changes))
        with pytest.raises(UsageError, match=message):
            run_comparison(Job(phantoms, output, comparison, cache=cache))
        assert not output.exists()
