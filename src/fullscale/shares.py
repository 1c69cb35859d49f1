"""What the shares of a command have in common: written by each of them, and read by what joins them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fullscale.documents import digest_of, read_json
from fullscale.errors import DataError, UsageError
from fullscale.files import write_json
from fullscale.work.ledger import Ledger

MASKS = ".masks.ledger"
"""Folder of the journals of masks that are scored by the same command; those of the scores lie beside it."""
_FILE = "request.json"


def remember_request(folder: Path, command: str, asked: Mapping[str, Any], overwrite: bool = False) -> None:
    """Write down what a command was asked, or find that another share was asked the same.

    Args:
        folder: of the journals.
        command: its verb.
        asked: plain values of JSON.
        overwrite: replace what was asked before.

    Raises:
        UsageError: another share was asked something else.
        OutputError: it cannot be written.
    """
    file, content = folder / _FILE, {"command": command, **asked}
    if file.is_file() and not overwrite:
        before = read_request(folder)
        changed = [key for key in content if before.get(key) != content[key]]
        if changed:
            key = changed[0]
            raise UsageError(
                f"{folder.parent} was begun with another {key} ({before.get(key)}, not {content[key]}): give all "
                "shares the same, choose another place with -o, or begin again with --overwrite"
            )
        return
    write_json(file, {"asked": content, "digest": digest_of(content)})


def read_request(folder: Path) -> dict[str, Any]:
    """Read what the shares of a command were asked.

    Raises:
        DataError: it is not there, cannot be read, or is not what was written.
    """
    content = read_json(folder / _FILE, "the request of the shares")
    whole = isinstance(content, dict) and isinstance(content.get("asked"), dict)
    if not whole or content.get("digest") != digest_of(content["asked"]):
        raise DataError(f"{folder / _FILE}: has changed since it was written; give the command with --overwrite again")
    asked: dict[str, Any] = content["asked"]
    return asked


def requests_in(output: Path) -> list[Path]:
    """List the folders of journals in an output folder whose commands were told to share their work."""
    return sorted(file.parent for file in output.glob(f".*/{_FILE}"))


def shared_ledgers(output: Path) -> dict[str, Ledger]:
    """Read the ledgers of commands that share their work, each by what it is of.

    Raises:
        DataError: one cannot be read.
    """
    ledgers: dict[str, Ledger] = {}
    for folder in requests_in(output):
        command = read_request(folder)["command"]
        if (output / MASKS).is_dir() and command == "test":
            ledgers["masks of test"] = Ledger(output, MASKS)
        ledgers["scores of test" if command == "test" else command] = Ledger(output, folder.name)
    return ledgers
