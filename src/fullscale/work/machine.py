"""What this machine has to offer: cores and memory that this process may use, and bfloat16."""

from __future__ import annotations

import os
import platform
from pathlib import Path

GIB = 1 << 30
MEMORY_A_JOB = 3 * GIB
"""What a process may need for a large CT: the scan, its mask, and a network's maps of some slices."""
FEWEST_ITEMS = 4
"""With fewer items, starting processes costs more than they save."""

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
_PROCESSOR = Path("/proc/cpuinfo")
_BF16 = {"avx512_bf16", "amx_bf16"}
"""Flags of x86 processors that multiply bfloat16: Intel from Cooper Lake on, AMD from Zen 4 on."""


def cores() -> int:
    """Count the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_bf16() -> bool:
    """Tell whether the processor itself multiplies bfloat16, which halves the work; elsewhere it is emulated, slowly.

    What does not say so (another operating system, an Arm processor) counts as without: it was not measured there.
    """
    if not _PROCESSOR.is_file():
        return False
    lines = (line.partition(":") for line in _PROCESSOR.read_text().splitlines())
    flags = next((value.split() for name, _, value in lines if name.strip() == "flags"), [])
    return not _BF16.isdisjoint(flags)


def processor_name() -> str:
    """Return the name of the processor, or at least its kind."""
    lines = _PROCESSOR.read_text().splitlines() if _PROCESSOR.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def available_memory() -> int:
    """Return the bytes that can be allocated without swapping, within the limits of a container."""
    found = [_free_in(Path(limit), Path(used)) for limit, used in _CGROUPS]
    return min([_free_on_machine(), *(free for free in found if free is not None)])


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
    table = Path("/proc/meminfo")
    if table.is_file():
        lines = dict(line.split(":", 1) for line in table.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _free_in(limit: Path, used: Path) -> int | None:
    """Return what a control group leaves of its memory; None where there is no such group or no limit."""
    try:
        return max(0, int(limit.read_text()) - int(used.read_text()))
    except (OSError, ValueError):  # no such file, or "max"
        return None
