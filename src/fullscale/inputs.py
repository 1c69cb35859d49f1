"""What is read, and what belongs to it: neither is ever replaced."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fullscale.errors import UsageError


@dataclass(frozen=True)
class Inputs:
    """What a command reads.

    Attributes:
        roots: files and folders, and the data sets that they belong to.
        files: what identifies each file under any name.
    """

    roots: list[Path]
    files: set[tuple[int, int]]

    @classmethod
    def of(cls, inputs: Iterable[Path | None]) -> Inputs:
        """Look at the paths that a command is given; None is none."""
        read = [path for path in inputs if path is not None]
        return cls([_root(path) for path in read], {identity for path in read if (identity := _identity(path))})

    def refuse(self, path: Path) -> None:
        """Refuse to write to a file that is read."""
        if _identity(path) in self.files:
            raise UsageError(f"{path} is an input, which the output would replace; choose another place")

    def refuse_within(self, path: Path) -> None:
        """Refuse to replace what belongs to an input."""
        within = next((root for root in self.roots if path.resolve().is_relative_to(root)), None)
        if within is not None:
            raise UsageError(f"{path} would be replaced, and it belongs to the input {within}; choose another place")


def require_no_input(outputs: Iterable[Path], inputs: Iterable[Path | None]) -> None:
    """Refuse to replace what is read, or belongs to it, for commands whose ledger knows what they wrote themselves.

    Args:
        outputs: files that will be written, without those that are known to be the command's own.
        inputs: files and folders that are read.

    Raises:
        UsageError: one of the outputs is there, and is an input or a part of one.
    """
    read = Inputs.of(inputs)
    for path in filter(os.path.lexists, outputs):
        read.refuse(path)
        read.refuse_within(path)


def _root(path: Path) -> Path:
    """Return what an input belongs to: the data set, where the path is one of its folders or a file in one."""
    path = path.resolve()
    folder = path if path.is_dir() else path.parent
    return folder.parent if (folder.parent / "dataset.json").is_file() else path


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what a file is under any name, be it a link; None for a folder, or where nothing is."""
    with suppress(OSError):
        status = path.stat()
        if path.is_file():
            return status.st_dev, status.st_ino
    return None
