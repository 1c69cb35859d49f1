"""Digests of files in the form that `sha256sum -c` reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from fullscale.bundle.store import file_sha256
from fullscale.documents import read_text
from fullscale.errors import DataError

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def digests_in(folder: Path, leave_out: str = "") -> dict[str, str]:
    """Return the SHA-256 of every plain file below a folder, by its way from there, but for `leave_out`.

    Raises:
        DataError: a file cannot be read.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    named = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: file_sha256(path) for name, path in named.items() if name != leave_out}


def manifest_of(digests: Mapping[str, str]) -> str:
    """Write digests as `sha256sum` does."""
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def read_manifest(path: Path) -> dict[str, str]:
    """Read digests by the names of their files.

    Raises:
        DataError: it cannot be read, is of another form, names a file twice, or one outside of its folder.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(read_text(path, "the list of digests").splitlines(), start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise DataError(f"{path}: line {number} is {line!r:.80}, expected a SHA-256, two spaces and a name")
        name = match[2]
        if name in found or name.startswith("/") or ".." in Path(name).parts:
            raise DataError(f"{path}: line {number} names {name!r:.80}, twice or outside of the folder")
        found[name] = match[1]
    return found
