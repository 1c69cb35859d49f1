"""Verb compare: several networks on the same data, at the same cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fullscale.cli.options import Anonymise, Dask, Json, Overwrite
from fullscale.cli.show import print_json, print_line, print_status, table

if TYPE_CHECKING:
    from fullscale.compare.results import Results


def compare(
    data: Annotated[Path, typer.Argument(help="Folder of labelled scans, or a CSV or JSON list.", show_default=False)],
    settings: Annotated[
        list[str] | None, typer.Argument(help="Settings of every row, such as network.width=16.", show_default=False)
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the runs and the results.")] = Path(
        "comparison"
    ),
    networks: Annotated[str | None, typer.Option(help="Names, such as unet,unet++,unet3+.", show_default=False)] = None,
    rows: Annotated[
        Path | None, typer.Option(help="YAML of the rows instead: each a name and its settings.", show_default=False)
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Folds to train and score, of data.folds; default 3.", min=1)
    ] = None,
    minutes_each: Annotated[
        float | None, typer.Option(help="Minutes of each row and fold.", min=0.01, show_default=False)
    ] = None,
    clock: Annotated[
        Literal["wall", "processor"] | None,
        typer.Option(help="Of the minutes: wall (default), or processor, for a shared machine.", show_default=False),
    ] = None,
    steps_each: Annotated[
        int | None, typer.Option(help="Or steps of each row and fold.", min=1, show_default=False)
    ] = None,
    validate_every: Annotated[
        int | None, typer.Option(help="Steps between validations; default 250.", min=1, show_default=False)
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Row that the others are tested against; default unet3+, or the last.")
    ] = None,
    plan: Annotated[Path | None, typer.Option(help="An edited plan.json to follow.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of prepared cases; default the user's cache.")] = None,
    drop_bad_cases: Annotated[bool, typer.Option("--drop-bad-cases", help="Train without unusable cases.")] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", help="Trainings side by side, each with its share of the cores.", min=1)
    ] = 1,
    dask: Dask = None,
    anonymise: Anonymise = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Train several networks on the same splits, seed and budget; score, test and draw them side by side.

    The same command again goes on where it stopped. A row that fails does not stop the others (exit code 4).
    """
    from fullscale.compare.comparison import load_comparison, rows_of
    from fullscale.config.load import parse_override
    from fullscale.errors import PartialFailure, UsageError

    if (networks is None) == (rows is None):
        raise UsageError("say what to compare: --networks unet,unet3+ or --rows FILE.yaml, one of the two")
    comparison = load_comparison(
        rows,
        rows=None if networks is None else rows_of([name.strip() for name in networks.split(",")]),
        folds=folds,
        minutes_each=minutes_each,
        steps_each=steps_each,
        clock=clock,
        validate_every=validate_every,
        reference=reference,
        settings=dict(map(parse_override, settings or [])),
    )
    from fullscale.compare.figure import write_figure
    from fullscale.compare.results import gather
    from fullscale.compare.run import Job, run_comparison
    from fullscale.compare.tables import RESULTS, write_results
    from fullscale.data.cache import default_cache
    from fullscale.outputs import claimed
    from fullscale.work.cluster import Cluster

    job = Job(
        data,
        output,
        comparison,
        plan,
        cache or default_cache(),
        drop_bad_cases,
        jobs if dask is None else Cluster.parse(dask, jobs),
        anonymise,
    )
    written = [*(output / name for name in RESULTS), output / "results.png"]
    with claimed(written, [data, plan, rows], "compare", overwrite):
        results = gather(comparison, run_comparison(job))
        write_results(results, output)
        write_figure(results, written[-1])
    if json:
        print_json(results.as_dict())
    else:
        _print(results)
    print_status(f"results: {', '.join(map(str, written))}")
    if results.failed:
        raise PartialFailure(f"{len(results.failed)} of {len(results.lines)} rows lack scores; the others are done")


def _print(results: Results) -> None:
    """Print costs and surfaces, then Dice with its intervals, then the tests: one table would not fit a terminal."""
    from fullscale.compare.tables import header, notes, rows

    names, lines = header(results), rows(results)
    costs, dice = [*range(5), len(names) - 3, len(names) - 2], [0, *range(5, len(names) - 3)]
    for title, columns in ((f"{results.dataset}, {results.budget}", costs), ("Dice, 95 % interval", dice)):
        table(title, [names[k] for k in columns], [[line[k] for k in columns] for line in lines])
    for line in lines:
        print_line(f"{line[0]}: {line[-1]}" if line[-1] == "reference" else f"{line[0]} {names[-1]}: {line[-1]}")
    for note in notes(results):
        print_line(note)


COMMANDS = {"compare": compare}
