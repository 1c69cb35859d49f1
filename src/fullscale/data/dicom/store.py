"""Files inside a zip, read in memory and never unpacked to disk, so that no path in it can climb anywhere.

A file in a zip is named by a path that goes on behind the zip's: `study.zip/series/001.dcm`.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from fullscale.errors import DataError

MOST_FILES = 100_000
LARGEST_FILE = 4 << 30
LARGEST_ZIP = 64 << 30
"""Bounds of what a zip may hold, in bytes when unpacked."""


def is_zip(path: Path) -> bool:
    """Tell whether a path is a file that calls itself a zip."""
    return path.suffix.lower() == ".zip" and path.is_file()


def zip_files(path: Path) -> list[Path]:
    """List the files in a zip, hidden ones passed over.

    Raises:
        DataError: it is damaged, encrypted, larger than the bounds, or holds a path that climbs out of it.
    """
    with _one_line_errors():
        members = [info for info in _archive(path).infolist() if not info.filename.endswith("/")]
    if len(members) > MOST_FILES or sum(info.file_size for info in members) > LARGEST_ZIP:
        raise DataError(
            f"the zip holds {len(members)} files of {sum(i.file_size for i in members) >> 30} GiB; split it"
        )
    for info in members:
        name = PurePosixPath(info.filename.replace("\\", "/"))
        if not name.parts:
            raise DataError("the zip is damaged (it holds a file without a name); is it whole?")
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            raise DataError(f"the zip holds the path {info.filename!r}, which leads out of it; it is not read")
        if info.file_size > LARGEST_FILE:
            raise DataError(f"{info.filename} in the zip has {info.file_size >> 30} GiB when unpacked; it is not read")
        if info.flag_bits & 1:
            raise DataError(f"{info.filename} in the zip is encrypted; unpack it first")
    visible = [info.filename for info in members if not _is_hidden(PurePosixPath(info.filename))]
    return sorted(path / name for name in visible)


def open_file(path: Path) -> BinaryIO:
    """Open a file, on disk or in a zip.

    Raises:
        DataError: it is in a damaged zip.
    """
    outer = next((parent for parent in path.parents if parent.suffix.lower() == ".zip" and parent.is_file()), None)
    if outer is None:
        return path.open("rb")
    with _one_line_errors():
        return io.BytesIO(_archive(outer).read(path.relative_to(outer).as_posix()))


def first_bytes(path: Path, count: int) -> bytes:
    """Read the beginning of a file, on disk or in a zip."""
    outer = next((parent for parent in path.parents if parent.suffix.lower() == ".zip" and parent.is_file()), None)
    if outer is None:
        with path.open("rb") as stream:
            return stream.read(count)
    with _one_line_errors(), _archive(outer).open(path.relative_to(outer).as_posix()) as member:
        return member.read(count)


def _is_hidden(name: PurePosixPath) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.parts)


def _archive(path: Path) -> zipfile.ZipFile:
    status = path.stat()
    return _open_archive(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=2)
def _open_archive(path: Path, _mtime_ns: int, _size: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


class _one_line_errors:
    """Turn the errors of zipfile into ours."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, zipfile.BadZipFile | zlib.error | KeyError | NotImplementedError | EOFError):
            raise DataError(f"the zip is damaged ({error}); is it whole?") from error
