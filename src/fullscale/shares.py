"""What the shares of a command have in common: written by each of them, and read by what joins them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fullscale.documents import read_json
from fullscale.errors import DataError, UsageError
from fullscale.files import write_json

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
    write_json(file, content)


def read_request(folder: Path) -> dict[str, Any]:
    """Read what the shares of a command were asked.

    Raises:
        DataError: it is not there, or cannot be read.
    """
    content = read_json(folder / _FILE, "the request of the shares")
    if not isinstance(content, dict) or "command" not in content:
        raise DataError(f"{folder / _FILE}: names no command; give the command with --shard again")
    return content


def requests_in(output: Path) -> list[Path]:
    """List the folders of journals in an output folder whose commands were told to share their work."""
    return sorted(file.parent for file in output.glob(f".*/{_FILE}"))
