"""Temporary files beside their final place: named after their process, so that what a killed one left can be told."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

WRITING, OLD = "writing", "old"
"""What is not whole yet, and what is about to be replaced."""

_ABANDONED_S = 24 * 3600
"""Age at which a temporary file of another machine, whose processes cannot be seen, belongs to nobody."""
_NAME = re.compile(rf"\.(?P<kind>{WRITING}|{OLD})-(?P<host>[0-9a-f]{{8}})-(?P<pid>\d+)-[0-9a-f]{{8}}-(?P<name>.+)")
HOST = hashlib.blake2b(platform.node().encode(), digest_size=4).hexdigest()
"""Tells this machine's files from those of others."""
_ours: set[str] = set()
"""Names that this process has given."""
_AT_WORKING_FOLDER = -100  # AT_FDCWD
_EXCHANGE = 2  # RENAME_EXCHANGE


def beside(path: Path, kind: str) -> Path:
    """Name a hidden file or folder of this process that is not there yet, with the suffixes of `path`."""
    name = f".{kind}-{HOST}-{os.getpid()}-{secrets.token_hex(4)}-{path.name[-150:]}"
    _ours.add(name)
    return path.parent / name


@contextmanager
def temporary_folder(name: str) -> Iterator[Path]:
    """Give an empty folder where this machine keeps temporary files; what a killed process left there is removed."""
    place = Path(tempfile.gettempdir())
    sweep(place)
    folder = beside(place / name, WRITING)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@cache
def sweep(folder: Path) -> None:
    """Remove what processes that are gone left half-written in a folder, once for each folder and process.

    A folder that was moved away and not yet replaced is put back.
    """
    entries: list[Path] = []
    with suppress(OSError):  # a folder may be writable and not readable
        entries = list(folder.iterdir())
    for path in entries:
        found = _NAME.fullmatch(path.name)
        if found is None or path.name in _ours or not _is_abandoned(path, found["host"], int(found["pid"])):
            continue
        with suppress(OSError):
            if found["kind"] == OLD and not (folder / found["name"]).exists():
                path.rename(folder / found["name"])
            else:
                _remove(path)


def _remove(path: Path) -> None:
    """Remove a temporary file or folder, in one step: should its process live after all, it finds nothing, not half."""
    if path.is_dir():
        ours = beside(path.with_name("folder"), WRITING)
        path.rename(ours)
        shutil.rmtree(ours, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_abandoned(path: Path, host: str, process: int) -> bool:
    if host == HOST and process == os.getpid():
        return True  # of an earlier process with this number: in a container that is restarted it is always the same
    if host != HOST:
        with suppress(OSError):
            return _now(path.parent) - path.stat().st_mtime > _ABANDONED_S
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it lives, and belongs to someone else
        return False
    return False


def _now(folder: Path) -> float:
    """Return the time by the clock that stamps the files of a folder, which is not always this machine's."""
    probe = beside(folder / "clock", WRITING)
    try:
        probe.touch(exist_ok=False)
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Bring a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some file systems sync no folders
            raise
    finally:
        os.close(descriptor)


def swap(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False where the system or the file system cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if platform.system() == "Linux" else None
    if rename is None:
        return False
    places = (_AT_WORKING_FOLDER, os.fsencode(one), _AT_WORKING_FOLDER, os.fsencode(other))
    return bool(rename(*places, _EXCHANGE) == 0)
