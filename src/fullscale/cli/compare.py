"""Verb compare: several networks on the same data, at the same cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fullscale.cli.options import Anonymise, Dask, Json, Overwrite, TrainingsShard
from fullscale.cli.shares import Gathered, print_share, refuse_with_share
from fullscale.cli.show import print_json, print_line, print_status, table

if TYPE_CHECKING:
    from fullscale.compare.comparison import Comparison
    from fullscale.compare.results import Results
    from fullscale.compare.run import Outcome


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
    shard: TrainingsShard = None,
    anonymise: Anonymise = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Train several networks on the same splits, seed and budget; score, test and draw them side by side.

    The same command again goes on where it stopped. A row that fails does not stop the others (exit code 4). With
    --shard, a share of the trainings; `fullscale gather` joins the shares.
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
    from fullscale.compare.run import Job, run_comparison, train_share
    from fullscale.data.cache import default_cache
    from fullscale.outputs import claimed
    from fullscale.work.cluster import Cluster
    from fullscale.work.shard import Shard

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
    if shard is not None:
        refuse_with_share({"--anonymise": anonymise}, "train all rows by one command")
        outcomes = train_share(job, Shard.parse(shard), overwrite)
        print_share(shard, outcomes, len(comparison.rows) * comparison.folds, output, json)
        return
    with claimed(_files(output), [data, plan, rows], "compare", overwrite):
        results = _write(comparison, run_comparison(job), output)
    if json:
        print_json(results.as_dict())
    else:
        _print(results)
    print_status(f"results: {', '.join(map(str, _files(output)))}")
    if results.failed:
        raise PartialFailure(f"{len(results.failed)} of {len(results.lines)} rows lack scores; the others are done")


def gather_comparison(asked: dict[str, Any], folder: Path, overwrite: bool, json: bool) -> Gathered:
    """Join the trainings of all shares to one table; see `gather_scores`."""
    from fullscale.compare.comparison import Comparison
    from fullscale.compare.run import CLAIM, Job, joined_comparison
    from fullscale.documents import read_model
    from fullscale.outputs import claimed
    from fullscale.runfolder import RunFolder

    output = folder.parent
    comparison = read_model(output / CLAIM, Comparison, "the comparison")
    plan, data = (None if asked[name] is None else Path(asked[name]) for name in ("plan", "data"))
    assert data is not None
    job = Job(data, output, comparison, plan, drop_bad_cases=asked["drop_bad_cases"])
    outcomes, missing = joined_comparison(job)
    trained = len(comparison.rows) * comparison.folds - len(missing)
    if not any(RunFolder(outcome.run).scored() for outcome in outcomes):
        return Gathered([], trained, "trainings", missing)
    with claimed(_files(output), [data, plan], "compare", overwrite):
        results = _write(comparison, outcomes, output)
    if not json:
        _print(results)
    return Gathered(_files(output), trained, "trainings", missing)


def _files(output: Path) -> list[Path]:
    from fullscale.compare.tables import RESULTS

    return [*(output / name for name in RESULTS), output / "results.png"]


def _write(comparison: Comparison, outcomes: Sequence[Outcome], output: Path) -> Results:
    """Gather what the rows scored, and write table and figure."""
    from fullscale.compare.figure import comparison_figure
    from fullscale.compare.results import gather
    from fullscale.compare.tables import write_results
    from fullscale.reporting.figures import save_figure

    results = gather(comparison, outcomes)
    write_results(results, output)
    save_figure(comparison_figure(results), _files(output)[-1])
    return results


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
