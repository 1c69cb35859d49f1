"""Files that a crash cannot tear, and file names that come from data and lead nowhere else."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import RawIOBase
from pathlib import Path
from typing import IO, Any, cast

from filelock import BaseFileLock, FileLock, Timeout

from fullscale.errors import OutputError, UsageError
from fullscale.temporary import OLD, WRITING, beside, swap, sweep, sync

LOCK = ".lock"
"""File in a folder that one process at a time works in."""


def require_no_file_in_the_way(folder: Path) -> None:
    """Refuse a folder to write into that is a file, or would lie below one.

    Raises:
        UsageError: it is; the file is named.
    """
    there = next((path for path in (folder, *folder.parents) if path.exists()), None)
    if there is not None and not there.is_dir():
        raise UsageError(f"{there} is a file, expected a folder to write into")


def state_of(path: Path) -> list[int]:
    """Return size and time of a file, as JSON gives them back; empty where it is not there."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, with the same suffixes; it replaces `path` when the block ends well.

    Whatever ends the block otherwise, Ctrl-C included, removes the temporary file and leaves `path` as it was. What a
    killed process left in the folder is removed by the next one that writes there.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    temporary = beside(path, WRITING)  # named before it is there: an interruption between the two would leave it
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        with suppress(FileNotFoundError):
            path.lstat()  # what cannot be written, such as an overlong name, fails before the work, not after it
        temporary.touch(exist_ok=False)
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder beside `folder`; it replaces `folder` and all in it when the block ends well.

    Whatever ends the block otherwise, Ctrl-C included, removes the temporary folder and leaves `folder` as it was. At
    no moment is there neither the old nor the new one, where the file system can swap two folders.

    Raises:
        OutputError: it cannot be written, or the disk is full.
    """
    temporary, old = beside(folder, WRITING), beside(folder, OLD)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep(folder.parent)
        temporary.mkdir()
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            sync(path)
        if not folder.exists():
            os.replace(temporary, folder)
        elif not swap(temporary, folder):
            os.replace(folder, old)  # killed here, the next process that writes beside it puts it back
            os.replace(temporary, folder)
        sync(folder.parent)
        _remove(temporary, old)  # here too: an interruption may come just before the lines below
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            if old.exists() and not folder.exists():
                os.replace(old, folder)
        _remove(temporary, old)


class _Patient(RawIOBase):
    """Takes every byte; what the file below refuses is remembered."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self.refused: OSError | None = None

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def write(self, content: Any) -> int:
        if self.refused is None:
            try:
                self._file.write(content)
            except OSError as error:
                self.refused = error
        return memoryview(content).nbytes


@contextmanager
def for_library(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for a library whose own writer does not say why it failed, or ends the process as torch's may.

    Raises:
        OSError: what the disk refused, once the library is done.
    """
    with path.open("wb") as file:
        patient = _Patient(file)
        yield cast(IO[bytes], patient)
        if patient.refused is not None:
            raise patient.refused


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def only_one(folder: Path, work: str) -> Iterator[None]:
    """Let no second process do the same work in a folder; a process that dies lets go of it.

    Raises:
        UsageError: another process is at it.
        OutputError: the folder cannot be written.
    """
    try:
        lock = _acquire(folder, timeout_s=0)
    except Timeout as error:
        raise UsageError(f"another process is {work} in {folder}; wait for it, or choose another folder") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait until no other process is in such a block for this folder; a process that dies lets go of it.

    Raises:
        OutputError: the folder cannot be written.
    """
    lock = _acquire(folder, timeout_s=-1)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def lock_to_hand_on(folder: Path) -> Iterator[int]:
    """Take the lock of `only_one` and give its open file: a process that inherits it has the lock until it ends.

    Raises:
        UsageError: another process has it.
        OutputError: the folder cannot be written.
    """
    import fcntl  # not on every system

    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    except BlockingIOError as error:
        raise UsageError(f"another process works in {folder}; wait for it") from error
    finally:
        os.close(descriptor)


def _acquire(folder: Path, timeout_s: float) -> BaseFileLock:
    """Take the lock of a folder; a negative time waits for ever, and one that is over raises `Timeout`."""
    lock = FileLock(folder / LOCK, timeout=timeout_s)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:  # an OSError too
        raise
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
    return lock


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_path(path) as temporary:
        # A file name that is no text, in another encoding, is written as it is shown.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, content: Any) -> None:
    """Write JSON that a person can read, whole or not at all; NaN is refused."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


LONGEST_NAME = 120
"""Bytes of a name that comes from data; suffixes, and what marks a temporary file, must fit beside it."""
_UNSAFE = frozenset('/\\<>:"|?*')
_RESERVED = frozenset(("con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))))


def safe_name(name: str) -> str:
    """Make a file name, without suffix, out of any name that comes from data, such as that of a case.

    Most names stay as they are. Separators, control characters and what other file systems refuse become `_`; a hidden,
    reserved, overlong or empty name is changed too. What was changed ends in a digest of the name, so that different
    names stay different.
    """
    shown = "".join("_" if c in _UNSAFE or not c.isprintable() else c for c in name).strip(" ").rstrip(". ")
    if shown.startswith(".") or shown.split(".")[0].lower() in _RESERVED or not shown:
        shown = f"_{shown.lstrip('.')}"
    if shown == name and len(name.encode()) <= LONGEST_NAME:
        return name
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    # With its digest it is no longer than the longest: what is safe is safe again.
    room = LONGEST_NAME - len(digest) - 1
    return f"{shown.encode('utf-8', 'replace')[:room].decode('utf-8', 'ignore')}-{digest}"


def require_inside(folder: Path, path: Path) -> Path:
    """Return a path that is to be written, if it lies in the folder.

    Raises:
        UsageError: it lies elsewhere, by `..`, an absolute name, or a link of one of its folders.
    """
    if path.parent.resolve().is_relative_to(folder.resolve()) and path.name not in ("", "..", "."):
        return path
    raise UsageError(f"{path} lies outside {folder}: a name in the data leads there; rename it")
