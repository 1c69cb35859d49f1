"""What may be written: never what is read, and no file of someone else's without their word.

A folder of results keeps a record of what was written into it, and by which command, so that the same command may
replace it later. A file that was changed since, such as a corrected mask, is not ours any more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fullscale.documents import digest_of, parse_json, read_json
from fullscale.errors import OutputError, UsageError
from fullscale.files import require_no_file_in_the_way, write_json, write_text
from fullscale.inputs import Inputs
from fullscale.work.ledger import FOLDER, Ledger

RECORD = ".fullscale.jsonl"
"""A line of JSON a file that was written here: its name, the command, size and time; the last line of a name counts."""

_SPARE_LINES = 1000
_HOLDS = "what"
_HOLDS_FILE = "holds-"


@dataclass(frozen=True)
class _Entry:
    """What the record says of a file.

    Attributes:
        by: the command that wrote it.
        state: its size and time of modification; None while it is being written.
        holds: digest of what is said of its content; None where nothing is.
    """

    by: str
    state: tuple[int, int] | None
    holds: str | None = None


def claim(
    outputs: Sequence[Path],
    inputs: Iterable[Path | None],
    by: str,
    overwrite: bool = False,
    folders: Sequence[Path] = (),
    holds: dict[str, Any] | None = None,
) -> None:
    """Check, before any work, every path that a command will write, and record them.

    Args:
        outputs: files that will be written.
        inputs: files and folders that are read.
        by: the command.
        overwrite: replace files that this command did not write; never those among the inputs, and no folder.
        folders: those that will be written as a whole, in place of all that they hold.
        holds: what the files hold, as plain values; `held` returns it.

    Raises:
        UsageError: something that is there must not be replaced.
        OutputError: the folder of an output cannot be written.
    """
    read = Inputs.of(inputs)
    everything = [*outputs, *folders]
    records = {parent: _read(parent) for parent in dict.fromkeys(path.parent for path in everything)}
    for parent in records:
        require_no_file_in_the_way(parent)
    for path in everything:
        nothing_there = not os.path.lexists(path) or (path in folders and path.is_dir() and not any(path.iterdir()))
        if not nothing_there:
            _require_ours(path, records[path.parent].get(path.name), read, by, overwrite)
        if path.is_dir() and path not in folders:
            raise UsageError(f"{path} is a folder, expected the name of a file to write")
    for parent in records:
        entries = [(path.name, _Entry(by, None, _digest(holds))) for path in everything if path.parent == parent]
        _append(parent, entries, holds)


@contextmanager
def claimed(
    outputs: Sequence[Path],
    inputs: Iterable[Path | None],
    by: str,
    overwrite: bool = False,
    folders: Sequence[Path] = (),
    holds: dict[str, Any] | None = None,
) -> Iterator[None]:
    """Check what the block will write, as `claim` does, and record what it wrote, however it ends."""
    everything = [*outputs, *folders]
    above = {parent for path in everything for parent in path.parents}
    made = sorted((parent for parent in above if not parent.exists()), key=lambda parent: -len(parent.parts))
    claim(outputs, inputs, by, overwrite, folders, holds)
    try:
        yield
    finally:
        record(everything, by, holds)
        for parent in made:  # nothing came of the work: no trace of it is left
            with suppress(OSError):
                parent.rmdir()


def held(files: Iterable[Path]) -> list[dict[str, Any]]:
    """Return what is said of the content of files that a command wrote, each different thing once.

    Of the masks of an archive its ledger says it, of all other files the record beside them.
    """
    found: dict[str, dict[str, Any]] = {}
    folders: dict[Path, tuple[dict[str, _Entry], dict[str, Any]]] = {}
    ledgers: dict[Path, dict[str, dict[str, Any]]] = {}
    for file in files:
        if file.parent not in folders:
            folders[file.parent] = _read(file.parent), _contents(file.parent)
        entries, contents = folders[file.parent]
        entry = entries.get(file.name)
        if entry is not None and entry.holds in contents:
            found[entry.holds] = contents[entry.holds]
        elif entry is None:
            for folder in file.parents[:2]:  # a case of an archive may have a folder of its own
                if folder not in ledgers:
                    ledgers[folder] = _by_ledger(folder)
                content = ledgers[folder].get(file.relative_to(folder).as_posix())
                if content is not None:
                    found[str(_digest(content))] = content
    return list(found.values())


def remember_holds(output: Path, how: str, holds: dict[str, Any]) -> None:
    """Write down what the files of every row hold that names `how` in its content; see `held`.

    Raises:
        OutputError: it cannot be written.
    """
    file = output / FOLDER / f"{_HOLDS_FILE}{how}.json"
    if not file.exists():
        write_json(file, holds)


def record(outputs: Sequence[Path], by: str, holds: dict[str, Any] | None = None) -> None:
    """Record which of the claimed files were written."""
    for folder in dict.fromkeys(path.parent for path in outputs):
        with suppress(OSError, OutputError):  # a disk that is full, or a folder that is gone: the work has said so
            here = [path for path in outputs if path.parent == folder]
            said = _digest(holds)
            _append(folder, [(path.name, _Entry(by, _state(path), said) if path.exists() else None) for path in here])
            if not _read(folder):
                (folder / RECORD).unlink()


def _by_ledger(output: Path) -> dict[str, dict[str, Any]]:
    """Say what each file holds that the cases of a ledger wrote, by its name from the folder of the results.

    Raises:
        DataError: the ledger cannot be read.
    """
    said = (output / FOLDER).glob(f"{_HOLDS_FILE}*.json")
    holds = {file.stem.removeprefix(_HOLDS_FILE): read_json(file, "what masks hold") for file in said}
    if not holds:
        return {}
    rows = (row.content for row in Ledger(output) if row.content.get("how") in holds)
    return {name: holds[content["how"]] for content in rows for name in content.get("files", {})}


def _require_ours(path: Path, entry: _Entry | None, read: Inputs, by: str, overwrite: bool) -> None:
    """Refuse to replace what is not this command's."""
    read.refuse(path)
    ours = entry is not None and (entry.state is None or (path.exists() and entry.state == _state(path)))
    if ours and entry is not None and entry.by == by:
        return
    if not ours:
        read.refuse_within(path)
    if path.is_dir():
        raise UsageError(f"{path} is a folder whose files fullscale {by} did not write; choose another place")
    if overwrite:
        return
    if ours and entry is not None:
        raise UsageError(f"{path} was written by fullscale {entry.by}; choose another place, or --overwrite")
    source = f" (so says {RECORD} beside it)" if (path.parent / RECORD).exists() else ""
    raise UsageError(f"{path} is there and was not written by fullscale{source}; choose another place, or --overwrite")


def _state(path: Path) -> tuple[int, int]:
    """Return size and time of a file, or those of all files in a folder."""
    files = [file.stat() for file in path.rglob("*")] if path.is_dir() else [path.stat()]
    return sum(file.st_size for file in files), max((file.st_mtime_ns for file in files), default=0)


def _digest(holds: dict[str, Any] | None) -> str | None:
    return None if holds is None else digest_of(holds, size=8)


def _append(folder: Path, entries: Sequence[tuple[str, _Entry | None]], holds: dict[str, Any] | None = None) -> None:
    """Add lines to the record, in one short write: parallel processes do not tear each other's lines."""
    lines = [] if holds is None else [json.dumps({_HOLDS: _digest(holds), "content": holds})]
    lines += [json.dumps({"name": name, **(vars(entry) if entry else {"by": None})}) for name, entry in entries]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / RECORD, "ab", buffering=0) as stream:
            stream.write("".join(f"\n{line}" for line in lines).encode() + b"\n")
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error


def _read(folder: Path) -> dict[str, _Entry]:
    """Return the record; what is damaged says nothing, so that its files are someone else's."""
    try:
        lines = (folder / RECORD).read_bytes().split(b"\n")
    except OSError:
        return {}
    found: dict[str, _Entry] = {}
    for line in filter(None, lines):
        name, entry = _parse(line)
        if entry is None:
            found.pop(name, None)
        else:
            found[name] = entry
    if len(lines) > 4 * len(found) + _SPARE_LINES:
        said = (json.dumps({_HOLDS: digest, "content": content}) for digest, content in _contents(folder).items())
        kept = [*said, *(json.dumps({"name": name, **vars(entry)}) for name, entry in found.items())]
        with suppress(OutputError):  # a folder that cannot be written is no reason to fail here
            write_text(folder / RECORD, "".join(f"\n{line}\n" for line in kept))
    return found


def _contents(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what the record says that files hold, by its digest; what is damaged says nothing."""
    try:
        lines = (folder / RECORD).read_bytes().split(b"\n")
    except OSError:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for line in (line for line in lines if line.startswith(b'{"' + _HOLDS.encode())):
        with suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
            content: Any = parse_json(line.decode())
            if content[_HOLDS] == _digest(content["content"]):
                found[content[_HOLDS]] = content["content"]
    return found


def _parse(line: bytes) -> tuple[str, _Entry | None]:
    try:
        content: Any = parse_json(line.decode())
        name, by, state = content["name"], content["by"], content.get("state")
        size_and_time = None if state is None else (int(state[0]), int(state[1]))
        holds = content.get("holds")
        return str(name), None if by is None else _Entry(str(by), size_and_time, None if holds is None else str(holds))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "", None
