"""Verb letters: what the exchange with a PACS could not do, for a person to put back or drop."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from fullscale.cli.options import Json
from fullscale.cli.show import print_json, print_line, print_status
from fullscale.text import printable


def letters(
    state: Annotated[Path, typer.Argument(help="Folder of the service: its --state.", show_default=False)],
    retry: Annotated[list[int] | None, typer.Option(help="Number of a letter to put back: it is tried again.")] = None,
    drop: Annotated[list[int] | None, typer.Option(help="Number of a letter to drop for good.")] = None,
    json: Json = False,
) -> None:
    """List the dead letters of a service: each study that could not be taken, segmented or sent, and what to do.

    Works while the service runs, and while it does not.
    """
    from fullscale.serve.pacs.letters import Letters

    box = Letters.of(state)
    for number in retry or []:
        print_status(f"put back: {box.put_back(number).why}")
    for number in drop or []:
        print_status(f"dropped: {box.drop(number).why}")
    found = box.all()
    if json:
        print_json({"letters": [vars(letter) for letter in found]})
        return
    for letter in found:
        at = f"{datetime.fromtimestamp(letter.at).astimezone():%Y-%m-%d %H:%M}"
        print_line(
            f"{letter.number}  {at}  study {printable(letter.study) or 'unknown'}  {printable(letter.why)}  "
            f"(attempts: {letter.attempts})  {letter.remedy}"
        )
    if not found:
        print_status("no letters: everything that came was taken, segmented and sent, or is on its way")


COMMANDS = {"letters": letters}
