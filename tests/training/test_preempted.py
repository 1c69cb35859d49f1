"""A training that a scheduler ends: it writes where it is, exits with a code that says so, and goes on exactly."""

import os
import signal
import time
from pathlib import Path

import pytest

from fullscale.runfolder import RunFolder
from fullscale.training.checkpoints import is_validated, read_checkpoint
from tests.conftest import QUICK
from tests.faults.commands import Zygote, content, litter
from tests.training.test_ranks import together, torchrun

pytestmark = [pytest.mark.slow, pytest.mark.whole]

STEPS, EPOCHS = 20, 2
SETTINGS = [
    *(*QUICK, "trainer.deterministic=true", "network.classification_guided=true"),
    *(f"trainer.steps_per_epoch={STEPS}", f"trainer.max_epochs={EPOCHS}"),
]


def wait_for_an_epoch(run: RunFolder) -> None:
    """Wait until the second epoch has begun."""
    while not run.fold(0).last_checkpoint.exists():
        time.sleep(0.01)


def require_written_within_an_epoch(run: RunFolder) -> None:
    state = read_checkpoint(run.fold(0).last_checkpoint)
    assert not is_validated(state)
    assert STEPS < state["global_step"] <= STEPS * EPOCHS
    assert litter(run.path) == []


@pytest.mark.parametrize(
    ("sent", "code", "word"),
    [
        (signal.SIGUSR1, 75, "preempted: give the same command again"),
        pytest.param(signal.SIGTERM, 143, "terminated", marks=pytest.mark.long),
    ],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else "",
)
def test_a_training_that_is_told_to_end_goes_on_where_it_was(
    sent: signal.Signals, code: int, word: str, zygote: Zygote, phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    run, whole = RunFolder(tmp_path / "stopped" / "run"), tmp_path / "whole"
    command = ("train", phantoms, "--cache", cache, *SETTINGS, "data.workers=1", "-o")
    running = zygote.start(*command, run.path)
    wait_for_an_epoch(run)
    os.killpg(running.pid, sent)  # as a scheduler does: the processes that prepare crops hear it too
    ended = running.wait()
    assert (ended.code, ended.last_line) == (code, f"fullscale: {word}"), ended.stderr
    assert "Traceback" not in ended.stderr
    require_written_within_an_epoch(run)
    assert zygote.run(*command, run.path).code == 0
    assert zygote.run(*command, whole / "run").code == 0
    assert content(whole) == content(tmp_path / "stopped")


@pytest.mark.long
def test_two_processes_end_together_where_one_is_told_to(
    zygote: Zygote, phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    run, whole = RunFolder(tmp_path / "stopped" / "run"), tmp_path / "whole"
    command = ("train", phantoms, "--cache", cache, *SETTINGS, "trainer.precision=32", "-o")
    running = [zygote.start(*command, run.path, **environment) for environment in torchrun(2)]
    wait_for_an_epoch(run)
    os.kill(running[1].pid, signal.SIGUSR1)
    first, second = (one.wait() for one in running)
    assert (first.code, second.code, second.stderr) == (75, 75, ""), first.stderr
    assert first.last_line == "fullscale: preempted: give the same command again"
    require_written_within_an_epoch(run)
    assert [one.code for one in together(zygote, torchrun(2), *command, run.path)] == [0, 0]
    assert [one.code for one in together(zygote, torchrun(2), *command, whole / "run")] == [0, 0]
    assert content(whole) == content(tmp_path / "stopped")
