"""The jobs of the service, in SQLite: what is asked for, how it stands, and how it ended.

Every change of state is one transaction that names the state before it, so that a job ends once, whatever dies when.
"""

from __future__ import annotations

import json
import logging
import secrets
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from fullscale.serve.clock import Clock
from fullscale.serve.database import open_database

_log = logging.getLogger(__name__)

State = Literal["queued", "running", "done", "failed", "cancelled"]
STATES: tuple[State, ...] = get_args(State)
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")
MOST_CRASHES = 3
"""Times that the process of a job may die before the job is given up."""

_TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    model TEXT NOT NULL,
    case_name TEXT,
    request TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    cancelling INTEGER NOT NULL DEFAULT 0,
    failure TEXT,
    result TEXT,
    created REAL NOT NULL,
    started REAL,
    finished REAL,
    removed REAL
);
CREATE INDEX IF NOT EXISTS by_state ON jobs (state, number);
CREATE TABLE IF NOT EXISTS history (job TEXT NOT NULL, at REAL NOT NULL, state TEXT NOT NULL, attempt INTEGER NOT NULL);
"""


@dataclass(frozen=True)
class Job:
    """A job as it stands.

    Attributes:
        id: sixteen hexadecimal digits, drawn here.
        model: name of the model.
        case: name of the case of the data folder; None of an upload.
        request: what was asked for besides, as plain values.
        state: queued, running, done, failed or cancelled.
        attempts: times that it was started.
        crashes: how many of those ended with the death of its process.
        cancelling: whether it runs and is to be cancelled.
        failure: why it failed, in a line.
        result: what came of it, as plain values.
        created: when it was asked for, in seconds since 1970; `started`, `finished` and `removed` likewise, or None.
        removed: when its files were removed.
    """

    id: str
    model: str
    case: str | None
    request: dict[str, Any]
    state: State
    attempts: int = 0
    crashes: int = 0
    cancelling: bool = False
    failure: str | None = None
    result: dict[str, Any] = field(default_factory=dict)
    created: float = 0.0
    started: float | None = None
    finished: float | None = None
    removed: float | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will become of it."""
        return self.state in ENDED


def new_id() -> str:
    """Draw the name of a job: nobody guesses it, and it is a folder's name on any system."""
    return secrets.token_hex(8)


class JobStore:
    """The jobs in a file; one process has it, whose threads share one connection.

    Args:
        path: the database; made where it is not there.

    Raises:
        OutputError: it cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self._lock, self._clock = threading.RLock(), Clock()
        self._db = open_database(path, _TABLES, "jobs")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def add(self, id: str, model: str, case: str | None, request: dict[str, Any], most_waiting: int) -> bool:
        """Queue a job, unless so many wait already; tell whether it was."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            if self._count("queued") >= most_waiting:
                return False
            self._db.execute(
                "INSERT INTO jobs (id, model, case_name, request, state, created) VALUES (?, ?, ?, ?, 'queued', ?)",
                (id, model, case, json.dumps(request), self._now()),
            )
            self._note(id, "queued", 0)
            return True

    def get(self, id: str) -> Job | None:
        """Return a job by its name."""
        found = self._select("WHERE id = ?", (id,))
        return found[0] if found else None

    def all(self, limit: int, state: State | None = None) -> list[Job]:
        """List the newest jobs first."""
        if state is None:
            return self._select("ORDER BY number DESC LIMIT ?", (limit,))
        return self._select("WHERE state = ? ORDER BY number DESC LIMIT ?", (state, limit))

    def done(self, model: str) -> list[Job]:
        """List the jobs of a model that are done, the oldest first."""
        return self._select("WHERE state = 'done' AND model = ? ORDER BY number", (model,))

    def waiting(self, model: str) -> set[str]:
        """Return the cases of which a job of a model waits or runs."""
        found = self._select("WHERE state IN ('queued', 'running') AND model = ?", (model,))
        return {job.case for job in found if job.case is not None}

    def counts(self) -> dict[State, int]:
        """Count the jobs of each state."""
        with self._lock:
            return {state: self._count(state) for state in STATES}

    def claim(self) -> Job | None:
        """Start the oldest job that waits."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            found = self._select("WHERE state = 'queued' ORDER BY number LIMIT 1")
            if not found:
                return None
            [job] = found
            self._db.execute(
                "UPDATE jobs SET state = 'running', attempts = attempts + 1, started = ? WHERE id = ?",
                (self._now(), job.id),
            )
            self._note(job.id, "running", job.attempts + 1)
            return self.get(job.id)

    def end(self, job: Job, state: State, failure: str | None = None, result: dict[str, Any] | None = None) -> bool:
        """End this attempt at a job, if it still runs; tell whether it did."""
        return self._leave(
            job,
            state,
            "failure = ?, result = ?, finished = ?",
            (failure, None if result is None else json.dumps(result), self._now()),
        )

    def requeue(self, job: Job, crashed: bool = False) -> bool:
        """Let a job that runs wait again, in its old place; tell whether it ran."""
        return self._leave(job, "queued", "crashes = crashes + ?", (int(crashed),))

    def recover(self) -> int:
        """Let every job wait again that ran when the service was killed; return their number."""
        running = self._select("WHERE state = 'running'")
        for job in running:
            if job.cancelling:
                self.end(job, "cancelled")
            else:
                self.requeue(job)
        return len(running)

    def cancel(self, id: str) -> Job | None:
        """Cancel a job that waits, and mark one that runs; return it as it was before."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            job = self.get(id)
            if job is not None and job.state == "queued":
                self._db.execute("UPDATE jobs SET state = 'cancelled', finished = ? WHERE id = ?", (self._now(), id))
                self._note(id, "cancelled", job.attempts)
            elif job is not None and job.state == "running":
                self._db.execute("UPDATE jobs SET cancelling = 1 WHERE id = ?", (id,))
            return job

    def expired(self, keep_s: float) -> list[Job]:
        """List the jobs that ended so long ago and whose files are kept."""
        return self._select("WHERE removed IS NULL AND finished < ?", (self._now() - keep_s,))

    def mark_removed(self, id: str) -> None:
        """Take down that the files of a job are gone, and what they said."""
        with self._lock, self._db:
            self._db.execute("UPDATE jobs SET removed = ?, request = '{}' WHERE id = ?", (self._now(), id))

    def forget(self, keep_s: float) -> None:
        """Forget jobs whose files were removed so long ago."""
        with self._lock, self._db:
            before = self._now() - keep_s
            self._db.execute("DELETE FROM history WHERE job IN (SELECT id FROM jobs WHERE removed < ?)", (before,))
            self._db.execute("DELETE FROM jobs WHERE removed < ?", (before,))

    def ids(self) -> set[str]:
        """Return the names of all jobs."""
        with self._lock, closing(self._db.execute("SELECT id FROM jobs")) as rows:
            return {row["id"] for row in rows}

    def history(self, id: str) -> list[tuple[State, int]]:
        """List the states that a job went through, each with its attempt."""
        with self._lock, closing(self._db.execute("SELECT * FROM history WHERE job = ? ORDER BY rowid", (id,))) as rows:
            return [(row["state"], row["attempt"]) for row in rows]

    def _leave(self, job: Job, state: State, change: str, values: Sequence[Any]) -> bool:
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            done = self._db.execute(
                f"UPDATE jobs SET state = ?, cancelling = 0, {change} "
                "WHERE id = ? AND state = 'running' AND attempts = ?",
                (state, *values, job.id, job.attempts),
            )
            if done.rowcount:
                self._note(job.id, state, job.attempts)
            return bool(done.rowcount)

    def _now(self) -> float:
        """Return the time of day; where the clock was set, every time that was taken down is set with it."""
        with self._lock:
            now, step = self._clock.read()
            if step:
                _log.warning("the clock was set by %+.0f s; results are kept as long as stated all the same", step)
                columns = ("created", "started", "finished", "removed")
                self._db.execute(
                    f"UPDATE jobs SET {', '.join(f'{name} = {name} + :step' for name in columns)}", {"step": step}
                )
            return now

    def _note(self, id: str, state: State, attempt: int) -> None:
        self._db.execute("INSERT INTO history VALUES (?, ?, ?, ?)", (id, self._now(), state, attempt))

    def _count(self, state: State) -> int:
        [number] = self._db.execute("SELECT COUNT(*) FROM jobs WHERE state = ?", (state,)).fetchone()
        return int(number)

    def _select(self, where: str, values: Sequence[Any] = ()) -> list[Job]:
        with self._lock, closing(self._db.execute(f"SELECT * FROM jobs {where}", values)) as rows:
            return [_job(row) for row in rows]


def _job(row: sqlite3.Row) -> Job:
    values = dict(row)
    del values["number"]
    values["case"] = values.pop("case_name")
    values["request"] = json.loads(values["request"])
    values["result"] = json.loads(values["result"] or "{}")
    values["cancelling"] = bool(values["cancelling"])
    return Job(**values)
