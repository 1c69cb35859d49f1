"""How the command is stopped: SIGTERM and SIGUSR1 do what Ctrl-C does, with exit codes of their own.

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
from typing import NoReturn

INTERRUPTED, TERMINATED, PREEMPTED = 130, 143, 75
"""The last is EX_TEMPFAIL of sysexits.h: a scheduler may give the same command again."""

ENDINGS = {
    signal.SIGINT: (INTERRUPTED, "interrupted"),
    signal.SIGTERM: (TERMINATED, "terminated"),
}
"""Exit code of each signal, and what is said of it."""

if sys.platform != "win32":
    ENDINGS[signal.SIGUSR1] = (PREEMPTED, "preempted: give the same command again")

PATIENCE_S = 2.0
"""How long a repeated signal is taken for the same one: `timeout` sends two, and cleaning up must not be cut short."""

POSTPONED_PATIENCE_S = 20.0
"""The same where the end is postponed: a scheduler tells each process, and then the one that started it does."""


class Stop:
    """Whether the command was told to stop, and by which signal: a `fullscale.ending.Ending`.

    Attributes:
        told: the signal that ends the command, if one does.
        silent: whether another process says what has ended both.
    """

    def __init__(self) -> None:
        self.told: signal.Signals | None = None
        self.silent = False
        self._told_at = self._asked_at = 0.0
        self._asked = 0
        self._postponed = False

    @property
    def asked(self) -> int:
        """The number of the signal that was heard while the end was postponed; 0 where none was."""
        return self._asked

    @contextmanager
    def postponed(self) -> Iterator[None]:
        """Only take note of SIGTERM and SIGUSR1 while this is open; Ctrl-C, and a signal much later, end at once."""
        self._postponed = True
        try:
            yield
        finally:
            self._postponed = False
        if self._asked:
            self.now(self._asked)

    def now(self, asked: int) -> NoReturn:
        """End as a signal asks for, by raising KeyboardInterrupt."""
        self.told, self._told_at = self.told or signal.Signals(asked), time.monotonic()
        raise KeyboardInterrupt

    def hear(self, number: int, _frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt, so that all that cleans up after Ctrl-C does so; or only take note."""
        if self.told is not None and time.monotonic() - self._told_at < PATIENCE_S:
            return
        if self._postponed and number != signal.SIGINT and self.told is None:
            if not self._asked:
                self._asked, self._asked_at = number, time.monotonic()
            if time.monotonic() - self._asked_at < POSTPONED_PATIENCE_S:
                return
        self.now(number if number == signal.SIGINT else self._asked or number)


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
        _end(stop.told, stop.silent)


def _end(told: signal.Signals, silent: bool) -> None:
    code, word = ENDINGS[told]
    with suppress(OSError):  # who listened may be gone
        if not silent:
            sys.stderr.write(f"fullscale: {word}\n")
        sys.stderr.flush()
        sys.stdout.flush()
    sys.exit(code)
