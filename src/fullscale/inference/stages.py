"""Where the seconds of one scan go, and what is to be known of how it was segmented."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

Stage = Literal["reading", "preparing", "coarse", "fine", "writing"]


@dataclass
class Stages:
    """A clock for the stages of one scan.

    Attributes:
        seconds: of each stage that took place, in their order.
        notes: lines for whoever asked for the mask.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        """Count what is done within to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started
