"""Items on a real Dask cluster: the same outcomes as in this process, whatever happens to workers and scheduler."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fullscale.errors import DataError, UsageError
from fullscale.work.cluster import Cluster
from fullscale.work.executor import make_executor, map_cases
from fullscale.work.processes import Killed, Shared
from tests.dask_cluster import PATIENCE_S, LocalCluster, local_cluster

pytest.importorskip("distributed")


@pytest.mark.parametrize("text", ["slurmy", "localhost", "tcp://a:1,GPU=x", ""])
def test_what_is_no_cluster_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--dask"):
        Cluster.parse(text)
    assert Cluster.parse("slurm,GPU=1", 4) == Cluster("slurm", 4, {"GPU": 1.0})
    assert Cluster.parse("tcp://a:1") == Cluster("tcp://a:1")


def test_no_scheduler_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fullscale.work.cluster.CONNECT_S", 1)
    with (
        pytest.raises(UsageError, match="no Dask scheduler answers"),
        make_executor(Cluster("tcp://127.0.0.1:1")),
    ):
        pass


def work(number: int, folder: Path, added: Shared[int]) -> int:
    """Add; tell that it began and who does it; wait where the test says so."""
    (folder / f"{number}-{os.getpid()}.begun").touch()
    if number == 3:
        raise DataError("3 is not added to")
    poison = folder / "poison"
    if number == 4 and poison.exists() and len(list(folder.glob("4-*.begun"))) <= int(poison.read_text()):
        os.kill(os.getpid(), signal.SIGKILL)
    while number < 2 and (folder / "wait").exists():
        time.sleep(0.05)
    return number + added.value


class Bound:
    """`work` with all but the item; pickled by reference."""

    def __init__(self, folder: Path, added: Shared[int]) -> None:
        self.folder, self.added = folder, added

    def __call__(self, number: int) -> int:
        return work(number, self.folder, self.added)


def outcomes(cluster: LocalCluster, folder: Path, items: int = 8) -> list[int | str | None]:
    added = Shared(100)
    with make_executor(Cluster(cluster.address), added) as executor:
        found = list(map_cases(executor, Bound(folder, added), range(items)))
    return [one.value if one.error is None else type(one.error).__name__ for one in found]


SERIAL: list[int | str | None] = [100, 101, 102, "DataError", 104, 105, 106, 107]


def meanwhile(what: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=what, daemon=True)
    thread.start()
    return thread


def begun(folder: Path, number: int) -> list[int]:
    """Wait until an item was begun; list the processes that did."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := sorted(folder.glob(f"{number}-*.begun"))):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return [int(path.stem.split("-")[1]) for path in found]


@pytest.mark.slow
@pytest.mark.whole
def test_workers_are_killed_and_frozen_and_the_scheduler_is_started_again(tmp_path: Path) -> None:
    with local_cluster(tmp_path, 2, frozen_after="5 s") as cluster:
        assert outcomes(cluster, tmp_path) == SERIAL

        (tmp_path / "wait").touch()
        for path in tmp_path.glob("*.begun"):
            path.unlink()

        def kill_and_freeze() -> None:
            try:
                os.kill(begun(tmp_path, 0)[0], signal.SIGKILL)
                os.kill(begun(tmp_path, 1)[0], signal.SIGSTOP)
            finally:  # what fails here must not leave the work waiting
                (tmp_path / "wait").unlink()
                cluster.start_worker()

        thread = meanwhile(kill_and_freeze)
        assert outcomes(cluster, tmp_path) == SERIAL
        thread.join()

        (tmp_path / "wait").touch()
        for path in tmp_path.glob("*.begun"):
            path.unlink()

        def start_again() -> None:
            try:
                begun(tmp_path, 0)
                os.kill(cluster.scheduler.pid, signal.SIGKILL)
                cluster.scheduler.wait()
                cluster.scheduler = cluster.start_scheduler()
            finally:
                (tmp_path / "wait").unlink()
                cluster.start_worker()

        thread = meanwhile(start_again)
        assert outcomes(cluster, tmp_path) == SERIAL
        thread.join()


@pytest.mark.slow
@pytest.mark.whole
def test_an_item_that_kills_its_worker_is_tried_three_times_and_reported(tmp_path: Path) -> None:
    (tmp_path / "poison").write_text("9")
    with local_cluster(tmp_path, 4) as cluster, make_executor(Cluster(cluster.address), Shared(100)) as executor:
        [found] = map_cases(executor, Bound(tmp_path, Shared(100)), [4])
    assert isinstance(found.error, Killed)
    assert str(found.failure()).startswith("each worker that worked on it died")
    assert len(list(tmp_path.glob("4-*.begun"))) == 3


@pytest.mark.slow
@pytest.mark.whole
@pytest.mark.parametrize(("deaths", "value", "begun"), [(3, 104, 4), (9, None, 6)])
def test_an_item_whose_workers_died_is_tried_once_more_by_itself(
    deaths: int, value: int | None, begun: int, tmp_path: Path
) -> None:
    """It may have been with others that killed them; and others that were with it are not taken for the cause."""
    (tmp_path / "poison").write_text(str(deaths))
    with local_cluster(tmp_path, 7) as cluster:
        added = Shared(100)
        with make_executor(Cluster(cluster.address), added) as executor:
            found = list(map_cases(executor, Bound(tmp_path, added), range(6)))
    assert [one.value for one in found] == [100, 101, 102, None, value, 105]
    assert len(list(tmp_path.glob("4-*.begun"))) == begun
