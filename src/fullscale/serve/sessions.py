"""Scans that a client sends once and asks for several times, for an hour: the sessions of MONAI Label."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

LONGEST_S = 3600
_ID = re.compile(r"[0-9a-f-]{36}")


@dataclass
class Session:
    """Files of one scan.

    Attributes:
        id: by which it is asked for.
        folder: that holds them.
        files: of the scan.
        created: in seconds since 1970.
        used: when it was last asked for, likewise.
        expiry_s: seconds after which it is removed if nobody asks for it.
        until: when that is, by a clock that nobody sets.
    """

    id: str
    folder: Path
    files: list[Path]
    created: float = field(default_factory=time.time)
    used: float = field(default_factory=time.time)
    expiry_s: int = LONGEST_S
    until: float = field(init=False)

    def __post_init__(self) -> None:
        self.touch()

    def touch(self) -> None:
        """Keep it for its whole time from now on."""
        self.used, self.until = time.time(), time.monotonic() + self.expiry_s

    def as_dict(self) -> dict[str, Any]:
        """Say what a client may know of it: no path of this machine."""
        return {
            "name": self.id,
            "image": self.files[0].name,
            "meta": {},
            "create_ts": int(self.created),
            "last_access_ts": int(self.used),
            "expiry": self.expiry_s,
        }


class Sessions:
    """The sessions of a service; a restart ends them.

    Args:
        root: their folder.
    """

    def __init__(self, root: Path) -> None:
        shutil.rmtree(root, ignore_errors=True)
        self._root, self._lock = root, threading.Lock()
        self._open: dict[str, Session] = {}

    @contextmanager
    def new(self, expiry_s: int) -> Iterator[Session]:
        """Give a session whose files the block writes; it is open when the block ends well."""
        self._tidy()
        id = str(uuid4())
        session = Session(id, self._root / id, [], expiry_s=expiry_s if 0 < expiry_s < LONGEST_S else LONGEST_S)
        session.folder.mkdir(parents=True, mode=0o700)
        try:
            yield session
        except BaseException:
            shutil.rmtree(session.folder, ignore_errors=True)
            raise
        with self._lock:
            self._open[id] = session

    def get(self, id: str) -> Session | None:
        """Return a session, which is kept for its whole time from now on."""
        self._tidy()
        with self._lock:
            session = self._open.get(id) if _ID.fullmatch(id) else None
            if session is not None:
                session.touch()
            return session

    def remove(self, id: str) -> Session | None:
        """Remove a session and its files; return what it was."""
        with self._lock:
            session = self._open.pop(id, None)
        if session is not None:
            shutil.rmtree(session.folder, ignore_errors=True)
        return session

    def _tidy(self) -> None:
        with self._lock:
            over = [id for id, session in self._open.items() if session.until < time.monotonic()]
        for id in over:
            self.remove(id)
