"""How many cores other processes keep busy, so that threads are not given to cores that have no time for them."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from fullscale.work.machine import cores, own_cores

_STATISTICS = Path("/proc/stat")
_IDLE = (3, 4, 7)
"""Which columns of it are not work of a process here: idle, waiting for a disk, and what the host gave to others."""


class OtherWork:
    """Watches, from now on, what other processes do on the cores that this one may run on.

    A thread that shares its core with other work takes twice as long for its part, and the others wait for it: beside
    one busy core of two, one thread is quicker than two.
    """

    def __init__(self) -> None:
        self._before = _spent()

    def busy_cores(self) -> float:
        """Return how many cores others have kept busy since; 0 on a system that is not Linux."""
        if self._before is None or (now := _spent()) is None:
            return 0.0
        seconds, work = now[0] - self._before[0], now[1] - self._before[1]
        return max(0.0, work / seconds) if seconds > 0 else 0.0

    def threads(self) -> int:
        """Return how many threads the other work leaves room for, at least one."""
        return max(1, min(cores(), round(len(own_cores()) - self.busy_cores())))


def _spent() -> tuple[float, float] | None:
    """Return the time now, and the seconds that others have spent on the cores that this process may run on."""
    if sys.platform != "linux" or not _STATISTICS.is_file():
        return None
    mine = {f"cpu{number}" for number in own_cores()}
    rows = [row.split() for row in _STATISTICS.read_text().splitlines() if row.split(maxsplit=1)[0] in mine]
    ticks = sum(int(number) for row in rows for k, number in enumerate(row[1:9]) if k not in _IDLE)
    own = os.times()
    return time.monotonic(), ticks / os.sysconf("SC_CLK_TCK") - own.user - own.system
