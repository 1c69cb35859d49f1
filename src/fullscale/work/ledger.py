"""The ledger of an archive run: what became of each case, whoever worked on it, wherever and however it ended.

Each process appends to a journal of its own in `OUT/.ledger`, one checked line an event, and whoever reads puts the
journals together. So nothing has to be locked, which network file systems cannot be trusted with, no line is written by
two machines, and a million cases are not a million files. A line that was torn does not count, and its case is worked
on again. Which line of a case is newest is told by a number that grows with each attempt, not by clocks.
"""

from __future__ import annotations

import json
import os
import secrets
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, Literal, get_args

from fullscale.errors import DataError, OutputError
from fullscale.temporary import HOST

FOLDER = ".ledger"
"""Folder of the journals, in that of the results."""
TRIES = 3
"""How often a case is tried that fails, or kills its process, before it is only reported."""

State = Literal["begun", "stopped", "failed", "done"]
"""Stopped is what a signal or a full disk ended: that says nothing of the case, and does not count as a try."""

_ORDER = {state.encode(): rank for rank, state in enumerate(get_args(State))}
_RECENT = 200
"""Cases that tell how many are worked on side by side."""


@dataclass(frozen=True)
class Row:
    """One event of one case.

    Attributes:
        case: its name.
        state: what happened.
        turn: of all rows of a case that with the highest is the newest; the end of an attempt has that of its begin.
        tries: attempts at the same work, this one included, that were not stopped.
        work: digest of the content of the scan and of how it is worked on.
        seconds: that the attempt took.
        at: seconds since 1970 by the clock of that machine; for people, and for a forecast.
        line: why it failed.
        content: what else is to be kept, as plain values.
    """

    case: str
    state: State
    turn: int = 1
    tries: int = 1
    work: str = ""
    seconds: float = 0.0
    at: float = field(default_factory=time.time)
    line: str = ""
    content: dict[str, Any] = field(default_factory=dict)

    def packed(self) -> bytes:
        """Write the row as a line; what decides between rows stands first, so that reading a million is quick."""
        head = f"{self.state}\t{self.turn}\t{self.tries}\t{self.seconds:.2f}\t{self.at:.2f}\t{json.dumps(self.case)}"
        body = f"{head}\t{self.work}\t{json.dumps(self.line)}\t{json.dumps(self.content)}".encode()
        return b"%08x\t%s" % (zlib.crc32(body), body)

    @classmethod
    def unpacked(cls, line: bytes) -> Row:
        """Read what `packed` wrote."""
        _, state, turn, tries, seconds, at, case, work, text, content = line.split(b"\t")
        name: Any = state.decode()
        return cls(
            *(json.loads(case), name, int(turn), int(tries), work.decode(), float(seconds), float(at)),
            line=json.loads(text),
            content=json.loads(content),
        )


@dataclass(frozen=True)
class Forecast:
    """What is left of an archive run, by what was measured of it.

    Attributes:
        cases: that are left.
        seconds_each: mean of those that are done.
        at_once: how many are worked on side by side.
        devices: processor cores, or GPUs, that one case keeps busy.
        unit: "core" or "GPU".
    """

    cases: int
    seconds_each: float
    at_once: float
    devices: int
    unit: str

    def describe(self) -> str:
        """Say it in a line."""
        total_s = self.cases * self.seconds_each
        return (
            f"{self.cases} cases are left, {self.seconds_each:.3g} s each: {total_s * self.devices / 3600:.3g} "
            f"{self.unit} hours, {total_s / self.at_once / 3600:.3g} hours with {self.at_once:.2g} at once"
        )


class Ledger:
    """The newest row of each case, as the journals say.

    Args:
        output: folder of the results.
        folder: of the journals in it.
        wanted: tells which cases are kept, by their names; default all. A share of a million is small in memory.
    """

    def __init__(self, output: Path, folder: str = FOLDER, wanted: Callable[[str], bool] | None = None) -> None:
        self._lines: dict[bytes, bytes] = {}
        self._wanted = wanted
        for journal in sorted((output / folder).glob("*.log")):
            try:
                self._add(journal.read_bytes())
            except OSError as error:
                raise DataError(f"{journal}: {error.strerror or error}") from error

    def _add(self, journal: bytes) -> None:
        known = self._lines
        for line in journal.split(b"\n"):
            check, _, body = line.partition(b"\t")
            if len(check) != 8 or b"%08x" % zlib.crc32(body) != check:
                continue
            case = body.split(b"\t", 6)[5]
            if self._wanted is not None and not self._wanted(json.loads(case)):
                continue
            other = known.get(case)
            if other is None or _newness(line) >= _newness(other):
                known[case] = line

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[Row]:
        return map(Row.unpacked, self._lines.values())

    def get(self, case: str) -> Row | None:
        """Return the newest row of a case; None where nothing is known of it."""
        line = self._lines.get(json.dumps(case).encode())
        return None if line is None else Row.unpacked(line)

    def of_state(self, state: State) -> Iterator[Row]:
        """List the newest rows of a state, without unpacking the others."""
        return (Row.unpacked(line) for line in self._lines.values() if line.split(b"\t", 2)[1] == state.encode())

    def counts(self) -> dict[State, int]:
        """Count the cases in each state."""
        found = Counter(line.split(b"\t", 2)[1].decode() for line in self._lines.values())
        return {state: found[state] for state in get_args(State)}

    def left(self, listed: int) -> int:
        """Count what is neither done nor failed of so many cases."""
        counts = self.counts()
        return max(0, listed - counts["done"] - counts["failed"])

    def forecast(self, cases: int) -> Forecast | None:
        """Say what so many further cases cost; None where none was done yet.

        Args:
            cases: that are left.
        """
        done = [line for line in self._lines.values() if line.split(b"\t", 2)[1] == b"done"]
        if not done:
            return None
        seconds, ended = zip(*(map(float, line.split(b"\t", 6)[4:6]) for line in done), strict=True)
        at_once = _at_once(sorted(zip(ended, seconds, strict=True))[-_RECENT:])
        last = Row.unpacked(done[-1]).content
        on_cpu = last.get("device", "cpu") == "cpu"
        devices = int(last.get("threads", 1)) if on_cpu else 1
        return Forecast(cases, sum(seconds) / len(seconds), at_once, devices, "core" if on_cpu else "GPU")


def _at_once(ended: list[tuple[float, float]]) -> float:
    """Say how many cases are worked on side by side, by when each ended and how long it took.

    It is the median, over the cases, of how many were at work halfway through each: a night between two runs, a clock
    that stepped, or a machine whose clock is hours off changes what its own cases say, and no more.
    """
    spans = [(end - took, end) for end, took in ended]
    halfway = ((begin + end) / 2 for begin, end in spans)
    return float(median(max(1, sum(begin <= at <= end for begin, end in spans)) for at in halfway))


def next_attempt(case: str, work: str, before: Row | None, content: dict[str, Any], afresh: bool = False) -> Row:
    """Return the row of an attempt that begins.

    Args:
        case: its name.
        work: digest of the content and of how it is worked on; tries at other work do not count.
        before: the newest row of the case.
        content: what is to be kept.
        afresh: leave earlier tries out of account.
    """
    if before is None:
        return Row(case, "begun", work=work, content=content)
    again = before.work == work and not afresh
    tries = (before.tries if again else 0) + (0 if before.state == "stopped" and again else 1)
    return Row(case, "begun", before.turn + 1, max(1, tries), work, content=content)


def _newness(line: bytes) -> tuple[int, int]:
    _, state, turn, _ = line.split(b"\t", 3)
    return int(turn), _ORDER[state]


def write_row(output: Path, row: Row, folder: str = FOLDER) -> None:
    """Append a row to the journal of this process; see `Ledger`.

    Raises:
        OutputError: it cannot be written.
    """
    journal = _journal(output / folder, os.getpid())
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        # Opened for each row: on a network file system others see what was written when it is closed. The line feed
        # before it ends a line that a full disk left half-written.
        with open(journal, "ab", buffering=0) as stream:
            stream.write(b"\n" + row.packed() + b"\n")
    except OSError as error:
        raise OutputError(f"cannot write {journal}: {error.strerror or error}") from error


@cache
def _journal(folder: Path, process: int) -> Path:
    """Name a journal that no other process writes: two machines may have a name in common, and processes a number."""
    return folder / f"{HOST}-{process}-{secrets.token_hex(4)}.log"
