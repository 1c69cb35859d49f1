"""Verb search: settings found by trials."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fullscale.cli.options import Anonymise, Dask, Json, Overwrite
from fullscale.cli.shares import model_test
from fullscale.cli.show import print_json, print_line, print_status, table

if TYPE_CHECKING:
    from fullscale.search.results import Apart, HeldOut
    from fullscale.search.run import Found, Job


def search(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(help="Folder of labelled scans, or a CSV or JSON list.", show_default=False)],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            help="Searched: network.width=8,16,32 optimizer.learning_rate=1e-4..1e-2:log; one value holds for all.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the trials and what they find.")] = Path(
        "search"
    ),
    space: Annotated[
        Path | None, typer.Option(help="YAML of what is searched, beside the words.", show_default=False)
    ] = None,
    trials: Annotated[int, typer.Option(help="In all; those that are done count.", min=2)] = 20,
    minutes_each: Annotated[
        float | None, typer.Option(help="Minutes of each trial.", min=0.01, show_default=False)
    ] = None,
    clock: Annotated[
        Literal["wall", "processor"], typer.Option(help="Of the minutes; processor, for a shared machine.")
    ] = "wall",
    steps_each: Annotated[int | None, typer.Option(help="Or steps of each trial.", min=1, show_default=False)] = None,
    validate_every: Annotated[int, typer.Option(help="Steps between validations.", min=1)] = 250,
    fold: Annotated[int, typer.Option(help="That holds back the cases by which trials are judged.", min=0)] = 0,
    no_prune: Annotated[
        bool, typer.Option("--no-prune", help="Train those to their end that lie behind the median of the others.")
    ] = False,
    test: Annotated[
        Path | None, typer.Option(help="Labelled scans kept apart: the winner is scored on them.", show_default=False)
    ] = None,
    plan: Annotated[Path | None, typer.Option(help="An edited plan.json to follow.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of prepared cases; default the user's cache.")] = None,
    drop_bad_cases: Annotated[bool, typer.Option("--drop-bad-cases", help="Train without unusable cases.")] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", help="Trials side by side, each with its share of the cores.", min=1)
    ] = 1,
    dask: Dask = None,
    anonymise: Anonymise = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Find settings by trials: trainings of equal cost on one fold, whose settings Optuna suggests.

    The same command again goes on where it stopped; a larger --trials adds to it. Each trial is a run folder.

    Where no setting has several values, learning rate, loss and the share of crops on structures are searched.
    """
    from fullscale.search.search import load_search

    asked = load_search(
        space,
        settings or [],
        minutes_each=minutes_each,
        steps_each=steps_each,
        clock=clock,
        validate_every=validate_every,
        fold=fold,
        prune=not no_prune,
    )
    from fullscale.data.cache import default_cache
    from fullscale.outputs import claimed
    from fullscale.search.results import BEST, RESULTS, Apart, read_held_out, write_results
    from fullscale.search.run import Job, begin_search, run_search
    from fullscale.search.study import Study
    from fullscale.work.cluster import Cluster

    Study.require_installed()
    logging.getLogger("optuna").setLevel(logging.WARNING)  # it prints by itself that it made a study
    job = Job(
        *(data, output, asked, trials, plan, cache or default_cache(), drop_bad_cases),
        jobs=jobs if dask is None else Cluster.parse(dask, jobs),
        anonymise=anonymise,
        ending=context.obj,
    )
    files = [output / RESULTS, output / BEST]
    with claimed(files, [data, plan, space, test], "search", overwrite):
        apart = None if test is None else Apart.of(test, asked.config(), job.cache)
        inputs, held_back = begin_search(job)
        if apart is not None:
            apart.require_unseen(inputs)
        held_out = read_held_out(output)
        found = run_search(job, inputs, held_back)
        if apart is not None and test is not None:
            held_out = _score(job, found, test, apart, held_out)
        content = write_results(job, found, held_out)
    if json:
        print_json(content)
    else:
        _print(job, found, content["notes"])
    _end(job, found, files)


def _score(job: Job, found: Found, test: Path, apart: Apart, earlier: list[HeldOut]) -> list[HeldOut]:
    """Score the winner on the cases that were kept apart."""
    from fullscale.search.results import TESTED, score_held_out

    if found.best is None:
        return earlier
    given = dict.fromkeys(("labels", "regions", "ignore")) | {"tolerance_mm": "1", "anonymise": job.anonymise}
    given |= {"model": str(job.run(found.best.number).path), "data": str(test)}
    device = job.search.config().trainer.device
    return score_held_out(model_test(given, job.output / TESTED, device), apart, found.best.number, earlier)


def _print(job: Job, found: Found, notes: list[str]) -> None:
    """Print the trials, what mattered, and what the figures are worth."""
    keys = list(job.search.space)
    rows = [
        [
            record.number,
            "best" if record is found.best else record.state,
            "" if record.dice is None else f"{record.dice:.4f}",
            *(_number(record.settings.get(key, "")) for key in keys),
        ]
        for record in found.records
    ]
    table(f"{len(rows)} trials, {job.search.budget}, fold {job.search.fold}", ["trial", "state", "Dice", *keys], rows)
    if found.importance is not None:
        shares = ", ".join(f"{key} {share:.0%}" for key, share in found.importance.items())
        print_line(f"what explains the differences: {shares}")
    for line in notes:
        print_line(line)


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _end(job: Job, found: Found, files: list[Path]) -> None:
    """Say where the results are, and which trials failed.

    Raises:
        DataError: none could be finished.
        PartialFailure: some failed.
    """
    from fullscale.errors import DataError, PartialFailure

    failed = [record for record in found.records if record.state == "failed"]
    for record in failed:
        print_status(f"failed: trial {record.number}: {record.error}")
    if found.best is None:
        raise DataError(f"no trial of {job.output} could be finished")
    print_status(f"results: {', '.join(map(str, files))}; the model of the best: {job.run(found.best.number).bundle}")
    if failed:
        raise PartialFailure(f"{len(failed)} of {len(found.records)} trials failed; the others are done")


COMMANDS = {"search": search}
