"""Commands whose clock jumps while they work, by hours, days and decades: they do what they do by any other."""

import os
import threading
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest

from fullscale.work.ledger import Ledger
from tests.faults.commands import Zygote, content, litter
from tests.faults.scale import LONG, record
from tests.faults.works import Places, Work, writers

pytestmark = [pytest.mark.faults, *(() if LONG else (pytest.mark.long,))]

LIBRARIES = [Path(f"/usr/lib/{name}/faketime/libfaketimeMT.so.1") for name in ("x86_64-linux-gnu", "aarch64-linux-gnu")]
STEPS = ("+0", "-3h", "+2d", "@1970-01-01 00:00:09", "-400d", "+90y", "+0", "+26h")
"""What the clock is set to, one after the other, as libfaketime reads it; the clock of the disk stays right."""
EVERY_S = 0.15


class FalseClock:
    """The clock of commands that are started by a process of their own."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.file = folder / "clock"
        self.set("+0")
        faked = {"FAKETIME_TIMESTAMP_FILE": str(self.file), "FAKETIME_NO_CACHE": "1", "NO_FAKE_STAT": "1"}
        faked |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
        self.zygote = Zygote(folder, LD_PRELOAD=str(library), **faked)

    def set(self, to: str) -> None:
        """Set it."""
        beside = self.file.with_suffix(".new")
        beside.write_text(to)
        os.replace(beside, self.file)

    def run_while_it_jumps(self, *words: str) -> tuple[int, str]:
        """Run a command; its clock is set again and again."""
        over = threading.Event()

        def jump() -> None:
            for step in cycle(STEPS):
                if over.wait(EVERY_S):
                    return
                self.set(step)

        jumping = threading.Thread(target=jump)
        jumping.start()
        try:
            ended = self.zygote.run(*words)
        finally:
            over.set()
            jumping.join()
            self.set("+0")
        return ended.code, ended.stderr


@pytest.fixture(scope="session")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FalseClock]:
    library = next((path for path in LIBRARIES if path.exists()), None)
    if library is None:
        pytest.skip("no libfaketime: install the Debian package faketime")
    made = FalseClock(tmp_path_factory.mktemp("clock"), library)
    yield made
    made.zygote.close()


@pytest.mark.parametrize(
    "work", [work for work in writers("predict --archive") if work.same], ids=lambda work: work.name
)
def test_a_command_does_the_same_while_its_clock_jumps(
    work: Work, clock: FalseClock, zygote: Zygote, pristine: Path, phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    places = Places(phantoms, cache, pristine)
    made = {}
    for name in ("steady", "jumping"):
        folder = tmp_path / name
        folder.mkdir()
        work.setup(places, folder)
        words = work.arguments(places, folder)
        if name == "steady":
            ended = zygote.run(*words)
            assert ended.code == 0, ended.stderr
        else:
            for _ in range(2):  # the second time, what is done is known as done
                code, said = clock.run_while_it_jumps(*words)
                assert code == 0, said
                assert "Traceback" not in said
        made[name] = content(folder)
        assert litter(folder) == []
    assert made["jumping"] == made["steady"]
    record(f"clock {work.name}", {"steps": len(STEPS), "same result": 1, "litter": 0})


def test_an_archive_takes_the_same_seconds_whatever_its_clock_says(
    clock: FalseClock, pristine: Path, phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    [work] = [work for work in writers("predict --archive") if work.name == "predict --archive"]
    places = Places(phantoms, cache, pristine)
    work.setup(places, tmp_path)
    code, said = clock.run_while_it_jumps(*work.arguments(places, tmp_path))
    assert code == 0, said
    rows = list(Ledger(tmp_path / "out"))
    assert {row.state for row in rows} == {"done"}
    assert all(0 <= row.seconds < 600 for row in rows)
    assert max(row.at for row in rows) - min(row.at for row in rows) > 3600  # the clock did jump
    forecast = Ledger(tmp_path / "out").forecast(100)
    assert forecast is not None
    assert forecast.at_once < 2
