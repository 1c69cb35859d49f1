"""A watch over the processes of a group: each notices when another is gone, whatever it is waiting for itself.

Every process holds a connection to the first, the hub, which tells the others what it finds. A process that is killed
closes its connection; one whose machine is down, or that is stopped, is silent.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import NamedTuple

from fullscale.errors import FullscaleError

BEAT_S = 2.0
SILENT_S = 40.0
"""A process that says nothing for so long is lost: work that holds Python's lock for longer is not known."""
GRACE_S = 10.0
"""How long a process may take to end by itself once another is lost. All together stay within a minute."""

HUB = 0
_CONNECT_S = 60.0


class Kind(StrEnum):
    """Why a process will not go on: it is gone, it is silent, or it has failed and said why itself."""

    GONE = "gone"
    SILENT = "silent"
    FAILED = "failed"


class Loss(NamedTuple):
    """A process that will not go on.

    Attributes:
        rank: its number.
        kind: why.
    """

    rank: int
    kind: Kind


class Watch:
    """Looks after the other processes of a group, in a thread of its own.

    Args:
        rank: number of this process.
        links: open connections by the number of the other side: the hub has one to each, the others to the hub alone.
        force: called with the loss where this process has not ended by itself when its time is over.
    """

    def __init__(self, rank: int, links: Mapping[int, socket.socket], force: Callable[[Loss], None]) -> None:
        self.rank = rank
        self.links = dict(links)
        self._force = force
        self._loss: Loss | None = None
        self._found, self._closed = threading.Event(), threading.Event()
        self._rest: dict[int, bytes] = dict.fromkeys(self.links, b"")
        self._heard = dict.fromkeys(self.links, time.monotonic())
        self._thread = threading.Thread(target=self._look, daemon=True, name="watch")
        self._thread.start()

    def loss(self, within_s: float = 0.0) -> Loss | None:
        """Return which process was lost first; wait for the news if there is none."""
        self._found.wait(within_s)
        return self._loss

    def close(self, failed: bool = False) -> None:
        """Stop to watch, and tell the others that this process is done, or that it has failed."""
        self._closed.set()
        self._thread.join(2 * BEAT_S)
        word = f"{Kind.FAILED} {self.rank}\n" if failed else "done\n"
        for other in list(self.links):
            self._tell(other, word)
            self.links.pop(other).close()

    def _look(self) -> None:
        beaten = 0.0
        with selectors.DefaultSelector() as selector:
            for other, link in self.links.items():
                selector.register(link, selectors.EVENT_READ, other)
            while not self._closed.is_set() and self._loss is None and selector.get_map():
                for key, _ in selector.select(BEAT_S / 4):
                    if not self._read(key.data):
                        selector.unregister(key.fileobj)
                if time.monotonic() - beaten > BEAT_S:
                    beaten = time.monotonic()
                    for other in self.links:
                        self._tell(other, "\n")
                self._notice_silence()
        if self._loss is not None and not self._closed.wait(GRACE_S):
            self._force(self._loss)

    def _read(self, other: int) -> bool:
        """Take what another process says; False once it says no more."""
        try:
            said = self.links[other].recv(4096)
        except OSError:
            said = b""
        self._heard[other] = time.monotonic()
        *lines, self._rest[other] = (self._rest[other] + said).split(b"\n")
        for line in lines:
            match line.decode().split():
                case ["done"]:
                    del self._heard[other]
                    return False
                case [kind, rank]:
                    self._find(Loss(int(rank), Kind(kind)))
        if not said:
            self._find(Loss(other, Kind.GONE))
        return bool(said)

    def _notice_silence(self) -> None:
        for other, heard in self._heard.items():
            if time.monotonic() - heard > SILENT_S:
                self._find(Loss(other, Kind.SILENT))

    def _find(self, loss: Loss) -> None:
        if self._loss is None:
            self._loss = loss
            if self.rank == HUB:
                for other in self.links:
                    self._tell(other, f"{loss.kind} {loss.rank}\n")
            self._found.set()

    def _tell(self, other: int, word: str) -> None:
        try:
            self.links[other].sendall(word.encode())
        except OSError:
            return  # it is found when it is read


def listen() -> socket.socket:
    """Open a place where the hub can be reached, on any free port."""
    return socket.create_server(("", 0), backlog=1024)


def accept(server: socket.socket, token: str, others: int) -> dict[int, socket.socket]:
    """Wait as the hub until all others have connected; who does not know the token is sent away.

    Raises:
        FullscaleError: one did not come.
    """
    links: dict[int, socket.socket] = {}
    server.settimeout(_CONNECT_S)
    while len(links) < others:
        try:
            link, _ = server.accept()
            link.settimeout(_CONNECT_S)
            said, _, rank = link.makefile("rb", buffering=0).readline(200).decode("ascii", "replace").partition(" ")
        except OSError as error:
            raise FullscaleError(
                f"{others - len(links)} of {others + 1} processes cannot be watched: {error}"
            ) from error
        if said == token:
            links[int(rank)] = link
        else:
            link.close()
    server.close()
    return links


def connect(host: str, port: int, token: str, rank: int) -> dict[int, socket.socket]:
    """Connect to the hub.

    Raises:
        FullscaleError: it cannot be reached.
    """
    try:
        link = socket.create_connection((host, port), _CONNECT_S)
        link.sendall(f"{token} {rank}\n".encode())
    except OSError as error:
        raise FullscaleError(f"rank {rank} cannot reach rank 0 at {host}:{port}: {error}") from error
    return {HUB: link}
