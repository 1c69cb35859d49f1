"""What the service knows of the PACS, in its SQLite file: series, results, deliveries, and the list of dead letters.

Every step is one transaction that leads from one state to the next, so that a restart goes on where the last one was.
The database may be opened by the service and by `fullscale letters` at a time.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from fullscale.serve.database import open_database

_TABLES = """
CREATE TABLE IF NOT EXISTS pacs_series (
    id TEXT PRIMARY KEY,
    study TEXT NOT NULL,
    series TEXT NOT NULL,
    patient TEXT NOT NULL,
    state TEXT NOT NULL,
    arrived REAL NOT NULL,
    files INTEGER NOT NULL DEFAULT 0,
    version TEXT NOT NULL DEFAULT '',
    accepted INTEGER NOT NULL DEFAULT 0,
    rules TEXT NOT NULL DEFAULT '[]'
);
CREATE INDEX IF NOT EXISTS pacs_by_study ON pacs_series (study);
CREATE TABLE IF NOT EXISTS pacs_results (
    id TEXT PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    series TEXT NOT NULL,
    study TEXT NOT NULL,
    model TEXT NOT NULL,
    request TEXT NOT NULL,
    destinations TEXT NOT NULL,
    state TEXT NOT NULL,
    job TEXT NOT NULL,
    sop TEXT NOT NULL DEFAULT '',
    replaces TEXT NOT NULL DEFAULT '',
    created REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS pacs_deliveries (
    result TEXT NOT NULL,
    destination TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL,
    sent_as TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (result, destination)
);
CREATE TABLE IF NOT EXISTS pacs_seen (
    id TEXT PRIMARY KEY,
    study TEXT NOT NULL,
    series TEXT NOT NULL,
    instances INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS pacs_letters (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    study TEXT NOT NULL,
    why TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    remedy TEXT NOT NULL,
    at REAL NOT NULL,
    UNIQUE (kind, subject)
);
"""


@dataclass(frozen=True)
class Series:
    """A series that came.

    Attributes:
        id: a digest of study and series; name of its folder.
        study: UID of its study.
        series: its UID.
        patient: digest of what identifies the patient.
        state: arriving, held, ignored (no rule fits), taken, or removed (its files are).
        arrived: when the last file of it came, in seconds since 1970.
        files: of the version that was taken last.
        version: digest of the UIDs of these files.
        accepted: whether a person let it pass with fewer files than before.
        rules: names of those that it fitted.
    """

    id: str
    study: str
    series: str
    patient: str
    state: str
    arrived: float
    files: int = 0
    version: str = ""
    accepted: int = 0
    rules: str = "[]"


@dataclass(frozen=True)
class Outcome:
    """A segmentation of a version of a series by a model.

    Attributes:
        id: its name, and that of its file.
        key: digest of the files' UIDs, the model, and how they are read: the same thing is done once.
        series: name of the series here.
        study: UID of the study.
        model: name of the model.
        request: how it is made, as JSON.
        destinations: where it goes, as JSON.
        state: waiting (for its job), done, failed, or dropped.
        job: name of its job.
        sop: UID of the DICOM SEG.
        replaces: name of the result whose place it takes.
        created: in seconds since 1970.
    """

    id: str
    key: str
    series: str
    study: str
    model: str
    request: str
    destinations: str
    state: str
    job: str
    sop: str = ""
    replaces: str = ""
    created: float = 0.0


@dataclass(frozen=True)
class Delivery:
    """A result on its way to a destination.

    Attributes:
        result: name of the result.
        destination: as the rule has it.
        state: waiting, sent, dead (a letter says why), or dropped.
        attempts: so far.
        due: when the next is.
        sent_as: "as it is", "uncompressed" or "binary".
    """

    result: str
    destination: str
    state: str
    attempts: int
    due: float
    sent_as: str = ""


@dataclass(frozen=True)
class Seen:
    """A series of the PACS that was looked through.

    Attributes:
        id: digest of address, study and series.
        study: UID.
        series: UID.
        instances: how many files it had.
        state: new, fetched, or dead.
        attempts: to fetch it.
        due: when the next is.
    """

    id: str
    study: str
    series: str
    instances: int
    state: str
    attempts: int = 0
    due: float = 0.0


@dataclass(frozen=True)
class Letter:
    """Something that a person must look at.

    Attributes:
        number: by which it is put back or dropped.
        kind: association, patient, file, version, job, delivery or fetch.
        subject: what it is about, by its name here.
        study: UID of the study; empty where that is not known.
        why: in a line.
        attempts: how often it was tried.
        remedy: what to do.
        at: when it was written.
    """

    number: int
    kind: str
    subject: str
    study: str
    why: str
    attempts: int
    remedy: str
    at: float


Row = TypeVar("Row", Series, Outcome, Delivery, Seen, Letter)


class PacsStore:
    """The tables of the PACS.

    Args:
        path: the database of the service.

    Raises:
        OutputError: it cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._db = open_database(path, _TABLES, "what comes from the PACS")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def change(self) -> Iterator[None]:
        """Make all changes of the block, or none."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                yield

    def series(self, where: str, *values: Any) -> list[Series]:
        """List series that fit an SQL condition."""
        return self._select(Series, "pacs_series", where, values)

    def outcomes(self, where: str, *values: Any) -> list[Outcome]:
        """List results that fit an SQL condition."""
        return self._select(Outcome, "pacs_results", where, values)

    def deliveries(self, where: str, *values: Any) -> list[Delivery]:
        """List deliveries that fit an SQL condition."""
        return self._select(Delivery, "pacs_deliveries", where, values)

    def seen(self, where: str, *values: Any) -> list[Seen]:
        """List series of the PACS that fit an SQL condition."""
        return self._select(Seen, "pacs_seen", where, values)

    def letters(self) -> list[Letter]:
        """List the letters, the oldest first."""
        return self._select(Letter, "pacs_letters", "1 ORDER BY number", ())

    def letter(self, number: int) -> Letter | None:
        """Return a letter."""
        found = self._select(Letter, "pacs_letters", "number = ?", (number,))
        return found[0] if found else None

    def put(self, table: str, **values: Any) -> None:
        """Write a row, in place of one of the same key."""
        self._insert("REPLACE", table, values)

    def add(self, table: str, **values: Any) -> None:
        """Write a row, unless there is one of the same key."""
        self._insert("IGNORE", table, values)

    def set(self, table: str, where: str, values: Sequence[Any], **changes: Any) -> int:
        """Change the rows that fit an SQL condition; return their number."""
        columns = ", ".join(f"{name} = ?" for name in changes)
        return self._run(f"UPDATE {table} SET {columns} WHERE {where}", *changes.values(), *values)

    def remove(self, table: str, where: str, *values: Any) -> int:
        """Remove the rows that fit an SQL condition; return their number."""
        return self._run(f"DELETE FROM {table} WHERE {where}", *values)

    def write_letter(self, kind: str, subject: str, study: str, why: str, attempts: int, remedy: str) -> None:
        """Put a letter on the list, in place of an earlier one about the same."""
        known = {"kind": kind, "subject": subject, "study": study, "why": why, "attempts": attempts}
        self.put("pacs_letters", **known, remedy=remedy, at=time.time())

    def counts(self) -> dict[str, dict[str, int]]:
        """Count the rows of each state, and the letters of each kind."""
        tables = {"series": "state", "results": "state", "deliveries": "state", "letters": "kind"}
        found: dict[str, dict[str, int]] = {}
        with self._lock:
            for table, column in tables.items():
                rows = self._db.execute(f"SELECT {column}, COUNT(*) FROM pacs_{table} GROUP BY 1").fetchall()
                found[table] = {str(row[0]): int(row[1]) for row in rows}
        return found

    def _insert(self, otherwise: str, table: str, values: Mapping[str, Any]) -> None:
        columns, marks = ", ".join(values), ", ".join("?" * len(values))
        self._run(f"INSERT OR {otherwise} INTO {table} ({columns}) VALUES ({marks})", *values.values())

    def _run(self, statement: str, *values: Any) -> int:
        with self.change(), closing(self._db.execute(statement, values)) as done:
            return done.rowcount

    def _select(self, kind: type[Row], table: str, where: str, values: Sequence[Any]) -> list[Row]:
        columns = ", ".join(field.name for field in fields(kind))
        with self._lock, closing(self._db.execute(f"SELECT {columns} FROM {table} WHERE {where}", values)) as rows:
            return [kind(**dict(row)) for row in rows]


def listed(text: str) -> list[str]:
    """Read a list of texts from its JSON."""
    return [str(item) for item in json.loads(text)]
