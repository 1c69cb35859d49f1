"""What is said on the way, on standard error: the one place where the command changes logging and warnings.

The library logs to `fullscale.*` and leaves handlers, levels and filters alone.
"""

from __future__ import annotations

import logging
import warnings

from fullscale.cli.show import print_status

_WITHOUT_NEWS = ("lightning.pytorch", "lightning.fabric", "lightning")
"""Libraries whose hints (more workers, newer settings) do not concern who uses the command."""


class StatusHandler(logging.Handler):
    """Prints each line as the command prints all its status, past a progress bar too."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        print_status(self.format(record))


def start_logging() -> None:
    """Show the log lines of the library, and nothing of what other libraries remark."""
    logger = logging.getLogger("fullscale")
    logger.addHandler(StatusHandler())
    logger.setLevel(logging.INFO)
    for name in _WITHOUT_NEWS:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
