"""The service as a user runs it: a process, an address, and a client on loopback."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import Command

PATIENCE_S = 120


@dataclass
class Served:
    """A service that runs.

    Attributes:
        process: its process.
        url: its address.
        log: file of all that it says.
        client: speaks to it.
    """

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    client: httpx.Client

    def ask(self, model: str, case: str, **options: Any) -> str:
        """Ask for the mask of a case; return the name of the job."""
        answer = self.client.post("/jobs", json={"model": model, "case": case} | options)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def upload(self, model: str, *scans: Path, **fields: str) -> str:
        """Upload a scan; return the name of the job."""
        files = [("scan", (scan.name, scan.read_bytes())) for scan in scans]
        answer = self.client.post("/jobs", data={"model": model} | fields, files=files)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def ended(self, job: str) -> dict[str, Any]:
        """Wait for the end of a job."""
        return self.until(job, "done", "failed", "cancelled")

    def until(self, job: str, *states: str) -> dict[str, Any]:
        """Wait until a job stands so."""
        for _ in range(10 * PATIENCE_S):
            found: dict[str, Any] = self.client.get(f"/jobs/{job}").json()
            if found["state"] in states:
                return found
            time.sleep(0.1)
        raise AssertionError(f"the job is {found}")

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, and return the exit code."""
        self.process.send_signal(with_signal)
        return self.process.wait(30)


def start(state: Path, *arguments: object) -> subprocess.Popen[bytes]:
    """Start the service in a process of its own; its words go to a file beside its folder."""
    words = [sys.executable, "-m", "fullscale", "serve", "--port", "0", *map(str, arguments), "--state", str(state)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with log_of(state).open("ab") as log:
        return subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)


def log_of(state: Path) -> Path:
    return state.with_suffix(".log")


def address(state: Path, process: subprocess.Popen[bytes], nth: int = 1) -> str:
    """Wait until it answers for the nth time, and return where."""
    for _ in range(20 * PATIENCE_S):
        found = re.findall(r"serving .* at (http://\S+)", log_of(state).read_text())
        if len(found) >= nth:
            return str(found[-1])
        assert process.poll() is None, log_of(state).read_text()
        time.sleep(0.05)
    raise AssertionError(log_of(state).read_text())


@contextmanager
def served(state: Path, *arguments: object, nth: int = 1) -> Iterator[Served]:
    """Serve within a block."""
    process = start(state, *arguments)
    try:
        url = address(state, process, nth)
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            yield Served(process, url, log_of(state), client)
    finally:
        process.kill()
        process.wait()


def predicted(fullscale: Command, model: Path, scan: Path, folder: Path, *options: object) -> Path:
    """Segment a scan by the command; return the folder of its mask."""
    done = fullscale("predict", model, scan, "-o", folder, "--device", "cpu", "--jobs", 1, *options)
    assert done.returncode == 0, done.stderr
    return folder
