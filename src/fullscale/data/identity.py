"""What a case's files hold, as digests that do not depend on their names, and a memory of them between runs.

Reading every byte of a data set only to find that nothing has changed takes minutes. So the digest of a file is kept
in the cache, by its path and by what the file system says of it: inode, size, time of modification and time of
change. A program can set the time of modification back, but not the time of change.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.data.case import Case
from fullscale.data.dicom.store import visible_files
from fullscale.data.png_stack import name_order
from fullscale.data.structure_files import structures_of
from fullscale.errors import DataError, FullscaleError
from fullscale.files import write_text

INDEX = ".digests"
"""The index in the cache folder: a line `CHECK PATH STATE CONTENT` a file, all hexadecimal; the last one counts."""

_SETTLED_S = 2.0
"""A file changed this recently is not remembered: its next change may carry the same time stamp (FAT counts 2 s)."""
_SPARE_LINES = 1000
_DETACHED = re.compile(rb"^\s*(?:ElementDataFile\s*=|data ?file:)\s*(.+?)\s*$", re.MULTILINE | re.IGNORECASE)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaseDigest:
    """What identifies the content of a case; equal content has equal digests under any names.

    Attributes:
        image: 32 hexadecimal digits.
        label: likewise, of all that is known of the truth; None without a label.
    """

    image: str
    label: str | None

    @property
    def whole(self) -> str:
        """One digest of both."""
        return _digest(f"{self.image} {self.label}".encode())


@dataclass
class DigestIndex:
    """Digests of files, remembered in a folder. Several processes may use one at the same time.

    Attributes:
        folder: where the index lies; None remembers nothing beyond this object.
        verify: read every file, whatever is remembered.
    """

    folder: Path | None = None
    verify: bool = False
    _known: dict[str, tuple[str, str]] | None = field(default=None, init=False, repr=False)

    def file_digest(self, file: Path) -> str:
        """Return the digest of a file's bytes, read or remembered.

        Raises:
            DataError: the file is missing or cannot be read.
        """
        try:
            where, state = _digest(os.fsencode(file.absolute())), _state(file)
            known = self._entries().get(where)
            if known is not None and known[0] == state and not self.verify:
                return known[1]
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
            status = file.stat()
        except OSError as error:
            raise DataError(f"{file}: {error.strerror or error}") from error
        if known is not None and known[0] == state and known[1] != content:
            _log.warning("%s: its bytes changed while its size and times did not; is the disk sound?", file)
        settled = time.time() - max(status.st_mtime, status.st_ctime) > _SETTLED_S
        if settled and _state(file) == state and known != (state, content):
            self._remember(where, state, content)
        return content

    def _entries(self) -> dict[str, tuple[str, str]]:
        if self._known is None:
            self._known = {} if self.folder is None else _read_index(self.folder / INDEX)
        return self._known

    def _remember(self, where: str, state: str, content: str) -> None:
        self._entries()[where] = (state, content)
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # One short write at the end of the file: parallel processes do not tear each other's lines. The line
            # feed before it ends a line that a killed process left half-written.
            with open(self.folder / INDEX, "ab", buffering=0) as stream:
                stream.write(f"\n{_line(where, state, content)}\n".encode())
        except OSError as error:
            _log.info("%s: cannot be written (%s); files are read again next time", self.folder, error.strerror)
            self.folder = None


def case_digest(case: Case, index: DigestIndex) -> CaseDigest:
    """Return the digests of a case's image and label.

    PNG masks belong to the DICOM slices of the same place in the order of names, so that order is part of the label.
    So are the mask of what is ignored and the names of the structures that were drawn, where a case has them.

    Raises:
        DataError: a file is missing or cannot be read.
    """
    by_channel = {
        name: [index.file_digest(file) for file in content_files(source)] for name, source in case.channels.items()
    }
    images = [digest for digests in by_channel.values() for digest in digests]
    image = _digest(_told_apart(by_channel).encode())
    if case.label is None:
        return CaseDigest(image, None)
    if case.empty:
        labels = ["empty"]
    else:
        labels = [index.file_digest(file) for file in content_files(case.label)]
    structures = structures_of(case)
    if structures:  # which are told apart by their names
        labels = [f"{json.dumps(name)} {index.file_digest(file)}" for name, file in structures.items()]
    elif case.label.is_dir() and not case.empty:
        labels += [str(sorted(images).index(digest)) for digest in images]
    labels += [index.file_digest(file) for file in case.masks]
    if case.colours is not None:
        labels += ["colours", json.dumps(sorted(case.colours.items()))]
    if case.ignore is not None:
        labels += ["ignore", *(index.file_digest(file) for file in content_files(case.ignore))]
    if case.labelled is not None:
        labels += ["labelled", json.dumps(sorted(set(case.labelled)))]
    return CaseDigest(image, _digest(" ".join(labels).encode()))


def voxel_digest(array: npt.NDArray[Any]) -> str:
    """Return a digest of voxels that does not depend on the file, its compression or its number type."""
    digest = hashlib.blake2b(repr(array.shape).encode(), digest_size=16)
    for plane in array.T:  # plane by plane along the last axis, so that no copy of the whole is made
        digest.update(plane.astype(np.float32).tobytes())
    return digest.hexdigest()


def _told_apart(by_channel: dict[str, list[str]]) -> str:
    """Write down what the channels of a case hold: of several, which holds what."""
    contents = {name: " ".join(sorted(digests)) for name, digests in by_channel.items()}
    if len(contents) == 1:
        return next(iter(contents.values()))
    return "\n".join(f"{json.dumps(name)} {content}" for name, content in contents.items())


def content_of(files: Iterable[Path], earlier: Mapping[str, Any]) -> dict[str, str]:
    """Say what files hold, in a form that is kept and given back the next time: they are read only if they changed.

    Args:
        files: in an order that tells them apart.
        earlier: what this said of them before, perhaps among other things; or nothing.

    Returns:
        `seen`, a digest of their names, sizes and times, and `content`, one of their bytes.

    Raises:
        DataError: one is missing or cannot be read.
    """
    files = list(files)
    try:
        seen = digest_of(*(f"{file} {(s := file.stat()).st_size} {s.st_mtime_ns}" for file in files))
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror or error}") from error
    if seen == earlier.get("seen") and isinstance(earlier.get("content"), str):
        return {"seen": seen, "content": earlier["content"]}
    return {"seen": seen, "content": digest_of(*map(DigestIndex().file_digest, files))}


def digest_of(*parts: str) -> str:
    """Return one digest of several texts."""
    return _digest(b"".join(part.encode("utf-8", "surrogatepass") + b"\0" for part in parts))


def content_files(source: Path) -> list[Path]:
    """List every file that an image or a label map consists of; those of a folder in the order of names.

    Raises:
        DataError: the source is missing.
    """
    if source.is_dir():
        return sorted(visible_files(source), key=name_order)
    if not source.is_file():
        raise DataError(f"{source}: no such file or folder")
    return [source, *_detached_files(source)]


def files_of(sources: Iterable[Path]) -> list[Path]:
    """List every file of several sources once; a source that is missing stands for itself."""
    files = (content_files(source) if source.exists() else [source] for source in sources)
    return list(dict.fromkeys(file for found in files for file in found))


def _detached_files(header: Path) -> list[Path]:
    """List the files that hold the voxels of a `.mhd` or `.nhdr` header."""
    if header.suffix.lower() not in (".mhd", ".nhdr"):
        return []
    text = header.read_bytes()[: 1 << 20]
    named = _DETACHED.search(text)
    if named is None:
        return []
    first = os.fsdecode(named[1])
    listed = [first.split()[0], *os.fsdecode(text[named.end() :]).splitlines()]
    names = listed[1:] if listed[0] == "LIST" else [first, *listed]
    pattern = re.sub(r"%\d*d", "*", listed[0])
    files = [header.parent / name.strip() for name in names if name.strip()]
    files += sorted(header.parent.glob(pattern)) if "*" in pattern else []
    return [file for file in dict.fromkeys(files) if file.is_file() and file != header]


def _state(file: Path) -> str:
    status = file.stat()
    return _digest(f"{status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}".encode())


def _read_index(path: Path) -> dict[str, tuple[str, str]]:
    """Read what is whole of an index; damaged lines are left out, so that their files are read again."""
    try:
        lines = path.read_bytes().decode("ascii", "replace").split("\n")
    except OSError:
        return {}
    entries: dict[str, tuple[str, str]] = {}
    for line in lines:
        parts = line.split(" ")
        if len(parts) == 4 and line == _line(*parts[1:]):
            entries[parts[1]] = (parts[2], parts[3])
    if len(lines) > 4 * len(entries) + _SPARE_LINES:
        with suppress(FullscaleError):  # what another process adds meanwhile is lost: its files are read again
            write_text(path, "".join(f"\n{_line(where, *rest)}\n" for where, rest in entries.items()))
    return entries


def _line(where: str, state: str, content: str) -> str:
    rest = f"{where} {state} {content}"
    return f"{_digest(rest.encode())[:8]} {rest}"


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
