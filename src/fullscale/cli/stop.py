"""How the command is stopped: SIGTERM does what Ctrl-C does, with an exit code of its own."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED, TERMINATED = 130, 143


class Stop:
    """Whether and how the command was told to stop."""

    terminated = False

    @property
    def code(self) -> int:
        """The exit code."""
        return TERMINATED if self.terminated else INTERRUPTED

    @property
    def word(self) -> str:
        """What is said of it."""
        return "terminated" if self.terminated else "interrupted"


@contextmanager
def stopped_by_sigterm() -> Iterator[Stop]:
    """Let SIGTERM raise KeyboardInterrupt within the block, so that all that cleans up after Ctrl-C does so."""
    stop = Stop()

    def terminate(_signal: int, _frame: FrameType | None) -> None:
        stop.terminated = True
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # Python takes signals there alone
        yield stop
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
