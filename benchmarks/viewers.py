"""People who open the page of a service at once: seconds until each has a scan with its truth, and memory.

    fullscale serve run --data DATA &
    python benchmarks/viewers.py http://127.0.0.1:8000 $! --clients 20

Each of them listens to the news, loads the page, and takes the first case with its truth; then all of them ask for
`/health` four times a second for ten seconds.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

WATCHED_S = 10.0


@dataclass
class Found:
    """What was measured: seconds, and what went wrong."""

    opened: list[float] = field(default_factory=list)
    small: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """A line for each number."""
        small = [1e3 * seconds for seconds in sorted(self.small)]
        return (
            f"errors: {len(self.errors)} {self.errors[:1]}\n"
            f"scan and truth: median {statistics.median(self.opened):.1f} s, at most {max(self.opened):.1f} s\n"
            f"small answers: median {statistics.median(small):.0f} ms, 99 % {small[len(small) * 99 // 100]:.0f} ms"
        )


def memory_mb(pid: int, name: str) -> float:
    """Return `VmRSS` or `VmHWM` of a process in MB."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return 0.0 if found is None else int(found[1]) / 1024


def watch(url: str, case: str, found: Found, over: threading.Event) -> None:
    """Do what a browser does that opens a case."""
    try:
        with httpx.Client(base_url=url, timeout=300) as client, client.stream("GET", "/events") as news:
            next(news.iter_bytes())
            begun = time.monotonic()
            for path in ("/", "/page/page.js", "/cases", "/models", "/cases/details"):
                found.small.append(_seconds(client, path, case))
            for path in ("/cases/scan", "/cases/truth"):
                _seconds(client, path, case)
            found.opened.append(time.monotonic() - begun)
            while not over.wait(0.25):
                found.small.append(_seconds(client, "/health", case))
    except (httpx.HTTPError, OSError) as error:
        found.errors.append(repr(error))


def _seconds(client: httpx.Client, path: str, case: str) -> float:
    begun = time.monotonic()
    client.get(path, params={"case": case}).raise_for_status()
    return time.monotonic() - begun


def main() -> None:
    """Measure, and print a line for each number."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("pid", type=int, help="of the service")
    parser.add_argument("--clients", type=int, default=20)
    asked = parser.parse_args()
    case = httpx.get(f"{asked.url}/cases").json()[0]["name"]
    before, found, over = memory_mb(asked.pid, "VmRSS"), Found(), threading.Event()
    threads = [threading.Thread(target=watch, args=(asked.url, case, found, over)) for _ in range(asked.clients)]
    for thread in threads:
        thread.start()
    while len(found.opened) + len(found.errors) < asked.clients:
        time.sleep(0.1)
    over.wait(WATCHED_S)
    after, peak = memory_mb(asked.pid, "VmRSS"), memory_mb(asked.pid, "VmHWM")
    over.set()
    for thread in threads:
        thread.join()
    sys.stdout.write(f"{found}\nmemory: {before:.0f} MB before, {after:.0f} MB with all, {peak:.0f} MB at most\n")


if __name__ == "__main__":
    main()
