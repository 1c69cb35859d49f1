"""The command's frame: its verbs, and what becomes of an error."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from fullscale.cli import (
    archive,
    bench,
    compare,
    data,
    demo,
    evaluate,
    evidence,
    gather,
    letters,
    model,
    paper,
    predict,
    report,
    search,
    send,
    serve,
    train,
)
from fullscale.cli.logs import status_on_stderr
from fullscale.cli.show import print_status
from fullscale.cli.stop import Stop
from fullscale.errors import FullscaleError

app = typer.Typer(
    name="fullscale",
    help="Medical image segmentation with UNet 3+: from a folder of labelled scans to masks and honest scores.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("fullscale"))
        raise typer.Exit


@app.callback()
def frame(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    _: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Options that stand before the verb."""
    if debug:
        os.environ["FULLSCALE_DEBUG"] = "1"


for module in (
    demo,
    data,
    train,
    predict,
    archive,
    gather,
    evaluate,
    compare,
    search,
    report,
    evidence,
    send,
    serve,
    letters,
    model,
    paper,
):
    for name, command in module.COMMANDS.items():
        app.command(name)(command)
app.add_typer(bench.app, name="bench")


def run(stop: Stop) -> None:
    """Run the command; an error becomes one line on standard error and its exit code, unless a signal stopped it."""
    try:
        with status_on_stderr():
            app(prog_name="fullscale", obj=stop)
    except BaseException as error:
        if stop.told is None:
            _explain(error)
        raise


def _explain(error: BaseException) -> None:
    """Say in a line what went wrong, and end; what ends the command by itself is left alone."""
    match error:
        case FullscaleError():
            _fail(str(error), error.exit_code, error)
        case BrokenPipeError():
            os._exit(0)
        case OSError():  # what the machine refuses, such as one more open file, is no fault of the program
            place = f"{error.filename}: " if error.filename else ""
            _fail(f"{place}{error.strerror or error}", 1, error)
        case MemoryError():
            _fail(f"more memory is needed than there is ({error or 'none is left'})", 1, error)
        case Exception():
            _fail(f"unexpected {type(error).__name__}: {error} (fullscale --debug ... shows where)", 1, error)


def _fail(text: str, code: int, error: Exception) -> None:
    if os.environ.get("FULLSCALE_DEBUG"):
        raise error
    print_status("fullscale: " + " ".join(text.split()))
    sys.stdout.flush()
    sys.exit(code)
