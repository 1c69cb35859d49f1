"""How the command is stopped: SIGTERM does what Ctrl-C does, with an exit code of its own.

This file loads next to nothing: it is in place before everything that takes time to load.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

INTERRUPTED, TERMINATED = 130, 143
ENDINGS = {signal.SIGINT: (INTERRUPTED, "interrupted"), signal.SIGTERM: (TERMINATED, "terminated")}
"""Exit code of each signal, and what is said of it."""

PATIENCE_S = 2.0
"""How long a repeated signal is taken for the same one: `timeout` sends two, and cleaning up must not be cut short."""


class Stop:
    """Whether the command was told to stop, and by which signal."""

    def __init__(self) -> None:
        self.told: signal.Signals | None = None
        self._told_at = 0.0

    def hear(self, number: int, _frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt, so that all that cleans up after Ctrl-C does so."""
        if self.told is not None and time.monotonic() - self._told_at < PATIENCE_S:
            return
        self.told, self._told_at = self.told or signal.Signals(number), time.monotonic()
        raise KeyboardInterrupt


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """End the process in one line where a signal stops the block; afterwards nothing disturbs its end.

    Whatever the block raises after the signal is a consequence of it: a library that is interrupted while it loads
    raises what it likes. A signal that was ignored from the start, as a shell has it for what runs behind, stays so.
    """
    stop = Stop()
    heard = [number for number in ENDINGS if signal.getsignal(number) != signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():  # Python takes signals there alone
        heard = []
    for number in heard:
        signal.signal(number, stop.hear)
    try:
        yield stop
    except BaseException:
        if stop.told is None:
            raise
    finally:
        for number in heard:
            signal.signal(number, signal.SIG_IGN)
    if stop.told is not None:
        _end(stop.told)


def _end(told: signal.Signals) -> None:
    code, word = ENDINGS[told]
    with suppress(OSError):  # who listened may be gone
        sys.stderr.write(f"fullscale: {word}\n")
        sys.stderr.flush()
        sys.stdout.flush()
    sys.exit(code)
