"""What is said on the way, on standard error: the one place where the command changes logging and warnings.

The library logs to `fullscale.*` and leaves handlers, levels and filters alone.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from fullscale.cli.show import print_status

_CHATTY = ("lightning.pytorch", "lightning.fabric")
"""Loggers whose hints (more workers, newer settings, other products) do not concern who uses the command."""


class StatusHandler(logging.Handler):
    """Prints each line as the command prints all its status, past a progress bar too."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        print_status(self.format(record))


@contextmanager
def status_on_stderr() -> Iterator[None]:
    """Show the log lines of this library, and of other libraries their errors alone, while the command runs."""
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # MONAI loads MLflow, which then sets its own level
    ours, others = logging.getLogger("fullscale"), [logging.getLogger(name) for name in _CHATTY]
    handler, errors = StatusHandler(), StatusHandler(logging.ERROR)
    level, handing_on = ours.level, [logger.propagate for logger in others]
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    # Lightning sets its level and adds printing handlers when it is imported, later than this. What holds all the
    # same: it leaves a logger's propagation alone where the root logger has a handler.
    logging.getLogger().addHandler(nothing := logging.NullHandler())
    for logger in others:
        logger.addHandler(errors)
        logger.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", message="Grad strides do not match")  # a hint on speed, from each process
            yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(level)
        logging.getLogger().removeHandler(nothing)
        for logger, propagate in zip(others, handing_on, strict=True):
            logger.removeHandler(errors)
            logger.propagate = propagate
