"""OutputOptions that a crash cannot tear: beside the final place first, then renamed into it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fullscale.errors import FullscaleError, UsageError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, with the same suffixes; it replaces `path` when the block ends well.

    Whatever ends the block otherwise, Ctrl-C included, removes the temporary file and leaves `path` as it was.

    Raises:
        FullscaleError: the folder cannot be written, or the disk is full.
    """
    temporary = _beside(path, "writing")  # named before it is there: an interruption between the two would leave it
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)  # what cannot be written fails before the work, not after it
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        raise FullscaleError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder beside `folder`; it replaces `folder` and all in it when the block ends well.

    Whatever ends the block otherwise, Ctrl-C included, removes the temporary folder and leaves `folder` as it was.

    Raises:
        FullscaleError: it cannot be written, or the disk is full.
    """
    temporary, old = _beside(folder, "writing"), _beside(folder, "old")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        if folder.exists():
            os.replace(folder, old)
        os.replace(temporary, folder)
        shutil.rmtree(old, ignore_errors=True)  # here too: an interruption may come just before the lines below
    except OSError as error:
        raise FullscaleError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            if old.exists() and not folder.exists():
                os.replace(old, folder)
            shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def only_one(folder: Path, work: str) -> Iterator[None]:
    """Let no second process do the same work in a folder; a process that dies lets go of it.

    Raises:
        UsageError: another process is at it.
        FullscaleError: the folder cannot be written.
    """
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise UsageError(f"another process is {work} in {folder}; wait for it, or choose another folder") from error
    except OSError as error:
        raise FullscaleError(f"cannot write {folder}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait until no other process is in such a block for this folder; a process that dies lets go of it.

    Raises:
        FullscaleError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire()
    except OSError as error:
        raise FullscaleError(f"cannot write {folder}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write JSON that a person can read, whole or not at all; NaN is refused."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def _beside(path: Path, doing: str) -> Path:
    """Name a hidden file or folder that is not there, with the suffixes of `path`."""
    return path.parent / f".{doing}-{secrets.token_hex(4)}-{path.name}"
