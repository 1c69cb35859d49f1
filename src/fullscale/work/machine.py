"""What this machine has to offer: cores and memory that this process may use, its processor, and bfloat16."""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

if sys.platform != "win32":
    import resource

from fullscale.documents import digest_of

GIB = 1 << 30
MEMORY_A_JOB = 3 * GIB
"""What a process may need for a large CT: the scan, its mask, and a network's maps of some slices."""
FEWEST_ITEMS = 4
"""With fewer items, starting processes costs more than they save."""

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_MEMORY_FILES = {
    2: ("memory.max", "memory.current", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Of each version of control groups: the limit, what is used, and in `memory.stat` what of that are copies of files,
which the system drops where memory is short."""
_CPU_FILES = {2: ("cpu.max",), 1: ("cpu.cfs_quota_us", "cpu.cfs_period_us")}
"""Of each version: where the time stands that a group may use in each period, and the period; two numbers in all."""
_MACHINE = Path("/proc/meminfo")
_STATUS = Path("/proc/self/status")
_PROCESSOR = Path("/proc/cpuinfo")
_BF16 = {"avx512_bf16", "amx_bf16"}
"""Flags of x86 processors that multiply bfloat16: Intel from Cooper Lake on, AMD from Zen 4 on."""


def cores() -> int:
    """Count the cores that this process may use: those that it may run on, within a container's share of their time."""
    return min([len(own_cores()), *_shares()])


def own_cores() -> set[int]:
    """Return the numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def has_bf16() -> bool:
    """Tell whether the processor itself multiplies bfloat16, which halves the work; elsewhere it is emulated, slowly.

    What does not say so (another operating system, an Arm processor) counts as without: it was not measured there.
    """
    return not _BF16.isdisjoint(_of_processor("flags").split())


def processor_name() -> str:
    """Return the name of the processor, or at least its kind."""
    return _of_processor("model name") or platform.processor() or platform.machine()


def processor_digest() -> str:
    """Return a short digest of what this kind of processor is called and can do."""
    return digest_of([processor_name(), platform.machine(), _of_processor("flags")], size=4)


def _of_processor(what: str) -> str:
    """Return what the system says of the first processor; nothing where it does not say so."""
    lines = _PROCESSOR.read_text().splitlines() if _PROCESSOR.is_file() else []
    found = (value.strip() for name, _, value in (line.partition(":") for line in lines) if name.strip() == what)
    return next(found, "")


def available_memory() -> int:
    """Return the bytes that can be allocated without swapping, within the limits of a container, a job or a shell."""
    return max(0, min([_free_on_machine(), *_free_in_groups(), *_free_addresses()]))


class ProcessMemory(NamedTuple):
    """Bytes of memory that this process holds now, and the most that it has held."""

    now: int
    most: int


def process_memory() -> ProcessMemory | None:
    """Say how much memory this process holds; None on a system that is not Linux."""
    held = _status_bytes("VmRSS", "VmHWM")
    return None if held is None else ProcessMemory(*held)


def choose_jobs(wanted: int | None, items: int) -> int:
    """Choose the number of processes for so many items: as wanted, else as cores and memory allow.

    Args:
        wanted: what the user says; None leaves it to the machine, which takes one for a few items.
        items: such as cases.
    """
    if wanted is not None:
        return max(1, min(wanted, items))
    if items < FEWEST_ITEMS:
        return 1
    return max(1, min(cores(), available_memory() // MEMORY_A_JOB, items))


def _free_on_machine() -> int:
    if _MACHINE.is_file():
        return int(_table(_MACHINE, ":")["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _free_in_groups() -> Iterator[int]:
    """Yield what the control groups of this process leave of their memory."""
    for version, place in _groups("memory"):
        limit, used, files = _MEMORY_FILES[version]
        try:
            free = int((place / limit).read_text()) - int((place / used).read_text())
            told = _table(place / "memory.stat", " ") if (place / "memory.stat").is_file() else {}
            yield free + int(told.get(files, "0"))
        except (OSError, ValueError):  # no such group (the one of a container is the root within it), or "max"
            continue


def _shares() -> Iterator[int]:
    """Yield how many cores the control groups of this process allow, part of a core as a whole one."""
    for version, place in _groups("cpu"):
        try:
            quota, period = " ".join((place / name).read_text().strip() for name in _CPU_FILES[version]).split()
            if int(quota) > 0:  # in version 1, -1 is without a limit
                yield math.ceil(int(quota) / int(period))
        except (OSError, ValueError):  # no such group, or "max"
            continue


def _groups(controller: str) -> Iterator[tuple[int, Path]]:
    """Yield version and folder of the control groups that this process is in, up to the outermost."""
    lines = _OWN_CGROUPS.read_text().splitlines() if _OWN_CGROUPS.is_file() else []
    for _, kinds, own in (line.split(":", 2) for line in lines):
        if kinds and controller not in kinds.split(","):
            continue
        group = Path(own.lstrip("/"))
        for inner in (group, *group.parents):
            yield (1, _CGROUPS / controller / inner) if kinds else (2, _CGROUPS / inner)


def _free_addresses() -> Iterator[int]:
    """Yield what `ulimit -v` leaves, which batch systems set too."""
    if sys.platform == "win32":
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    used = _status_bytes("VmSize")
    if limit != resource.RLIM_INFINITY and used is not None:
        yield limit - used[0]


def _status_bytes(*names: str) -> list[int] | None:
    table = _table(_STATUS, ":") if _STATUS.is_file() else {}
    return [int(table[name].split()[0]) * 1024 for name in names] if all(name in table for name in names) else None


def _table(path: Path, mark: str) -> dict[str, str]:
    lines = (line.partition(mark) for line in path.read_text().splitlines())
    return {name: value for name, _, value in lines}
