"""Bounds on what a file may become in memory, checked before anything is allocated.

A header of a few bytes can claim a scan of many gigabytes, and zeros are compressed a thousand to one. Label maps are
mostly zeros, so a high ratio alone is no fault: it is refused only where the whole is large too.
"""

from __future__ import annotations

from fullscale.errors import DataError
from fullscale.work.machine import available_memory

ALWAYS_ALLOWED = 2 << 30
"""Bytes that any file may become, whatever its own size: a float64 label map of 512 x 512 x 1000 voxels."""
HIGHEST_RATIO = 100
"""Bytes in memory for a byte on disk, beyond `ALWAYS_ALLOWED`."""
MOST_TRAILING = 16 << 20
"""Bytes that may follow the voxels in a compressed file."""


def require_room(needed: int, stored: int, what: str) -> None:
    """Refuse what is too large for the memory that is free, or for the file it is said to be in.

    Args:
        needed: bytes in memory.
        stored: bytes on disk, compressed or not.
        what: the subject of the message, such as "its header".

    Raises:
        DataError: it is.
    """
    require_ratio(needed, stored, what)
    free = available_memory()
    if needed > free:
        raise DataError(
            f"{what} states {human_size(needed)}, more than the {human_size(free)} of memory that are free; "
            "use a machine with more memory, or crop the scan"
        )


def require_ratio(unpacked: int, stored: int, what: str) -> None:
    """Refuse what is large and is said to be in a file that is small beside it.

    Raises:
        DataError: it is.
    """
    if unpacked > ALWAYS_ALLOWED and unpacked > HIGHEST_RATIO * stored:
        raise DataError(
            f"{what} states {human_size(unpacked)}, but {human_size(stored)} are stored; "
            f"more than {HIGHEST_RATIO} to 1 is no scan, it is not read"
        )


def human_size(count: int) -> str:
    """Write bytes for people: `"3.1 GiB"`."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"
