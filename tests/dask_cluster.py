"""A real Dask cluster on this machine: a scheduler and workers in processes of their own, to be killed."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from distributed import Client

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 240.0
"""For a busy machine."""


class LocalCluster:
    """Starts a scheduler and workers, each the leader of a session of its own."""

    def __init__(self, folder: Path, frozen_after: str) -> None:
        self.folder = folder
        self.frozen_after = frozen_after
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.started: list[subprocess.Popen[bytes]] = []
        self.scheduler = self.start_scheduler()

    def start_scheduler(self) -> subprocess.Popen[bytes]:
        place = ["--host", "127.0.0.1", "--port", str(self.port), "--dashboard-address", "127.0.0.1:0"]
        scheduler = self._start("scheduler", *place)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return scheduler
            assert time.monotonic() < deadline
            assert scheduler.poll() is None
            time.sleep(0.1)

    def start_worker(self) -> subprocess.Popen[bytes]:
        return self._start("worker", self.address, "--no-nanny", "--nthreads", "1", "--no-dashboard")

    def _start(self, what: str, *arguments: str) -> subprocess.Popen[bytes]:
        settings = {"WORKER_TTL": self.frozen_after, "ALLOWED_FAILURES": "2"}
        path = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]  # of what tests hand to workers
        environment = {"PYTHONPATH": os.pathsep.join(filter(None, path))}
        environment |= {f"DASK_DISTRIBUTED__SCHEDULER__{name}": value for name, value in settings.items()}
        log = self.folder / f"{what}-{len(self.started)}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{what}", *arguments],
                stdout=stream,
                stderr=stream,
                cwd=self.folder,
                start_new_session=True,
                env=os.environ | environment,
            )
        self.started.append(process)
        return process

    def stop(self) -> None:
        for process in self.started:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def local_cluster(folder: Path, workers: int, frozen_after: str = "120 s") -> Iterator[LocalCluster]:
    """Give a cluster that takes a worker for dead which says nothing for so long, as while it loads torch."""
    cluster = LocalCluster(folder, frozen_after)
    try:
        for _ in range(workers):
            cluster.start_worker()
        with Client(cluster.address, timeout=PATIENCE_S, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=PATIENCE_S)
        yield cluster
    finally:
        cluster.stop()
