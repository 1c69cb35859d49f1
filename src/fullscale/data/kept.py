"""Work on cases that a ledger keeps: what is done is not done again, whichever command of a job array did it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, Generic, TypeVar

from fullscale.data.identity import content_of, digest_of
from fullscale.errors import DataError, FullscaleError
from fullscale.files import state_of
from fullscale.inputs import require_no_input
from fullscale.progress import Progress, ignore
from fullscale.work.executor import Outcome, describe_failure, map_cases
from fullscale.work.ledger import TRIES, Row, State, next_attempt, write_row
from fullscale.work.processes import Killed

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Task(Generic[Item]):
    """Work on one case.

    Attributes:
        item: what the function is given.
        name: of the case.
        files: that decide what comes out, by their content.
        said: what else is known of the case and decides it.
        writes: files that the function writes; the work is done as long as they are as it wrote them.
        earlier: what the ledger says of the case.
    """

    item: Item
    name: str
    files: Sequence[Path] = ()
    said: str = ""
    writes: tuple[Path, ...] = ()
    earlier: Row | None = None


@dataclass(frozen=True)
class Kept(Generic[Item, Value]):
    """A function of a case whose value is kept, and given back where nothing has changed.

    Attributes:
        function: of the item of a task.
        output: folder of the results.
        folder: of the journals in it.
        how: digest of all that decides the value besides the content of the case.
        pack: the value as plain values of JSON, from which `unpack` makes it again.
        unpack: see `pack`.
        overwrite: replace files that this work did not write.
        describe: says in a line why a task failed, or raises what concerns every task alike.
    """

    function: Callable[[Item], Value]
    output: Path
    folder: str
    how: str
    pack: Callable[[Value], Any]
    unpack: Callable[[Any], Value]
    overwrite: bool = False
    describe: Callable[[str, Exception], str] = describe_failure

    def __call__(self, task: Task[Item]) -> Value:
        """Return the value of a task, from the ledger or by working it out; what fails is tried `TRIES` times.

        Raises:
            DataError: it fails, or did so before.
            FullscaleError: what concerns every case alike; nothing is held against this one.
        """
        row = self._next(task)
        known = self._known(task, row)
        if known is not None:
            return known.result()
        self._require_ours(task, row)
        self._write(row, "begun")
        began = time.monotonic()  # the seconds of a case are no difference of two times of day: those may be set
        try:
            value = self.function(task.item)
        except Exception as error:
            self._write_failure(replace(row, seconds=time.monotonic() - began), task.name, error)
            raise
        except BaseException:
            self._write(row, "stopped")
            raise
        row = replace(row, seconds=time.monotonic() - began)
        row.content["value"] = self.pack(value)
        row.content["files"] = {self._called(path): state_of(path) for path in task.writes}
        self._write(row, "done")
        return value

    def ended(self, task: Task[Item]) -> Outcome[Item, Value] | None:
        """Say what became of a task, without working on it; None where it has not ended, or its content has changed."""
        try:
            row = self._next(task)
        except DataError as error:
            return Outcome(task.item, task.name, error=error)
        before = task.earlier
        if before is not None and before.work == row.work and before.state == "failed":
            return Outcome(task.item, task.name, error=DataError(before.line))
        return self._known(task, row)

    def all_ended(self, tasks: Iterable[Task[Item]]) -> tuple[list[Outcome[Item, Value]], list[str]]:
        """Say what became of tasks, and which have not ended; see `ended`."""
        outcomes, missing = [], []
        for task in tasks:
            outcome = self.ended(task)
            if outcome is None:
                missing.append(task.name)
            else:
                outcomes.append(outcome)
        return outcomes, missing

    def report_killed(self, task: Task[Item], line: str) -> None:
        """Write down that a task killed every process that worked on it, so that it is not tried again."""
        row = self._next(task)
        self._write(replace(row, tries=TRIES, line=line), "failed")

    def _next(self, task: Task[Item]) -> Row:
        before = task.earlier.content if task.earlier is not None else {}
        content = content_of(task.files, before)
        work = digest_of(self.how, task.said, content["content"])
        return next_attempt(task.name, work, task.earlier, content | {"files": before.get("files", {})})

    def _known(self, task: Task[Item], row: Row) -> Outcome[Item, Value] | None:
        """Return what came of the same work before, if it has ended."""
        before = task.earlier
        if before is None or before.work != row.work:
            return None
        if before.state == "done" and self._as_written(task, before):
            return Outcome(task.item, task.name, self.unpack(before.content["value"]))
        if before.state in ("failed", "begun") and before.tries >= TRIES:
            line = before.line or f"its process was killed at each of {before.tries} tries"
            return Outcome(task.item, task.name, error=DataError(line))
        return None

    def _as_written(self, task: Task[Item], row: Row) -> bool:
        files = row.content["files"]
        return all(state_of(path) == files.get(self._called(path)) for path in task.writes)

    def _require_ours(self, task: Task[Item], row: Row) -> None:
        """Refuse to replace what is read, and a file that the ledger knows nothing of, or that was changed since."""
        before = task.earlier
        if before is not None and before.state in ("begun", "stopped"):
            return  # should it have been killed while it wrote, what is there is ours
        for path in task.writes:
            if not path.exists() or state_of(path) == row.content["files"].get(self._called(path)):
                continue
            require_no_input([path], task.files)
            if not self.overwrite:
                raise DataError(f"{path} is there and was not written by this command; move it away, or --overwrite")

    def _write_failure(self, row: Row, name: str, error: Exception) -> None:
        try:
            line = self.describe(name, error)
        except FullscaleError:
            self._write(row, "stopped")
        else:
            self._write(replace(row, line=line), "failed")

    def _write(self, row: Row, state: State) -> None:
        write_row(self.output, replace(row, state=state, at=time.time()), self.folder)

    def _called(self, path: Path) -> str:
        return path.relative_to(self.output).as_posix()


def map_kept(
    executor: Executor, kept: Kept[Item, Value], tasks: Iterable[Task[Item]], progress: Progress = ignore
) -> Iterator[Outcome[Item, Value]]:
    """Work on tasks as `map_cases` does, and hold it against a task that it killed its processes."""
    for outcome in map_cases(executor, kept, tasks, progress, attrgetter("name")):
        if isinstance(outcome.error, Killed):
            kept.report_killed(outcome.item, str(outcome.error))
        yield Outcome(outcome.item.item, outcome.name, outcome.value, outcome.error)
