"""One of the two processes of a training is killed at a random moment: the other ends, and the same command goes on."""

import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.commands import Ended, Zygote, content, litter, moments
from tests.faults.scale import KILLS, LONG, SEED, record
from tests.faults.works import WORKS
from tests.training.test_ranks import together, torchrun

pytestmark = [pytest.mark.faults, *(() if LONG else (pytest.mark.long,))]

RANKS = 2
SHARE = 1 / 10
"""Of the kills of a training."""
MOST_TRIES = 4
WITHIN_S = 60.0
TRAIN = WORKS[0]


def killed(zygote: Zygote, command: list[str], after: float, victim: int) -> tuple[list[Ended], float]:
    """Train with one of the processes killed; return how each ended, and how long the others took after the kill."""
    running = [zygote.start(*command, **environment) for environment in torchrun(RANKS)]
    one = running[victim].end_after(after, signal.SIGKILL)
    at = time.monotonic()
    ended = {victim: one} | {rank: other.wait() for rank, other in enumerate(running) if rank != victim}
    return [ended[rank] for rank in range(RANKS)], time.monotonic() - at


def faults_of(left: Ended, victim: int, seconds: float) -> list[str]:
    """Say what is wrong with how the process ended that was left."""
    lines = [line for line in left.stderr.splitlines() if line.startswith("fullscale: ")]
    wrong = [f"it took {seconds:.0f} s"] if seconds > WITHIN_S else []
    if left.code != 1 or len(lines) != 1 or "Traceback" in left.stderr:
        wrong.append(f"rank {victim} was killed, and the other ended with {left.code}: {left.stderr[-300:]}")
    return wrong


def test_a_training_of_two_processes_ends_as_an_uninterrupted_one_when_it_is_repeated(
    zygote: Zygote, phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    words = [word.replace("{data}", str(phantoms)).replace("{cache}", str(cache)) for word in TRAIN.words]

    def command(folder: Path) -> list[str]:
        return [word.replace("{w}", str(folder)) for word in words]

    began = time.monotonic()
    assert [one.code for one in together(zygote, torchrun(RANKS), *command(tmp_path / "whole"))] == [0, 0]
    seconds, expected = time.monotonic() - began, content(tmp_path / "whole")
    counts, faults, wanted = Counter[str](), list[str](), max(1, round(KILLS * SHARE))
    for number, after in enumerate(moments(seconds, MOST_TRIES * wanted, "two processes", SEED)):
        if counts["killed"] >= wanted:
            break
        folder = tmp_path / f"kill_{number}"
        ended, took = killed(zygote, command(folder), after, number % RANKS)
        if ended[number % RANKS].code != -signal.SIGKILL:
            continue
        counts["killed"] += 1
        left = ended[1 - number % RANKS]
        if left.code != 0:  # else it was done when the other was killed
            faults += faults_of(left, number % RANKS, took)
        again = together(zygote, torchrun(RANKS), *command(folder))
        made = content(folder)
        counts["same result"] += [one.code for one in again] == [0, 0] and made == expected
        faults += [f"{folder.name}: {one.code}: {one.last_line}" for one in again if one.code]
        faults += [f"{folder.name}: {name} differs" for name in sorted(made.items() ^ expected.items())]
        counts["litter"] += len(litter(folder, cache))
    assert faults == []
    assert counts["killed"] >= wanted
    assert not counts["litter"]
    record("kill train, 2 processes", counts | {"seconds": round(seconds, 1)})
