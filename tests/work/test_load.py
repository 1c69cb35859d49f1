"""What other processes do on the cores of this one is seen, and what it does itself is not taken for theirs."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fullscale.work import load
from fullscale.work.load import OtherWork

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="of Linux")


@contextmanager
def busy_core(core: int) -> Iterator[None]:
    """Keep a core busy with a process of its own."""
    code = f"import os; os.sched_setaffinity(0, {{{core}}}); print(flush=True)\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_core_that_another_process_keeps_busy_is_seen() -> None:
    with busy_core(min(os.sched_getaffinity(0))):
        others = OtherWork()
        time.sleep(0.5)
        assert others.busy_cores() > 0.4
    assert OtherWork().threads() >= 1


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_a_core_on_which_this_process_may_not_run_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, *_ = sorted(os.sched_getaffinity(0))
    with busy_core(second):
        monkeypatch.setattr(load, "own_cores", lambda: {second})
        there = OtherWork()
        monkeypatch.setattr(load, "own_cores", lambda: {first, second})
        both = OtherWork()
        time.sleep(0.5)
        seen = both.busy_cores()
        monkeypatch.setattr(load, "own_cores", lambda: {second})
        assert 0.4 < there.busy_cores() <= seen + 0.1


def test_work_of_this_process_and_idle_time_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel would tell of two cores, of which this process keeps one busy; all is in hundredths of a second."""
    table, tick = tmp_path / "stat", os.sysconf("SC_CLK_TCK")
    clock = {"now": 0.0, "own": 0.0}
    monkeypatch.setattr(load, "_STATISTICS", table)
    monkeypatch.setattr(load, "own_cores", lambda: {0, 1})
    monkeypatch.setattr(load, "cores", lambda: 2)
    monkeypatch.setattr(load.time, "monotonic", lambda: clock["now"])
    monkeypatch.setattr(load.os, "times", lambda: os.times_result((clock["own"], 0.0, 0.0, 0.0, 0.0)))

    def tell(seconds: float, user: float, iowait: float, stolen: float, own: float) -> None:
        rows = [f"cpu{k} {user * tick:.0f} 0 0 0 {iowait * tick:.0f} 0 0 {stolen * tick:.0f} 0 0" for k in (0, 1)]
        table.write_text("\n".join(["cpu  9 9 9 9 9 9 9 9 9 9", *rows, "cpu7 99999 0 0 0 0 0 0 0 0 0", "intr 5"]))
        clock.update(now=seconds, own=own)

    tell(0, user=5, iowait=1, stolen=1, own=3)
    others = OtherWork()
    tell(2, user=6, iowait=9, stolen=9, own=5)
    assert others.busy_cores() == 0
    assert others.threads() == 2
    tell(2, user=6, iowait=1, stolen=1, own=3)
    assert others.busy_cores() == 1
    assert others.threads() == 1
    tell(2, user=7, iowait=1, stolen=1, own=3)
    assert others.threads() == 1, "one thread computes even where no core is free"


def test_nothing_is_said_where_the_system_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_STATISTICS", tmp_path / "absent")
    assert OtherWork().busy_cores() == 0
