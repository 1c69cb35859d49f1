"""The files of a study: in a folder, in folders within it, or in a zip.

A zip is read in memory and never unpacked to disk, so that no path in it can climb anywhere. A file in a zip is named
by a path that goes on behind the zip's: `study.zip/series/001.dcm`.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import cast

from fullscale.data.bounds import HIGHEST_RATIO, require_ratio
from fullscale.errors import DataError
from fullscale.text import one_line

MOST_FILES = 100_000
LARGEST_FILE = 4 << 30
LARGEST_ZIP = 64 << 30
"""Bounds of what a zip may hold, in bytes when unpacked."""
_CHUNK = 1 << 20
LARGEST_DEFLATED = 64 << 20
"""Bytes that the deflated data set of a DICOM file may become, whatever its own size."""

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_META_START = 144
"""Where the meta header goes on behind its own length."""
_LONGEST_META = 1 << 16


def is_zip(path: Path) -> bool:
    """Tell whether a path is a file that calls itself a zip."""
    return path.suffix.lower() == ".zip" and path.is_file()


def study_files(study: Path) -> list[Path]:
    """List the files of a folder and of all folders in it, or of a zip, hidden ones included. A file is itself.

    Linked folders are followed, each folder once.

    Raises:
        DataError: the path does not exist, a folder in it cannot be read, or it is a zip that is refused.
    """
    if is_zip(study):
        return zip_files(study)
    if study.is_file():
        return [study]
    if not study.is_dir():
        raise DataError("no such folder or file")
    return list(_files_below(study))


def _files_below(study: Path) -> Iterator[Path]:
    seen: set[tuple[int, int]] = set()
    for folder, inner, names in os.walk(study, onerror=_refuse, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back up
            inner.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        inner.sort()
        yield from (Path(folder, name) for name in sorted(names))


def _refuse(error: OSError) -> None:
    raise DataError(f"the folder {error.filename} cannot be read: {error.strerror}") from error


def is_hidden(study: Path, file: Path) -> bool:
    """Tell whether a file of a study, or a folder on the way to it, is hidden or left by an operating system."""
    inner = file.relative_to(study).parts if file != study else ()
    return any(part.startswith(".") or part in ("__MACOSX", "Thumbs.db", "desktop.ini") for part in inner)


def visible_files(study: Path) -> Iterator[Path]:
    """List the files of a study that may be read: none that is hidden, and no link that leads nowhere."""
    return (file for file in study_files(study) if not is_hidden(study, file) and (is_zip(study) or file.is_file()))


def zip_files(path: Path) -> list[Path]:
    """List the files in a zip.

    Raises:
        DataError: it is damaged, encrypted, larger than the bounds, or holds a path that climbs out of it.
    """
    with _one_line_errors():
        members = [info for info in _archive(path).infolist() if not info.filename.endswith("/")]
    if len(members) > MOST_FILES or sum(info.file_size for info in members) > LARGEST_ZIP:
        raise DataError(
            f"the zip holds {len(members)} files of {sum(i.file_size for i in members) >> 30} GiB; split it"
        )
    require_ratio(sum(info.file_size for info in members), path.stat().st_size, "the zip")
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
    return sorted(path / info.filename for info in members)


def open_file(path: Path) -> io.BufferedReader:
    """Open a file, on disk or in a zip; a zip's is unpacked only as far as it is read.

    Raises:
        DataError: it is in a damaged zip.
    """
    outer = _zip_of(path)
    if outer is None:
        return path.open("rb")
    with _one_line_errors():
        member = _archive(outer).open(path.relative_to(outer).as_posix())
        return io.BufferedReader(cast(io.RawIOBase, member), buffer_size=1 << 16)


def file_size(path: Path) -> int:
    """Return the bytes of a file on disk, or of a file in a zip when it is unpacked."""
    outer = _zip_of(path)
    if outer is None:
        return path.stat().st_size
    with _one_line_errors():
        return _archive(outer).getinfo(path.relative_to(outer).as_posix()).file_size


def file_state(path: Path) -> tuple[int, ...]:
    """Return what changes with a file, or with the zip that it lies in: inode, size and times."""
    status = (_zip_of(path) or path).stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def first_bytes(path: Path, count: int) -> bytes:
    """Read the beginning of a file, on disk or in a zip."""
    with open_file(path) as stream, _one_line_errors():
        return stream.read(count)


def require_bounded(path: Path) -> None:
    """Refuse a DICOM file whose deflated data set becomes far more than a slice: pydicom unpacks it as a whole.

    Raises:
        DataError: it does.
    """
    head = first_bytes(path, _META_START)
    if head[128:132] != b"DICM" or len(head) < _META_START:
        return
    start = _META_START + min(struct.unpack("<I", head[140:144])[0], _LONGEST_META)
    if _DEFLATED not in first_bytes(path, start):
        return
    stored = unpacked = 0
    packer = zlib.decompressobj(-zlib.MAX_WBITS)
    with open_file(path) as stream, suppress(zlib.error):  # a damaged one is pydicom's to refuse
        stream.read(start)
        while chunk := stream.read(1 << 16):
            stored += len(chunk)
            while chunk:
                unpacked += len(packer.decompress(chunk, 1 << 20))
                chunk = packer.unconsumed_tail
                if unpacked > LARGEST_DEFLATED and unpacked > HIGHEST_RATIO * stored:
                    raise DataError(
                        f"unpacks to more than {HIGHEST_RATIO} times its bytes; no slice does, it is not read"
                    )


def digest(path: Path, start: int = 0) -> str:
    """Return the SHA-256 of a file's bytes from a place on, on disk or in a zip."""
    with open_file(path) as stream:
        stream.read(start)
        found = hashlib.sha256()
        while piece := stream.read(_CHUNK):
            found.update(piece)
        return found.hexdigest()


def _zip_of(path: Path) -> Path | None:
    return next((parent for parent in path.parents if parent.suffix.lower() == ".zip" and parent.is_file()), None)


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
            raise DataError(f"the zip is damaged ({one_line(error)}); is it whole?") from error
