"""How far long work has come: one signature, whatever the work."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called as `progress(done, total, item)` when an item is done; `item` is its name."""


def ignore(done: int, total: int, item: str) -> None:
    """Take note of nothing: what long functions report to unless they are told otherwise."""
