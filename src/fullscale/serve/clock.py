"""The time of day, and whether someone has set it: what is kept for a stated time is kept so long by any clock."""

from __future__ import annotations

import time

STEP_S = 30.0
"""A difference that no clock drifts by itself."""


def steady() -> float:
    """Return seconds of a clock that nobody sets; where the system has one, it goes on while the machine sleeps."""
    number = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if number is None else time.clock_gettime(number)


class Clock:
    """The time of day of this machine."""

    def __init__(self) -> None:
        self._ahead = time.time() - steady()

    def read(self) -> tuple[float, float]:
        """Return seconds since 1970, and by how many of them the clock was set since it was last read."""
        now = time.time()
        step = now - steady() - self._ahead
        if abs(step) < STEP_S:
            return now, 0.0
        self._ahead += step
        return now, step
