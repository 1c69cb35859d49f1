"""The last lines of the log, for whoever asks the service for them."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

MOST_LINES = 1000


class RecentLines(logging.Handler):
    """Remembers what was logged, with the time.

    Attributes:
        lines: the last ones, the newest at the end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self.lines: deque[str] = deque(maxlen=MOST_LINES)

    @classmethod
    @contextmanager
    def of(cls, name: str) -> Iterator[Self]:
        """Remember what a logger is told while the block lasts."""
        handler, logger = cls(), logging.getLogger(name)
        logger.addHandler(handler)
        try:
            yield handler
        finally:
            logger.removeHandler(handler)

    def emit(self, record: logging.LogRecord) -> None:
        """Remember one record."""
        self.lines.append(self.format(record))
