"""What a machine has: cores, memory within a container's limit, and the number of processes that follows."""

from pathlib import Path

import pytest

from fullscale.work import machine


@pytest.mark.parametrize(
    ("items", "cores", "gib", "jobs"),
    [(100, 8, 64, 8), (100, 8, 10, 3), (100, 8, 1, 1), (5, 8, 64, 5), (3, 8, 64, 1), (100, 1, 64, 1)],
)
def test_jobs_by_cores_memory_and_items(
    items: int, cores: int, gib: int, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: cores)
    monkeypatch.setattr(machine, "available_memory", lambda: gib * machine.GIB)
    assert machine.choose_jobs(None, items) == jobs
    assert machine.choose_jobs(2, items) == 2
    assert machine.choose_jobs(2, 1) == 1


def test_the_limit_of_a_container_counts_and_no_limit_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    monkeypatch.setattr(machine, "_CGROUPS", ((str(limit), str(used)),))
    free = machine.available_memory()
    assert free > 1 << 20
    limit.write_text("3000\n")
    used.write_text("1000\n")
    assert machine.available_memory() == 2000
    used.write_text("4000\n")
    assert machine.available_memory() == 0
    limit.write_text("max\n")
    assert machine.available_memory() > 1 << 20
