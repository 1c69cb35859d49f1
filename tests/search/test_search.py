"""A whole search: trials are runs, the winner's settings train, and what its figure is worth is said."""

import json
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from fullscale.config.load import load_config
from fullscale.data.phantom import write_dataset
from fullscale.errors import FullscaleError
from fullscale.reporting.source import find_source
from fullscale.runfolder import RunFolder
from fullscale.scoring.summary import read_summary
from fullscale.search import run as searching
from fullscale.search.results import as_dict
from fullscale.search.run import Job, begin_search, run_search
from fullscale.search.search import load_search
from fullscale.training.request import TrainRequest
from tests.conftest import QUICK, SMALL, Command
from tests.faults.commands import Zygote, litter

SETTINGS = [word for word in QUICK if not word.startswith(("trainer.steps", "trainer.max", "network.width"))]


@pytest.mark.slow
@pytest.mark.whole
def test_two_trials_and_what_their_figures_are_worth(
    fullscale: Command, phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    out, apart = tmp_path / "out", tmp_path / "apart"
    list(write_dataset(apart, 2, seed=9, **SMALL))
    command = ["search", phantoms, "-o", out, "--cache", cache, "--trials", 2, "--steps-each", 2, *SETTINGS]
    command += ["network.levels=2", "network.width=4,6", "optimizer.learning_rate=1e-4..1e-2:log"]
    refused = fullscale(*command, "--test", phantoms)
    assert (refused.returncode, refused.stderr.splitlines()[-1].partition(" is that of")[0]) == (
        2,
        "fullscale: --test: the scan of phantom_000",
    )
    done = fullscale(*command, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads((out / "search.json").read_text())
    assert [trial["state"] for trial in found["trials"]] == ["complete", "complete"]
    for trial in found["trials"]:
        source = find_source(out / f"trial_{trial['number']:03d}")
        assert trial["dice"] == source.summary.foreground_mean()["Dice"]
        assert source.is_run
    best = max(found["trials"], key=lambda trial: trial["dice"])
    assert found["best"] == {"trial": best["number"], "settings": best["settings"], "dice": best["dice"]}
    config = load_config(out / "best.yaml")
    assert config.optimizer.learning_rate == best["settings"]["optimizer.learning_rate"]
    assert config.network.options == {"levels": 2, "width": best["settings"]["network.width"]}
    assert config.trainer.max_epochs == 1
    assert found["chosen_by"] == {"cases": 2, "times": 2}
    assert found["notes"][0].startswith("2 validation cases judged 2 trials: the best was also lucky")
    assert "--fold 1,2,3,4" in found["notes"][1]
    assert str(tmp_path) not in (out / "search.json").read_text()

    written = {path: path.stat().st_mtime_ns for path in out.glob("trial_*/fold_0/*.ckpt")}
    again = fullscale(*command, "--test", apart, "--json")
    assert again.returncode == 0, again.stderr
    [held_out] = json.loads(again.stdout)["held_out"]
    assert (held_out["trial"], held_out["cases"]) == (best["number"], 2)
    assert held_out["dice"] == read_summary(out / "held_out" / "summary.json").foreground_mean()["Dice"]
    assert {path: path.stat().st_mtime_ns for path in out.glob("trial_*/fold_0/*.ckpt")} == written
    other = fullscale(*command, "--steps-each", 4)
    assert other.returncode == 2
    assert "searches with another steps_each (2, not 4)" in other.stderr


def test_a_trial_that_fails_stops_no_other_and_one_that_is_stopped_goes_on(
    phantoms: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*SETTINGS, "network.levels=2", "network.width=4", "optimizer.learning_rate=1e-4..1e-2:log"]
    job = Job(phantoms, tmp_path / "out", load_search(None, words, steps_each=2), trials=3, cache=cache)
    asked: list[str] = []

    def train(request: TrainRequest, _: object) -> None:
        number = int(request.run.name[-3:])
        asked.append(f"{number}: {request.config.optimizer.learning_rate}")
        if number == 0:
            raise FullscaleError("the loss became nan at step 1")
        if len(asked) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(searching, "train", train)
    scores = SimpleNamespace(foreground_mean=lambda: {"Dice": 0.5})
    monkeypatch.setattr(searching, "read_summary", lambda _: scores)
    inputs, held_back = begin_search(job)
    with pytest.raises(KeyboardInterrupt):
        run_search(job, inputs, held_back)
    found = run_search(job, *begin_search(job))
    assert [record.state for record in found.records] == ["failed", "complete", "complete"]
    assert found.records[0].error == "the loss became nan at step 1"
    assert [line.partition(":")[0] for line in asked] == ["0", "1", "1", "2"]
    assert asked[1] == asked[2]
    content = as_dict(job, found, [])
    assert content["best"]["trial"] == 1
    assert content["chosen_by"]["times"] == 2


@pytest.mark.long
@pytest.mark.whole
def test_a_search_that_is_killed_goes_on_as_if_it_had_not_been(
    zygote: Zygote, phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    command = [
        "search",
        phantoms,
        "--cache",
        cache,
        "--trials",
        3,
        "--steps-each",
        20,
        "--validate-every",
        4,
        *SETTINGS,
    ]
    command += ["network.width=4,6", "optimizer.learning_rate=1e-4..1e-2:log", "trainer.deterministic=true"]
    assert zygote.run(*command, "-o", tmp_path / "whole").code == 0
    for trial in (0, 1):
        running = zygote.start(*command, "-o", tmp_path / "killed")
        while not RunFolder(tmp_path / "killed" / f"trial_{trial:03d}").fold(0).last_checkpoint.exists():
            time.sleep(0.01)
        assert running.end_after(0.1, signal.SIGKILL).code == -signal.SIGKILL
    last = zygote.run(*command, "-o", tmp_path / "killed")
    assert last.code == 0, last.stderr
    assert "going on from" in last.stderr
    first, second = (json.loads((tmp_path / name / "search.json").read_text()) for name in ("whole", "killed"))
    assert second == first
    assert litter(tmp_path / "killed") == []
