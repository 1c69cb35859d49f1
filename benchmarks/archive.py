"""What breaks first when an archive grows to a million studies: a simulation whose parameters were measured.

    python benchmarks/archive.py

Each task of a job array starts a process, lists the archive, opens every journal of the ledger and reads it, and loads
the model, before it segments its share. All tasks share one file system. `archive_cost.py` measured the seconds and
bytes; what the file system gives is assumed below. The results are printed, and written beside this file.
"""

from __future__ import annotations

import heapq
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
COST = json.loads((HERE / "archive-cost.json").read_text())
BANDWIDTH = 1e9
"""Bytes a second that the shared file system gives to all together. Assumed."""
NAMES, OPENS = 100_000.0, 10_000.0
"""Names that it lists, and files that it opens, in a second, for all together. Assumed."""
SPREAD = 0.6
"""Of the seconds of studies, which are spread lognormally. Assumed."""
WORKERS = 100


@dataclass
class Result:
    """An array that was submitted, and submitted again when all was done.

    Attributes:
        studies: in the archive.
        tasks: of the array.
        workers: tasks at a time.
        ideal_h: hours if there were nothing but studies.
        hours: that it takes.
        start_percent: share of the processors' time that goes into starting: loading, listing, reading the ledger.
        waited_percent: share of the time that tasks wait for the file system.
        last_h: hours between the first and the last worker that has nothing to do.
        again_h: hours of the array that is submitted again and finds all done.
        again_gb: read from the shared file system by that.
        memory_gb: of what knows all cases, which status, gather and a Dask client do; a share knows its own.
    """

    studies: int
    tasks: int
    workers: int
    ideal_h: float
    hours: float
    start_percent: float
    waited_percent: float
    last_h: float
    again_h: float
    again_gb: float
    memory_gb: float


class FileSystem:
    """Serves all who ask at the same time, each an equal part: seconds of the whole system, shared."""

    def __init__(self) -> None:
        self.now = self.served = 0.0
        self.waiting: list[tuple[float, int]] = []

    def ask(self, now: float, who: int, seconds: float) -> None:
        """Begin to serve another."""
        self.until(now)
        heapq.heappush(self.waiting, (self.served + seconds, who))

    def until(self, now: float) -> None:
        """Serve until a time."""
        if self.waiting:
            self.served += (now - self.now) / len(self.waiting)
        self.now = now

    def next_end(self) -> float:
        """Say when the next is served."""
        return self.now + max(0.0, self.waiting[0][0] - self.served) * len(self.waiting) if self.waiting else np.inf


def run_array(
    seconds: np.ndarray, workers: int, start_s: np.ndarray, shared_s: np.ndarray
) -> tuple[list[float], float]:
    """Return when each worker has nothing more to do, and for how long tasks waited for the file system.

    Args:
        seconds: that each task computes.
        workers: tasks at a time.
        start_s: processor seconds that each spends before.
        shared_s: seconds of the whole file system that each needs before that.
    """
    files, ends = FileSystem(), [0.0] * workers
    asked, computing = dict[int, float](), list[tuple[float, int]]()
    tasks = iter(zip(seconds, start_s, shared_s, strict=True))

    def begin(now: float, who: int) -> None:
        work = next(tasks, None)
        ends[who] = now
        if work is not None:
            asked[who] = work[0] + work[1]
            files.ask(now, who, work[2])

    for who in range(workers):
        begin(0.0, who)
    while asked or computing:
        served, computed = files.next_end(), computing[0][0] if computing else np.inf
        if served <= computed:
            files.until(served)
            _, who = heapq.heappop(files.waiting)
            heapq.heappush(computing, (served + asked.pop(who), who))
        else:
            now, who = heapq.heappop(computing)
            files.until(now)
            begin(now, who)
    waited = sum(ends) - seconds.sum() - start_s.sum()
    return ends, waited


def simulate(studies: int, tasks: int, workers: int, rng: np.random.Generator) -> Result:
    """Submit an array on nothing, then on what it did."""
    ledger, scans = COST["ledger"], COST["scans"]
    study_s = float(np.mean([scan["processor_s"]["whole"] for scan in scans]))
    row_bytes = float(np.mean([scan["journal_bytes"] for scan in scans]))
    took = study_s * rng.lognormal(-(SPREAD**2) / 2, SPREAD, studies)
    work = np.bincount(rng.integers(tasks, size=studies), took, tasks)
    model_s = COST["model_megabytes"] * 1e6 / BANDWIDTH
    listing_s = studies * COST["list_s"]
    begin_s, begin_shared = COST["start_s"] + listing_s, model_s + studies / NAMES
    known = np.arange(tasks) / tasks  # of the ledger, when a task begins: those before it have written theirs
    ledger_s = studies * ledger["read_s"] * 3 + tasks * ledger["journal_s"]
    ledger_shared = tasks / OPENS + studies * row_bytes / BANDWIDTH
    start_s = begin_s + known * ledger_s
    ends, waited = run_array(work, workers, start_s, begin_shared + known * ledger_shared)
    whole = np.ones(tasks)
    again, _ = run_array(0 * whole, workers, whole * (begin_s + ledger_s), whole * (begin_shared + ledger_shared))
    return Result(
        *(studies, tasks, workers, took.sum() / workers / 3600, max(ends) / 3600),
        start_percent=100 * start_s.sum() / sum(ends),
        waited_percent=100 * waited / sum(ends),
        last_h=(max(ends) - min(ends)) / 3600,
        again_h=max(again) / 3600,
        again_gb=tasks * studies * row_bytes / 1e9,
        memory_gb=studies * ledger["row_memory_bytes"] / 1e9,
    )


def main() -> None:
    """Simulate, print, and write the file."""
    rng = np.random.default_rng(0)
    sizes = [(1_000, 100), (100_000, 100), (100_000, 1_000), (1_000_000, 100), (1_000_000, 1_000), (1_000_000, 10_000)]
    results = [simulate(studies, tasks, WORKERS, rng) for studies, tasks in sizes]
    results += [simulate(1_000_000, 10_000, 1_000, rng)]
    for one in results:
        print(" ".join(f"{name}={value:.4g}" for name, value in asdict(one).items()))  # noqa: T201
    assumed = {"bandwidth_bytes_s": BANDWIDTH, "names_s": NAMES, "opens_s": OPENS, "spread": SPREAD}
    content = {"assumed": assumed, "results": [asdict(one) for one in results]}
    (HERE / "archive-simulation.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
