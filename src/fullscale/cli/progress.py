"""How far long work has come: a bar on a terminal, and on a log a line at least every 30 seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from fullscale.cli.show import print_status, since_last_status_s
from fullscale.progress import Progress

EVERY_S = 30.0
"""A log is never silent for longer."""


@contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """Show on standard error how far the work has come; gives the function to report it to."""
    shown = _bar(what) if sys.stderr.isatty() else _lines(what)
    with shown as progress:
        yield progress


@contextmanager
def _bar(what: str) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}", markup=False),  # names come from data: brackets in them are no markup
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(what, total=None)

        def progress(done: int, total: int, item: str) -> None:
            bars.update(task, completed=done, total=total, description=f"{what} {item}")

        yield progress


@contextmanager
def _lines(what: str) -> Iterator[Progress]:
    reached, began, ended = "", time.monotonic(), threading.Event()

    def progress(done: int, total: int, item: str) -> None:
        nonlocal reached
        reached = f" {done} of {total} done, last {item},"

    def speak() -> None:
        while not ended.wait(max(0.05, EVERY_S - since_last_status_s())):
            if since_last_status_s() >= EVERY_S:
                print_status(f"{what}:{reached} {time.monotonic() - began:.0f} s")

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    try:
        yield progress
    finally:
        ended.set()
        speaker.join()
