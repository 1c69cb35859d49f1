"""What a machine has: cores, memory within a container's limit, and the number of processes that follows."""

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fullscale.work import machine

CPU_GROUPS = Path("/sys/fs/cgroup/cpu")


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


@pytest.mark.parametrize("version", [1, 2])
def test_the_limits_of_all_control_groups_around_the_process_count(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of Slurm has a group of its own; of a container, the path leads nowhere within it, and the root counts."""
    limit, used, files = machine._MEMORY_FILES[version]
    folder = "memory" if version == 1 else ""
    own = tmp_path / "cgroup"
    own.write_text("5:cpu,cpuset:/other\n4:memory:/job/step\n" if version == 1 else "0::/job/step\n")
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "_OWN_CGROUPS", own)
    assert machine.available_memory() > 1 << 20
    root, job = tmp_path / folder, tmp_path / folder / "job"
    job.mkdir(parents=True)
    for group, most, held in ((root, "5000", "1000"), (job, "3000", "1000")):
        (group / limit).write_text(f"{most}\n")
        (group / used).write_text(f"{held}\n")
    assert machine.available_memory() == 2000
    (job / "memory.stat").write_text(f"anon 100\n{files} 700\n")
    assert machine.available_memory() == 2700, "copies of files are dropped where memory is short"
    (job / limit).write_text("max\n")
    assert machine.available_memory() == 4000
    (root / used).write_text("6000\n")
    assert machine.available_memory() == 0


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_may_use_its_share_of_the_cores(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "cgroup"
    own.write_text("5:cpuset:/other\n4:cpu,cpuacct:/job/step\n" if version == 1 else "0::/job/step\n")
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "_OWN_CGROUPS", own)
    monkeypatch.setattr(machine, "own_cores", lambda: set(range(8)))
    root = tmp_path / ("cpu" if version == 1 else "")
    (root / "job").mkdir(parents=True)

    def limit(group: Path, quota: str) -> None:
        if version == 2:
            (group / "cpu.max").write_text(f"{quota} 100000\n")
        else:
            (group / "cpu.cfs_quota_us").write_text(f"{quota.replace('max', '-1')}\n")
            (group / "cpu.cfs_period_us").write_text("100000\n")

    assert machine.cores() == 8, "no group of these names"
    limit(root, "max")
    assert machine.cores() == 8
    limit(root / "job", "250000")
    assert machine.cores() == 3, "two and a half"
    limit(root, "200000")
    assert machine.cores() == 2, "the group around it allows less"
    limit(root / "job", "5000")
    assert machine.cores() == 1


@pytest.mark.skipif(not os.access(CPU_GROUPS, os.W_OK), reason="needs the right to make a control group, version 1")
def test_a_control_group_of_the_system_limits_the_cores(tmp_path: Path) -> None:
    group = CPU_GROUPS / f"fullscale-{tmp_path.name}-{os.getpid()}"
    group.mkdir()
    try:
        (group / "cpu.cfs_quota_us").write_text("100000")
        inside = f"open('{group}/cgroup.procs', 'w').write('0')"
        code = f"{inside}; from fullscale.work.machine import cores; print(cores())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout == "1\n", done.stderr
    finally:
        group.rmdir()


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_a_limit_of_the_shell_counts() -> None:
    code = "from fullscale.work.machine import available_memory as free; print(free())"
    done = subprocess.run(["bash", "-c", f"ulimit -v 1000000; {sys.executable} -c '{code}'"], capture_output=True)
    assert 0 < int(done.stdout) < 1_000_000 * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_a_process_knows_what_it_holds() -> None:
    size = 1 << 26
    before = machine.process_memory()
    held = mmap.mmap(-1, size)  # pages of the system: an array might take what an earlier one has left in the heap
    for _ in range(64):
        held.write(b"1" * (size // 64))
    after = machine.process_memory()
    assert before is not None
    assert after is not None
    assert 0.9 * size < after.now - before.now < 1.2 * size
    assert after.most >= after.now
