"""The database of a service: one file, of which each part of the service has tables of its own."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from fullscale.errors import OutputError

DATABASE = "jobs.sqlite"
"""Its name, in the folder of a service."""

_PATIENCE_S = 30.0
"""How long another part may take to write."""


def open_database(path: Path, tables: str, what: str) -> sqlite3.Connection:
    """Open the database, which is made where it is not there; threads may share the connection.

    Args:
        path: the file.
        tables: SQL that makes those that are not there yet.
        what: is kept in them, as an error names it.

    Raises:
        OutputError: it cannot be opened or written.
    """
    try:
        database = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=_PATIENCE_S)
        database.row_factory = sqlite3.Row
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")  # what was accepted survives a power cut
        database.executescript(tables)
    except sqlite3.Error as error:
        raise OutputError(f"cannot keep {what} in {path}: {error}") from error
    return database
