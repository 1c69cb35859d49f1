"""What is said on the way, on standard error: the one place where the command changes logging and warnings.

The library logs to `fullscale.*` and leaves handlers, levels and filters alone.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from fullscale.cli.show import print_status

_WITHOUT_NEWS = ("lightning.pytorch", "lightning.fabric", "lightning")
"""Libraries whose hints (more workers, newer settings) do not concern who uses the command."""


class StatusHandler(logging.Handler):
    """Prints each line as the command prints all its status, past a progress bar too."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        print_status(self.format(record))


@contextmanager
def status_on_stderr() -> Iterator[None]:
    """Show the log lines of the library, and nothing of what other libraries remark, while the command runs."""
    ours, others = logging.getLogger("fullscale"), [logging.getLogger(name) for name in _WITHOUT_NEWS]
    levels = {logger: logger.level for logger in (ours, *others)}
    handler = StatusHandler()
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    for logger in others:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        ours.removeHandler(handler)
        for logger, level in levels.items():
            logger.setLevel(level)
