"""Worker processes: how they start, what they are given, how they answer, and how they end."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from logging.handlers import QueueHandler
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from queue import SimpleQueue
from types import FrameType
from typing import Any, Generic, TypeVar, cast
from uuid import uuid4

from fullscale.work.machine import cores

Item = TypeVar("Item")
Value = TypeVar("Value")

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_GRACE_S = 5.0
"""How long workers may take, all together, to remove their temporary files when they are told to stop."""
_BLOCKED = (signal.SIGINT, signal.SIGTERM)
TERMINATED = 143
"""Exit code of a process that SIGTERM ends."""

_received: dict[str, bytes] = {}
"""In a worker: the shared values it was started with."""


class Shared(Generic[Value]):
    """A value that each worker process gets once, when it starts, and not again with every item.

    It is named to `make_executor`, and pickles where there are processes. Where it was made, it is the value itself.
    """

    def __init__(self, value: Value) -> None:
        self.key = uuid4().hex
        self._here = [value]

    @property
    def value(self) -> Value:
        """The value, here or in a worker."""
        return self._here[0] if self._here else _unpack(self.key)

    def __getstate__(self) -> dict[str, Any]:
        return {"key": self.key, "_here": []}

    def packed(self) -> bytes:
        """Pickle the value, for the start of a worker."""
        return pickle.dumps(self.value)


@cache
def _unpack(key: str) -> Any:
    return pickle.loads(_received.pop(key))


def receive(packed: Mapping[str, bytes]) -> None:
    """Take shared values, in a worker; those that are unpacked already stay as they are."""
    _received.update(packed)


@dataclass(frozen=True)
class Answer(Generic[Value]):
    """What a worker sends back: a value or an error, and what was logged on the way."""

    value: Value | None
    error: Exception | None
    records: list[logging.LogRecord]


class Killed(Exception):
    """The process that worked on an item is gone."""


class Stopped(SystemExit):
    """A worker was told to end: it goes through the case at work, which removes its temporary files."""


def answer(function: Callable[[Item], Value], item: Item) -> Answer[Value]:
    """Call the function; in a worker, keep what is logged for the process that asked."""
    records: SimpleQueue[logging.LogRecord] = SimpleQueue()
    handler = QueueHandler(records)
    root = logging.getLogger()
    worker = multiprocessing.parent_process() is not None
    if worker:
        root.addHandler(handler)
    value, failure = None, None
    try:
        value = function(item)
    except Exception as error:
        failure = error
    except Stopped:
        os._exit(TERMINATED)  # the pool would go on with the next item that is queued
    finally:
        root.removeHandler(handler)
    return Answer(value, failure, [records.get() for _ in range(records.qsize())])


def log_again(records: Sequence[logging.LogRecord]) -> None:
    """Log here what a worker logged."""
    for record in records:
        logging.getLogger(record.name).handle(record)


class ProcessExecutor(ProcessPoolExecutor):
    """Spawned processes that divide the cores among them, leave Ctrl-C to this one, and end when it does.

    Args:
        jobs: how many.
        shared: values that each of them is started with.
    """

    def __init__(self, jobs: int, shared: Sequence[Shared[Any]] = ()) -> None:
        self._processes_started = _Recording()
        self._shared = list(shared)
        start = Start(
            threads=max(1, _threads() // jobs),
            shared={value.key: value.packed() for value in shared},
            filters=list(warnings.filters),
            level=logging.getLogger("fullscale").getEffectiveLevel(),
        )
        super().__init__(jobs, self._processes_started, _begin, (start,))

    def alone(self) -> ProcessExecutor:
        """Return another executor, of one process, that is given the same."""
        return ProcessExecutor(1, self._shared)

    def stop(self) -> None:
        """End the workers in the middle of what they do; each may remove its temporary files first."""
        self.shutdown(wait=False, cancel_futures=True)
        for process in self._processes_started.processes:
            process.terminate()
        until = time.monotonic() + _GRACE_S
        for process in self._processes_started.processes:
            process.join(max(0.0, until - time.monotonic()))
            process.kill()


class _Worker(SpawnProcess):
    """Hears no signal before `_begin` says what becomes of it: what it loads until then would end in a traceback."""

    def start(self) -> None:
        """Start with the signals blocked, as a process inherits it."""
        if sys.platform == "win32":
            super().start()
            return
        resource_tracker.ensure_running()  # its start, within that of the first worker, would unblock them
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def run(self) -> None:
        """Work; a process that then ends of itself is not told to stop as well, which would end in a traceback."""
        try:
            super().run()
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)


class _Recording(SpawnContext):
    """Starts processes afresh, without copies of this one's threads and locks, and keeps them to be stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[SpawnProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]  # there it is a class
        """Make a process, as the pool asks for it."""
        process = _Worker(*args, **kwargs)
        self.processes.append(process)
        return process


@dataclass(frozen=True)
class Start:
    """What a worker begins with: threads, shared values, and how this process treats warnings and log lines."""

    threads: int
    shared: dict[str, bytes]
    filters: list[Any]
    level: int


def _begin(start: Start) -> None:
    """Make a worker ready."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the process that waits for us acts on it
    if sys.platform != "win32":
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # likewise a scheduler
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)  # a SIGTERM that came meanwhile ends us here
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for variable in _THREADS:
        os.environ[variable] = str(start.threads)
    torch = sys.modules.get("torch")  # loaded already where the command is a script that imports it
    if torch is not None:
        torch.set_num_threads(start.threads)
    cast(list[Any], warnings.filters)[:] = start.filters
    logging.getLogger("fullscale").setLevel(start.level)
    receive(start.shared)
    signal.signal(signal.SIGTERM, _stop)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    # The pool catches what is raised while it sends a value back, and tries once more: where another process was killed
    # with the lock of the pipe in its hands, that would wait forever.
    ending = threading.Timer(_GRACE_S, os._exit, (TERMINATED,))
    ending.daemon = True
    ending.start()
    raise Stopped(TERMINATED)


def _end_with_parent() -> None:
    """Wait for the end of the process that started this one: killed, it cannot tell us."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _threads() -> int:
    """Count the threads that there are to divide: as the user limits them, else one a core."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdecimal() and int(wanted) else cores()
