"""Ctrl-C and SIGTERM early, midway and late in every command: one line, its exit code, and nothing left behind."""

import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.commands import Ended, Zygote, litter
from tests.faults.scale import LONG, record
from tests.faults.works import Places, Work, all_works

pytestmark = pytest.mark.faults

DONE = 0
ENDINGS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}
MOMENTS = (0.0, 0.5, 0.9)
"""Parts of the time that a command takes, counted from when it heeds signals."""
STRANGE = ("Traceback", "Exception ignored", "unexpected", "Aborted", "Error")


def fault_of(ended: Ended, sent: signal.Signals) -> str | None:
    """Say what is wrong with how a command ended after a signal; None where nothing is."""
    code, word = ENDINGS[sent]
    last_words = [line for line in ended.stderr.splitlines() if line.startswith("fullscale: ")]
    if ended.code != code or ended.last_line != f"fullscale: {word}" or len(last_words) != 1:
        return f"it ended with {ended.code}: {ended.stderr[-600:]}"
    return next((f"{word}: {ended.stderr[-600:]}" for word in STRANGE if word in ended.stderr), None)


@pytest.mark.parametrize("work", all_works("train with workers"), ids=lambda work: work.name)
def test_a_command_that_is_interrupted_says_so_in_a_line_and_leaves_nothing(
    work: Work, zygote: Zygote, pristine: Path, phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    places, counts, faults = Places(phantoms, cache, pristine), Counter[str](), []

    def fresh(name: str) -> Path:
        (folder := tmp_path / name).mkdir()
        work.setup(places, folder)
        return folder

    began = time.monotonic()
    whole = zygote.run(*work.arguments(places, fresh("whole")))
    seconds = time.monotonic() - began
    assert whole.code == DONE, whole.stderr
    for number, (sent, moment) in enumerate((sent, moment) for moment in MOMENTS for sent in ENDINGS):
        if not LONG and number % 4:  # of the early ones the first, and of the late ones the first
            continue
        folder = fresh(f"{number}")
        ended = zygote.start(*work.arguments(places, folder)).interrupt_after(moment * seconds, sent)
        if ended.code == DONE:
            counts["done before"] += 1
            continue
        counts[ENDINGS[sent][1]] += 1
        fault = fault_of(ended, sent)
        faults += [f"{moment} of {seconds:.1f} s: {fault}"] if fault else []
        counts["litter"] += len(left := litter(folder, cache))
        faults += [f"{moment} of {seconds:.1f} s, {sent.name}: it left {path}" for path in left]
    assert faults == []
    assert counts["interrupted"] + counts["terminated"]
    record(f"signal {work.name}", counts)
