"""What breaks first when an archive grows to a million studies: a simulation whose parameters were measured.

    python benchmarks/archive.py

Each task of a job array lists the archive and reads the ledger before it begins; a Dask client does so once. What is
printed stands in docs/how-to/archive.md.
"""

from __future__ import annotations

import heapq

import numpy as np

LIST_S = 20e-6
"""Processor time of listing an entry: 100,000 took 2.0 s."""
READ_S = 6.7e-6
"""Processor time of reading a row of the ledger: a million took 6.7 s."""
CASE_BYTES = 1105
"""Of the three rows of a case of two structures."""
LOAD_S = 5.0
"""Processor time of loading torch and the model."""
STUDY_S, SPREAD = 20.0, 0.6
"""Assumed, not measured."""
WORKERS = 100


def array_hours(seconds: np.ndarray, tasks: int, rng: np.random.Generator) -> tuple[float, float]:
    """Return the hours until the last share is done, with so many tasks on `WORKERS`, and the share of overhead."""
    overhead = LOAD_S + len(seconds) * (LIST_S + READ_S)
    share = rng.integers(tasks, size=len(seconds))
    work = np.bincount(share, seconds, tasks) + overhead
    free = [0.0] * WORKERS
    for task_s in work:
        heapq.heappush(free, heapq.heappop(free) + task_s)
    return max(free) / 3600, tasks * overhead / work.sum()


def main() -> None:
    """Print a line for each size of archive and array."""
    rng = np.random.default_rng(0)
    for cases in (1_000, 100_000, 1_000_000):
        seconds = STUDY_S * rng.lognormal(-(SPREAD**2) / 2, SPREAD, cases)
        ideal = seconds.sum() / WORKERS / 3600
        read_gb = cases * CASE_BYTES / 1e9
        for tasks in (100, 1_000, 10_000):
            hours, overhead = array_hours(seconds, tasks, rng)
            print(  # noqa: T201
                f"{cases} studies, {tasks} shares: {hours:.1f} hours (ideal {ideal:.1f}), "
                f"{100 * overhead:.1f} % overhead, {tasks * read_gb:.0f} GB of ledger read by another submission"
            )


if __name__ == "__main__":
    main()
