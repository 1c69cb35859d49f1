"""What works on the jobs: so many threads of the service, each with a process of its own that may die."""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TextIO, cast

from fullscale.serve.jobs import MOST_CRASHES, Job, JobStore
from fullscale.serve.settings import ServeSettings

_log = logging.getLogger(__name__)

GRACE_S = 3.0
"""How long a process may take to let go of a job that is not wanted, before it is killed."""
_LOOK_S = 1.0
_TIDY_S = 60.0
FORGET = 4
"""A job is forgotten after so many times the time that its files are kept."""


class WorkerProcess:
    """A process that segments; it ends when this one does."""

    def __init__(self, debug: bool) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fullscale.serve.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if debug else subprocess.DEVNULL,  # what libraries say there may name files
            text=True,
            start_new_session=True,  # Ctrl-C in a terminal is for the service alone
        )

    def send(self, message: dict[str, Any]) -> None:
        """Hand it a message; one to a dead process is lost, as `news` will tell."""
        with self._lock, suppress(OSError, ValueError):
            stdin = cast(TextIO, self._process.stdin)
            stdin.write(json.dumps(message) + "\n")
            stdin.flush()

    def news(self) -> Iterator[dict[str, Any]]:
        """Yield what it tells, until it is dead."""
        for line in cast(TextIO, self._process.stdout):
            yield json.loads(line)

    def is_dead(self) -> bool:
        """Tell whether it has ended."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                cast(TextIO, pipe).close()


@dataclass
class _Seat:
    """A thread that works, its process, and the job at hand."""

    process: WorkerProcess | None = None
    job: Job | None = None
    unwanted: str = ""


@dataclass
class Runner:
    """Works on jobs, and removes what is kept no longer.

    Attributes:
        settings: of the service.
        store: its jobs.
        ended: called with each job that ended.
        progress: slices done and to do of the jobs that run, by name.
    """

    settings: ServeSettings
    store: JobStore
    ended: Callable[[Job], None] = lambda _: None
    progress: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    _seats: list[_Seat] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _waiting: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def start(self) -> None:
        """Begin; jobs that ran when the service was last killed wait again."""
        known = self.store.ids()
        for folder in self.settings.jobs.iterdir():
            if folder.name not in known:  # of an upload that never became a job
                shutil.rmtree(folder, ignore_errors=True)
        self._tidy()
        again = self.store.recover()
        if again:
            _log.info("%d unfinished from before, taken up again", again)
        for _ in range(self.settings.workers):
            seat = _Seat()
            self._seats.append(seat)
            self._threads.append(threading.Thread(target=self._work, args=(seat,), daemon=True))
        self._threads.append(threading.Thread(target=self._keep_tidy, daemon=True))
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Say that a job was added."""
        self._waiting.release()

    def cancel(self, id: str) -> Job | None:
        """Cancel a job, and have its process let go of it; return it as it was before."""
        before = self.store.cancel(id)
        for seat in self._seats:
            if seat.job is not None and seat.job.id == id:
                self._let_go(seat, "cancelled")
        return before

    def stop(self) -> None:
        """Let the jobs that run wait again, for the next start, and end the processes."""
        self._stopping.set()
        for seat in self._seats:
            self._waiting.release()
            self._let_go(seat, "stopped")
        deadline = time.monotonic() + 2 * GRACE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _let_go(self, seat: _Seat, why: str) -> None:
        """Ask a process to let go of its job; after a while, kill it."""
        process, job = seat.process, seat.job
        seat.unwanted = seat.unwanted or why
        if process is None or job is None:
            return
        process.send({"cancel": job.id})

        def still_there() -> None:
            if seat.job is job and seat.process is process:
                process.kill()

        timer = threading.Timer(GRACE_S, still_there)
        timer.daemon = True
        timer.start()

    def _work(self, seat: _Seat) -> None:
        """Work on one job after the other, whatever happens to any."""
        while not self._stopping.is_set():
            try:
                seat.unwanted = ""
                if seat.process is None:  # before there is a job: its libraries take seconds to load
                    seat.process = WorkerProcess(self.settings.debug)
                seat.job = self.store.claim()
                if seat.job is None:
                    self._waiting.acquire(timeout=_LOOK_S)
                else:
                    self._do(seat, seat.job)
            except Exception as error:  # such as a full disk: it may pass, and the service stands
                _log.warning("a job could not be taken further: %s", type(error).__name__)
                self._stopping.wait(_LOOK_S)
            finally:
                if seat.job is not None:
                    self.progress.pop(seat.job.id, None)
                seat.job = None
        self._end_process(seat)

    def _do(self, seat: _Seat, job: Job) -> None:
        _log.info("job %s: running, attempt %d", job.id, job.attempts)
        self.progress[job.id] = (0, 0, "starting")
        try:
            news = self._until_ended(seat, job)
        except OSError as error:  # no folder, no process
            news = {"ended": "failed", "failure": f"it could not be started: {error.strerror or error}"}
        except sqlite3.Error:  # its process may be at work, and is not listened to any more
            seat.unwanted, news = "stopped", None
            self._end_process(seat)
        self._insist(partial(self._write_down, seat, job, news))
        left = self.store.get(job.id)
        if left is not None and left.ended:
            _log.info("job %s: %s", job.id, left.state)
            self.ended(left)

    def _insist(self, write: Callable[[], None]) -> None:
        """Write down how a job ended, as soon as the disk takes it."""
        while True:
            try:
                write()
                return
            except sqlite3.Error as error:
                _log.warning("the state of a job cannot be written (%s); it is tried again", error)
                if self._stopping.wait(_LOOK_S):
                    return

    def _until_ended(self, seat: _Seat, job: Job) -> dict[str, Any] | None:
        """Hand the job to the process; return its last word, or None where it died."""
        model = self.settings.models.get(job.model)
        if model is None:
            return {"ended": "failed", "failure": f"the service no longer offers the model {job.model!r}"}
        output = self.settings.outputs(job.id)
        output.mkdir(parents=True, exist_ok=True)
        if seat.process is None or seat.process.is_dead():
            self._end_process(seat)
            seat.process = WorkerProcess(self.settings.debug)
        work = {"id": job.id, "model": str(model.path), "output": str(output)}
        computed = {"device": self.settings.device, "runtime": self.settings.runtime}
        seat.process.send(job.request | work | computed)
        current = self.store.get(job.id)
        if self._stopping.is_set() or (current is not None and current.cancelling):  # said before there was a process
            self._let_go(seat, "stopped")
        for news in seat.process.news():
            if "ended" in news:
                return news
            done, total, item = news["progress"]
            self.progress[job.id] = (done, total, item)
        self._end_process(seat)
        return None

    def _end_process(self, seat: _Seat) -> None:
        if seat.process is not None:
            seat.process.kill()
        seat.process = None

    def _write_down(self, seat: _Seat, job: Job, news: dict[str, Any] | None) -> None:
        """Say in the store how an attempt ended."""
        current = self.store.get(job.id)
        if news is not None and news["ended"] == "done":
            self.store.end(job, "done", result=news["result"])
        elif news is not None and news["ended"] == "failed":
            self.store.end(job, "failed", failure=news["failure"])
        elif current is not None and current.cancelling:
            shutil.rmtree(self.settings.outputs(job.id), ignore_errors=True)
            self.store.end(job, "cancelled")
        elif seat.unwanted:
            self.store.requeue(job)
        elif job.crashes + 1 >= MOST_CRASHES:
            self.store.end(job, "failed", failure=f"its process died at each of {MOST_CRASHES} attempts")
        else:
            _log.warning("job %s: its process died; it waits again", job.id)
            self.store.requeue(job, crashed=True)

    def _keep_tidy(self) -> None:
        while not self._stopping.wait(min(_TIDY_S, max(0.2, self.settings.keep_s / 10))):
            with suppress(Exception):  # such as a full disk: it is tried again
                self._tidy()

    def _tidy(self) -> None:
        """Remove the files of jobs whose time is over."""
        for job in self.store.expired(self.settings.keep_s):
            self.remove(job)
        self.store.forget(FORGET * self.settings.keep_s)

    def remove(self, job: Job) -> None:
        """Remove the files of a job that ended, its upload too."""
        shutil.rmtree(self.settings.jobs / job.id, ignore_errors=True)
        self.store.mark_removed(job.id)
        _log.info("job %s: its files were removed", job.id)
