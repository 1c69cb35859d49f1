"""Cases in turn or side by side: one function mapped over them, with the same results however many processes share it.

An executor is a `concurrent.futures.Executor`: this process, several of them, or another library's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from fullscale.errors import DataError, FullscaleError
from fullscale.progress import Progress, ignore
from fullscale.text import one_line
from fullscale.work.cluster import Cluster, Workers
from fullscale.work.machine import choose_jobs
from fullscale.work.processes import Answer, Killed, ProcessExecutor, Shared, answer, log_again

Item = TypeVar("Item")
Value = TypeVar("Value")

_log = logging.getLogger(__name__)

KILLED = "the process that worked on it was killed, perhaps for want of memory: use a machine with more, or --jobs 1"
"""Why an item failed whose process is gone."""
AHEAD = 64
"""Items that are handed out and not yet done, at most: their results wait in memory for those before them."""


@dataclass(frozen=True)
class Outcome(Generic[Item, Value]):
    """What became of one item.

    Attributes:
        item: the item.
        name: what it is called.
        value: what the function returned; None where it failed.
        error: why it failed.
    """

    item: Item
    name: str
    value: Value | None = None
    error: Exception | None = None

    def result(self) -> Value:
        """Return the value.

        Raises:
            FullscaleError: the error of the item; any other becomes a `DataError` that names the item.
        """
        if isinstance(self.error, FullscaleError):
            raise self.error
        if self.error is not None:
            raise DataError(f"{self.name}: {self.failure()}") from self.error
        return cast(Value, self.value)

    def failure(self) -> str | None:
        """Say in one line why the item failed; None where it did not.

        Raises:
            FullscaleError: it failed for what concerns every item alike, such as a full disk or a wrong request.
        """
        return None if self.error is None else describe_failure(self.name, self.error)


def describe_failure(name: str, error: Exception) -> str:
    """Say in one line why an item failed.

    Raises:
        FullscaleError: it failed for what concerns every item alike, such as a full disk or a wrong request.
    """
    if isinstance(error, DataError | Killed):
        return str(error)
    if isinstance(error, FullscaleError):
        raise error
    _log.debug("%s", name, exc_info=error)
    if isinstance(error, MemoryError):
        return f"it needs more memory than there is ({one_line(error)})"
    return f"{type(error).__name__}: {one_line(error)}"


class SerialExecutor(Executor):
    """Runs what is submitted at once, in the thread that submits it."""

    def submit(self, fn: Callable[..., Value], /, *args: Any, **kwargs: Any) -> Future[Value]:
        """Run, and return a future that is done; what is no `Exception`, such as Ctrl-C, goes through."""
        future: Future[Value] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def choose_workers(wanted: Workers, items: int) -> int | Cluster:
    """Choose who works on so many items: as wanted, else so many processes as `choose_jobs` says."""
    return wanted if isinstance(wanted, Cluster) else choose_jobs(wanted, items)


@contextmanager
def make_executor(jobs: int | Cluster = 1, *shared: Shared[Any]) -> Iterator[Executor]:
    """Give an executor: this process for one job, else so many others. What interrupts the block ends them at once.

    Args:
        jobs: how many items are worked on side by side, or the cluster that does.
        shared: values that each process needs, such as a model.
    """
    if isinstance(jobs, Cluster):
        with jobs.executor(shared) as elsewhere:
            yield elsewhere
        return
    if jobs <= 1:
        yield SerialExecutor()
        return
    executor = ProcessExecutor(jobs, shared)
    try:
        yield executor
    except BaseException:
        executor.stop()
        raise
    executor.shutdown()


def map_cases(
    executor: Executor,
    function: Callable[[Item], Value],
    items: Iterable[Item],
    progress: Progress = ignore,
    name: Callable[[Item], str] = str,
) -> Iterator[Outcome[Item, Value]]:
    """Call the function with each item; an exception of one item is that item's outcome and stops no other.

    Args:
        executor: of `make_executor`, or any other.
        function: of one item; with processes, it and what it returns must pickle.
        items: such as cases; they may be found while others are worked on.
        progress: told of each item when it is done, in the order in which they end; where it is not known how many
            there are, of how many were found so far.
        name: what to call an item.

    Yields:
        The outcomes, in the order of the items.
    """
    held: dict[int, Outcome[Item, Value]] = {}
    following = 0
    found = _Counted(items)
    for done, (k, item, answered) in enumerate(_as_they_end(executor, function, found), start=1):
        progress(done, found.total, name(item))
        held[k] = Outcome(item, name(item), answered.value, answered.error)
        while following in held:
            yield held.pop(following)
            following += 1


class _Counted(Generic[Item]):
    """Items that are counted while they are found."""

    def __init__(self, items: Iterable[Item]) -> None:
        self.items = items
        self.found = 0

    @property
    def total(self) -> int:
        """How many there are, as far as that is known."""
        return len(self.items) if isinstance(self.items, Sized) else self.found

    def __iter__(self) -> Iterator[Item]:
        for item in self.items:
            self.found += 1
            yield item


def _as_they_end(
    executor: Executor, function: Callable[[Item], Value], items: Iterable[Item]
) -> Iterator[tuple[int, Item, Answer[Value]]]:
    """Yield each item with its place and its answer; those that a dying process took along come last."""
    pending: dict[Future[Answer[Value]], tuple[int, Item]] = {}
    lost: dict[int, Item] = {}

    def ended(timeout: float | None) -> Iterator[tuple[int, Item, Answer[Value]]]:
        for future in wait(pending, timeout, FIRST_COMPLETED).done:
            k, item = pending.pop(future)
            if isinstance(future.exception(), BrokenExecutor):
                lost[k] = item
            else:
                yield k, item, _answered(future)

    try:
        for k, item in enumerate(items):
            pending[_submit(executor, function, item)] = k, item
            yield from ended(0)  # what this very process did is handed on before the next one begins
            while len(pending) >= AHEAD:
                yield from ended(None)
        while pending:
            yield from ended(None)
    finally:
        for future in pending:
            future.cancel()
    yield from _one_by_one(executor, function, sorted(lost.items()))


def _one_by_one(
    executor: Executor, function: Callable[[Item], Value], lost: Iterable[tuple[int, Item]]
) -> Iterator[tuple[int, Item, Answer[Value]]]:
    """Work on the items of a broken executor in one fresh process, and find the item that kills it."""
    alone: ProcessExecutor | None = None
    try:
        for k, item in lost:
            if alone is None and isinstance(executor, ProcessExecutor):
                alone = executor.alone()
            future = _submit(alone or executor, function, item)
            if isinstance(future.exception(), BrokenExecutor):
                alone = None
                yield k, item, Answer(None, Killed(KILLED), [])
            else:
                yield k, item, _answered(future)
    except BaseException:
        if alone is not None:
            alone.stop()
        raise
    if alone is not None:
        alone.shutdown()


def _submit(executor: Executor, function: Callable[[Item], Value], item: Item) -> Future[Answer[Value]]:
    try:
        return executor.submit(answer, function, item)
    except BrokenExecutor as error:
        future: Future[Answer[Value]] = Future()
        future.set_exception(error)
        return future


def _answered(future: Future[Answer[Value]]) -> Answer[Value]:
    error = future.exception()
    if isinstance(error, Exception):  # the item, or its result, could not be carried between processes
        return Answer(None, error, [])
    found = future.result()
    log_again(found.records)
    return found
