"""What may be written: never what is read, and no file of someone else's without their word.

A folder of results keeps a record of what was written into it, so that the same command may replace it later. A file
that was changed since, such as a corrected mask, is not ours any more.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fullscale.documents import read_json
from fullscale.errors import DataError, UsageError
from fullscale.files import write_json

RECORD = ".fullscale.json"
"""By name, size and time of modification of each file that was written here; null while it is being written."""


def claim(folder: Path, outputs: Sequence[Path], inputs: Iterable[Path], overwrite: bool = False) -> None:
    """Check, before any work, every path that will be written into a folder, and record them.

    Args:
        folder: of the results.
        outputs: the files in it that will be written.
        inputs: files and folders that are read.
        overwrite: replace files that this program did not write; never those among the inputs.

    Raises:
        UsageError: a file that is there must not be replaced.
    """
    written, roots = _read(folder), [_root(path) for path in inputs]
    for path in outputs:
        if not path.exists() or _is_ours(path, written):
            continue
        within = [root for root in roots if path.resolve().is_relative_to(root)]
        if within:
            raise UsageError(
                f"{path} would be replaced, and it belongs to the input {within[0]}; choose another folder"
            )
        if not overwrite:
            source = f" (so says {RECORD} beside it)" if (folder / RECORD).exists() else ""
            raise UsageError(
                f"{path} is there and was not written by fullscale{source}; choose another folder, or --overwrite"
            )
    write_json(folder / RECORD, written | {path.name: None for path in outputs})


@contextmanager
def claimed(folder: Path, outputs: Sequence[Path], inputs: Iterable[Path], overwrite: bool = False) -> Iterator[None]:
    """Check what the block will write into a folder, as `claim` does, and record what it wrote, however it ends."""
    was_there = folder.exists()
    claim(folder, outputs, inputs, overwrite)
    try:
        yield
    finally:
        record(folder, outputs)
        if not was_there and not any(path.name != RECORD for path in folder.iterdir()):
            shutil.rmtree(folder)  # nothing came of the work: no trace of it is left


def record(folder: Path, outputs: Sequence[Path]) -> None:
    """Record which of the claimed files were written."""
    others = {name: state for name, state in _read(folder).items() if name not in {path.name for path in outputs}}
    write_json(folder / RECORD, others | {path.name: _state(path) for path in outputs if path.exists()})


def require_not_read(output: Path | None, inputs: Iterable[Path | None]) -> None:
    """Refuse an output file that is one of the inputs, under whatever name.

    Raises:
        UsageError: it is.
    """
    if output is None or not output.exists():
        return
    for path in inputs:
        if path is not None and path.exists() and os.path.samefile(path, output):
            raise UsageError(f"the output {output} is the input {path}, which it would replace; choose another name")


def _root(path: Path) -> Path:
    """Return what an input belongs to: the data set, where the path is one of its folders."""
    path = path.resolve()
    return path.parent if path.is_dir() and (path.parent / "dataset.json").is_file() else path


def _is_ours(path: Path, written: dict[str, Any]) -> bool:
    return path.name in written and written[path.name] in (None, _state(path))


def _state(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _read(folder: Path) -> dict[str, Any]:
    """Return the record; a damaged one says nothing, so that all files are someone else's."""
    try:
        content = read_json(folder / RECORD)
    except DataError:
        return {}
    return content if isinstance(content, dict) else {}
