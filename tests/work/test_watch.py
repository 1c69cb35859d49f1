"""The watch over a group: which process was killed, is silent, has failed, or is done."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from fullscale.errors import FullscaleError
from fullscale.work import watch as watching
from fullscale.work.watch import Kind, Loss, Watch, accept, connect, listen

SOON_S = 5.0


class Trio:
    """A hub and two others, in one process, with what was forced upon each."""

    def __init__(self) -> None:
        self.forced: list[tuple[int, Loss]] = []
        pairs = {rank: socket.socketpair() for rank in (1, 2)}
        links = {0: {rank: pair[0] for rank, pair in pairs.items()}, **{r: {0: pair[1]} for r, pair in pairs.items()}}
        self.sockets = links
        self.watches = [Watch(rank, links[rank], self._note(rank)) for rank in range(3)]

    def _note(self, rank: int):  # type: ignore[no-untyped-def]
        return lambda loss: self.forced.append((rank, loss))

    def kill(self, rank: int) -> None:
        """Let a process say nothing more, and do what the system does with the connections of one that is killed."""
        self.watches[rank]._closed.set()
        self.watches[rank]._thread.join()
        for link in self.sockets[rank].values():
            link.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def trio(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trio]:
    monkeypatch.setattr(watching, "BEAT_S", 0.05)
    made = Trio()
    yield made
    for watch in made.watches:
        watch.close()


def test_all_hear_of_one_that_is_killed(trio: Trio) -> None:
    trio.kill(2)
    assert [trio.watches[rank].loss(SOON_S) for rank in (0, 1)] == [Loss(2, Kind.GONE)] * 2


def test_all_hear_of_the_hub_that_is_killed(trio: Trio) -> None:
    trio.kill(0)
    assert [trio.watches[rank].loss(SOON_S) for rank in (1, 2)] == [Loss(0, Kind.GONE)] * 2


def test_one_that_failed_says_so_and_is_not_taken_for_dead(trio: Trio) -> None:
    trio.watches[1].close(failed=True)
    assert [trio.watches[rank].loss(SOON_S) for rank in (0, 2)] == [Loss(1, Kind.FAILED)] * 2


def test_those_that_are_done_are_not_missed(trio: Trio) -> None:
    for rank in (1, 0):
        trio.watches[rank].close()
    assert trio.watches[2].loss(0.5) is None


def test_a_silent_one_is_lost_and_one_that_speaks_is_not(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    assert trio.watches[0].loss(0.5) is None
    monkeypatch.setattr(watching, "SILENT_S", 0.3)
    assert trio.watches[0].loss(0.5) is None
    trio.watches[1]._closed.set()  # it says nothing more, and its connection stays open
    assert trio.watches[0].loss(SOON_S) == Loss(1, Kind.SILENT)
    assert trio.watches[2].loss(SOON_S) == Loss(1, Kind.SILENT)


def test_who_does_not_end_by_itself_is_forced_to(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "GRACE_S", 0.3)
    trio.kill(2)
    assert trio.watches[0].loss(SOON_S) is not None
    trio.watches[0].close()  # this one ends
    time.sleep(0.6)
    assert (1, Loss(2, Kind.GONE)) in trio.forced
    assert 0 not in [rank for rank, _ in trio.forced]


def test_a_loss_is_noticed_and_ended_within_a_minute() -> None:
    assert watching.SILENT_S + watching.GRACE_S + 2 * watching.BEAT_S < 60


def test_only_who_knows_the_token_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_CONNECT_S", 1.0)
    server = listen()
    port = server.getsockname()[1]
    stranger = connect("127.0.0.1", port, "guess", 1)
    known = connect("127.0.0.1", port, "token", 2)
    links = accept(server, "token", 1)
    assert list(links) == [2]
    known[0].sendall(b"x")
    assert links[2].recv(9) == b"x"
    assert stranger[0].recv(9) == b""
    with pytest.raises(FullscaleError, match="1 of 2 processes cannot be watched"):
        accept(listen(), "token", 1)


def test_a_process_that_is_really_killed() -> None:
    server = listen()
    code = (
        "import sys, time; from fullscale.work.watch import *\n"
        "w = Watch(1, connect('127.0.0.1', int(sys.argv[1]), 't', 1), print); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(server.getsockname()[1])])
    watch = Watch(0, accept(server, "t", 1), lambda _: None)
    assert watch.loss(0.2) is None
    killed = time.monotonic()
    os.kill(other.pid, signal.SIGKILL)
    assert watch.loss(SOON_S) == Loss(1, Kind.GONE)
    assert time.monotonic() - killed < SOON_S
    watch.close()
    other.wait()
