"""Commands killed at random moments: repeated, they end with the result of an uninterrupted one and leave no litter."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.commands import Ended, Zygote, content, litter, moments
from tests.faults.scale import KILLS, SEED, record
from tests.faults.works import Places, Repeated, works

pytestmark = pytest.mark.faults

DONE, KILLED, TERMINATED = 0, -signal.SIGKILL, 143
MOST_TRIES = 6
"""Times that a kill is tried for each that is wanted: some come after the end."""


class Killing(Repeated):
    """One work, killed again and again in folders of its own."""

    def whole(self) -> tuple[float, dict[str, str]]:
        """Run the command without interruption; return how long it took, and what it made."""
        folder = self.fresh("whole")
        started = time.monotonic()
        ended = self.zygote.run(*self.work.arguments(self.places, folder))
        assert ended.code == DONE, ended.stderr
        return time.monotonic() - started, content(folder)

    def kill(self, folder: Path, after: float, with_signal: signal.Signals) -> bool:
        """Kill the command; tell whether it was still at work."""
        ended = self.zygote.start(*self.work.arguments(self.places, folder)).end_after(after, with_signal)
        if with_signal == signal.SIGKILL:
            self.counts["killed"] += ended.code == KILLED
            return ended.code == KILLED
        if ended.code != DONE:
            self.counts["terminated"] += 1
            self.check_termination(ended, folder)
        return ended.code != DONE

    def check_termination(self, ended: Ended, folder: Path) -> None:
        """Hold what SIGTERM did against what it must do."""
        if (ended.code, ended.last_line) != (TERMINATED, "fullscale: terminated") or "Traceback" in ended.stderr:
            self.faults.append(f"SIGTERM ended it with {ended.code}: {ended.stderr[-300:]}")
        self.counts["litter"] += len(left := litter(folder))
        self.faults += [f"SIGTERM left {path}" for path in left]

    def finish(self, folder: Path, expected: dict[str, str]) -> None:
        """Repeat the command to its end, and hold the result against that of an uninterrupted one."""
        ended = self.zygote.run(*self.work.arguments(self.places, folder))
        made = content(folder)
        self.counts["same result"] += ended.code == DONE and made == expected
        if ended.code != DONE:
            self.faults.append(f"{folder.name}: repeated, it ended with {ended.code}: {ended.last_line}")
        self.faults += [f"{folder.name}: {name} differs" for name in sorted(made.items() ^ expected.items())]
        self.counts["litter"] += len(left := litter(folder, self.places.cache))
        self.faults += [f"it left {path}" for path in left]


@pytest.fixture
def killing(
    request: pytest.FixtureRequest, zygote: Zygote, pristine: Path, phantoms: Path, cache: Path, tmp_path: Path
) -> Iterator[Killing]:
    return Killing(request.param, Places(phantoms, cache, pristine), zygote, tmp_path)


@pytest.mark.parametrize("killing", works("train", "predict"), ids=lambda work: work.name, indirect=True)
def test_a_killed_command_ends_as_an_uninterrupted_one_when_it_is_repeated(killing: Killing) -> None:
    seconds, expected = killing.whole()
    wanted = max(1, round(KILLS * killing.work.share))
    tries = moments(seconds, MOST_TRIES * wanted, killing.work.name, SEED)
    for number, after in enumerate(tries):
        if killing.counts["killed"] >= wanted:
            break
        folder = killing.fresh(f"kill_{number}")
        with_signal = signal.SIGTERM if number % 4 == 1 else signal.SIGKILL
        if killing.kill(folder, after, with_signal):
            killing.counts["ended early"] += 1
            killing.finish(folder, expected)
    assert killing.faults == []
    assert killing.counts["killed"] >= wanted
    record(f"kill {killing.work.name}", killing.counts | {"seconds": round(seconds, 1)})
