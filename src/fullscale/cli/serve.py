"""Verb serve: models behind HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fullscale.cli.options import RuntimeOption
from fullscale.cli.progress import progress_bar
from fullscale.cli.send import AeTitle
from fullscale.cli.show import print_status
from fullscale.text import counted

if TYPE_CHECKING:
    from fullscale.serve.pacs.exchange import ExchangeOptions

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def serve(
    models: Annotated[
        list[str], typer.Argument(help="Run folders, bundles or .onnx files; NAME=PATH names one.", show_default=False)
    ],
    data: Annotated[
        Path | None, typer.Option(help="Folder of cases that can be asked for by name.", show_default=False)
    ] = None,
    state: Annotated[Path, typer.Option(help="Folder of jobs, uploads and results; nobody else can read it.")] = Path(
        "fullscale-serve"
    ),
    host: Annotated[str, typer.Option(help="Address; any but loopback needs --token-file.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for any that is free.", min=0, max=65535)] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with the token that requests must carry as a bearer token.", show_default=False),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="Page elsewhere that may use the service from a browser: https://viewer.example."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Jobs at a time, each with one model in memory.", min=1)] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    runtime: RuntimeOption = "auto",
    keep: Annotated[str, typer.Option(help="How long files of a job are kept after its end: 30m, 12h, 7d.")] = "7d",
    max_waiting: Annotated[int, typer.Option(help="Jobs that may wait.", min=1)] = 1000,
    max_upload: Annotated[float, typer.Option(help="GiB of one upload.", min=1e-4)] = 4.0,
    upload_time: Annotated[str, typer.Option(help="How long one upload may take.")] = "10m",
    rules: Annotated[
        Path | None,
        typer.Option(help="YAML: which series of a PACS go to which model, and where to.", show_default=False),
    ] = None,
    pacs: Annotated[
        str | None,
        typer.Option(help="PACS to look for studies: https://HOST/dicom-web, or AET@HOST:PORT.", show_default=False),
    ] = None,
    dicom_port: Annotated[
        int | None,
        typer.Option(help="Receive studies by C-STORE here; 0 for any that is free.", min=0, max=65535),
    ] = None,
    ae_title: AeTitle = "FULLSCALE",
) -> None:
    """Serve models over HTTP: a queue of jobs that survives a restart, with progress, masks and volumes.

    With --rules, studies that a PACS has or sends are segmented, and the DICOM SEG goes where the rules say.

    The routes are listed at /docs. Ctrl-C or SIGTERM ends it; what runs then waits for the next start.
    """
    from fullscale.extras import needs

    with needs("serve", "The service and its jobs"):
        from fullscale.serve.recent import RecentLines
        from fullscale.serve.security import read_token, require_token
        from fullscale.serve.server import bound_socket, url_of
        from fullscale.serve.server import serve as serve_until_told
        from fullscale.serve.service import find_cases, opened_service
        from fullscale.serve.settings import ServeSettings, named_models

    token = None if token_file is None else read_token(token_file)
    require_token(host, token)
    settings = ServeSettings(
        named_models(models),
        state,
        data,
        device,
        workers,
        parse_duration(keep, "--keep"),
        max_waiting,
        round(max_upload * 2**30),
        parse_duration(upload_time, "--upload-time"),
        runtime=runtime,
    )
    exchange_options = read_exchange(rules, pacs, host, dicom_port, ae_title, settings.models)
    with bound_socket(host, port) as taken:
        with progress_bar("looking") as progress:
            cases = find_cases(settings, progress)
        with opened_service(settings, cases) as service:
            exchange = None if exchange_options is None else exchange_options.of(service)

            def ready() -> None:
                names = ", ".join(settings.models)
                print_status(f"serving {counted(len(settings.models), 'model')} ({names}) at {url_of(taken)}")
                print_status(f"routes: {url_of(taken)}/docs; jobs and results: {state}, kept for {settings.kept}")
                if exchange is not None:
                    print_status(exchange.describe())

            with RecentLines.of("fullscale") as recent:
                serve_until_told(service, taken, recent, token, allow_origin or [], ready, exchange)


def read_exchange(
    rules: Path | None,
    pacs: str | None,
    host: str,
    port: int | None,
    title: str,
    models: Iterable[str],
) -> ExchangeOptions | None:
    """Read `--rules` and what belongs to it; None where nothing is exchanged with a PACS.

    Raises:
        UsageError: an option is given that needs the others, or one is wrong.
        DataError: the rule file is wrong.
    """
    from fullscale.errors import UsageError
    from fullscale.extras import needs

    if rules is None:
        if pacs is not None or port is not None:
            raise UsageError("--pacs and --dicom-port need --rules, a file that says what becomes of a study")
        return None
    with needs("pacs", "Rules for a PACS"):
        from fullscale.serve.pacs.exchange import ExchangeOptions
        from fullscale.serve.pacs.rules import read_rules

    options = ExchangeOptions(read_rules(rules, models, pacs), pacs, host, port, title)
    options.check()
    return options


def parse_duration(text: str, option: str) -> float:
    """Read `90s`, `30m`, `12h` or `7d` as seconds.

    Raises:
        UsageError: it is not of this form.
    """
    from fullscale.errors import UsageError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found is None or float(found[1]) == 0:
        raise UsageError(f"{option} {text!r} is not of the form 90s, 30m, 12h or 7d")
    return float(found[1]) * UNITS[found[2]]


COMMANDS = {"serve": serve}
