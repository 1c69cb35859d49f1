"""Words of a command, read by the real command without its work."""

from collections.abc import Sequence
from typing import Any

from typer.main import get_command

from fullscale.cli.app import app


def without_work(command: Any) -> Any:
    """The command and those below it, which read their words and then do nothing."""
    command.callback = lambda **_: None
    for below in getattr(command, "commands", {}).values():
        without_work(below)
    return command


def read_by_the_command(words: Sequence[str]) -> None:
    """Let the real command read these words; what it does not know, or lacks, raises."""
    without_work(get_command(app)).main(list(words), standalone_mode=False)
