"""The trainings of a service: one at a time, each in a process of its own that outlives the service."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fullscale.documents import read_json, read_model
from fullscale.errors import DataError, UsageError
from fullscale.files import lock_to_hand_on, only_one, write_json
from fullscale.serve.circle.training import ASKED, DATA, ENDED, PROGRESS, RUN, AskedTraining
from fullscale.serve.jobs import new_id
from fullscale.serve.service import NotServed, Refused

_log = logging.getLogger(__name__)

State = Literal["running", "interrupted", "done", "failed", "stopped"]
MOST_ATTEMPTS = 3
"""Times that the process of a training may die before it is given up."""
_ID = re.compile("[0-9a-f]{16}")
_PID = "pid"
_LOG = "log.txt"


@dataclass(frozen=True)
class Training:
    """A training as it stands.

    Attributes:
        id: sixteen hexadecimal digits.
        folder: that holds it.
        asked: what it was told.
        state: interrupted where its process died; the service starts it again.
        progress: how far it is: `done` of `total`, and what is counted.
        ended: what came of it.
    """

    id: str
    folder: Path
    asked: AskedTraining
    state: State
    progress: dict[str, Any] = field(default_factory=dict)
    ended: dict[str, Any] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        """The run folder of the new model."""
        return self.folder / RUN


class Trainings:
    """The trainings of a service.

    Args:
        root: their folder.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._lock = root, threading.RLock()
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def data(self, id: str) -> Path:
        """Return the folder of the data set of a training."""
        return self._root / id / DATA

    def all(self) -> list[Training]:
        """List them, the newest first."""
        found = [path.parent.name for path in self._root.glob(f"*/{ASKED}")]
        return sorted(map(self.get, filter(_ID.fullmatch, found)), key=lambda one: one.asked.created, reverse=True)

    def get(self, id: str) -> Training:
        """Return a training by its name.

        Raises:
            NotServed: there is none.
        """
        folder = self._root / id
        if not _ID.fullmatch(id) or not (folder / ASKED).is_file():
            raise NotServed(f"no training {id!r} here")
        asked = read_model(folder / ASKED, AskedTraining)
        ended = _read(folder / ENDED)
        if ended:
            return Training(id, folder, asked, ended["state"], ended=ended)
        running = self._is_running(id)
        ended = _read(folder / ENDED)  # it may have ended between the two looks
        state: State = ended["state"] if ended else "running" if running else "interrupted"
        return Training(id, folder, asked, state, {} if ended else _read(folder / PROGRESS), ended)

    def current(self) -> Training | None:
        """Return the training that has not ended."""
        return next((one for one in self.all() if one.state in ("running", "interrupted")), None)

    def new(self) -> str:
        """Draw the name of a training that is to be.

        Raises:
            Refused: one has not ended.
        """
        current = self.current()
        if current is not None:
            raise Refused(f"the training {current.id} has not ended: wait for it, or stop it")
        return new_id()

    def start(self, id: str, asked: AskedTraining) -> Training:
        """Start a training whose data set is written."""
        with self._lock:
            self.new()
            write_json(self._root / id / ASKED, asked.model_dump(mode="json"))
            self._spawn(id, asked)
            return self.get(id)

    def recover(self) -> None:
        """Start what was interrupted again; what died too often has failed."""
        with self._lock:
            current = self.current()
            if current is None or current.state != "interrupted":
                return
            if current.asked.attempts >= MOST_ATTEMPTS:
                self._end(current, "failed", f"its process died at each of {MOST_ATTEMPTS} attempts")
                return
            _log.warning("training %s: its process died; it is started again", current.id)
            self._spawn(current.id, current.asked)

    def stop(self, id: str) -> Training:
        """End a training; what it has learned so far is given up."""
        with self._lock:
            found = self.get(id)
            if found.state in ("running", "interrupted"):
                self._end(found, "stopped", "it was stopped")
            return self.get(id)

    def _spawn(self, id: str, asked: AskedTraining) -> None:
        folder = self._root / id
        again = asked.model_copy(update={"attempts": asked.attempts + 1})
        write_json(folder / ASKED, again.model_dump(mode="json"))
        # The process has the lock before it has loaded anything, so that no other start takes it for dead.
        with lock_to_hand_on(folder) as lock, (folder / _LOG).open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "fullscale.serve.circle.training", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock],
                start_new_session=True,  # it goes on when the service ends
            )
        self._children[id] = child
        write_json(folder / _PID, {"pid": child.pid})
        _log.info("training %s: attempt %d", id, again.attempts)

    def _is_running(self, id: str) -> bool:
        """Tell whether a training has a process: one of this service, or one that holds the lock of its folder."""
        child = self._children.get(id)
        if child is not None:
            return child.poll() is None
        try:
            with only_one(self._root / id, "training"):
                return False
        except UsageError:
            return True

    def _end(self, found: Training, state: State, line: str) -> None:
        child = self._children.pop(found.id, None)
        pid = _read(found.folder / _PID).get("pid") if found.state == "running" else None
        if pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # with its workers; it holds the lock, so the number is still its own
        if child is not None:
            child.wait()
        write_json(found.folder / ENDED, {"state": state, "failure": line, "finished": time.time()})


def _read(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = read_json(file)
    except DataError:
        return {}
    return found
