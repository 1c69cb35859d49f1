"""Verbs train and settings: a network trained on labelled scans, and everything that can be set."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fullscale.cli.options import Anonymise, Dask, Json, TrainingsShard
from fullscale.cli.progress import progress_bar
from fullscale.cli.shares import Gathered, print_share, refuse_with_share
from fullscale.cli.show import print_json, print_status, print_summary, table
from fullscale.cli.stop import Stop
from fullscale.errors import FullscaleError
from fullscale.progress import Progress, ignore
from fullscale.runfolder import ALL, RunFolder

if TYPE_CHECKING:
    from fullscale.config.schema import Config
    from fullscale.scoring.summary import Summary
    from fullscale.training.group import Group
    from fullscale.training.request import TrainRequest
    from fullscale.work.cluster import Cluster


def train(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(help="Folder of labelled scans, or a CSV or JSON list.", show_default=False)],
    settings: Annotated[
        list[str] | None,
        typer.Argument(help="Settings, such as trainer.max_minutes=20 network.width=32.", show_default=False),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Run folder; default runs/NAME.")] = None,
    fold: Annotated[str, typer.Option(help="Folds that validate: 0, or 0,2 or 0-4; 'all' trains on every case.")] = "0",
    views: Annotated[
        str | None,
        typer.Option(help="slices,patches trains both and keeps the better, or both together, by the folds' cases."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML of settings, such as a run's config.yaml.")] = None,
    plan: Annotated[Path | None, typer.Option(help="An edited plan.json to follow.")] = None,
    splits: Annotated[
        Path | None,
        typer.Option(help="JSON file of folds, as nnU-Net's splits_final.json, in place of folds dealt out here."),
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of prepared cases; default the user's cache.")] = None,
    drop_bad_cases: Annotated[bool, typer.Option("--drop-bad-cases", help="Train without unusable cases.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read every file again, changed or not.")] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", help="Folds side by side, each with its share of the cores.", min=1)
    ] = 1,
    dask: Dask = None,
    shard: TrainingsShard = None,
    anonymise: Anonymise = None,
    json: Json = False,
) -> None:
    """Train a network on labelled scans and score it on those held back, fold by fold.

    The same command again goes on where it stopped. With --shard, a share of the folds. `fullscale settings` lists
    every setting.
    """
    from fullscale.config.load import load_config
    from fullscale.data.cache import default_cache
    from fullscale.data.layouts.find import find_dataset
    from fullscale.data.splits import parse_folds
    from fullscale.errors import UsageError
    from fullscale.files import safe_name
    from fullscale.training.request import TrainRequest
    from fullscale.training.run import train
    from fullscale.training.views import parse_views, train_views
    from fullscale.work.cluster import Cluster

    chosen = load_config(config, settings or [])
    folds = parse_folds(fold)
    apart = jobs > 1 or dask is not None or shard is not None
    if views is not None and apart:
        raise UsageError("--views trains one fold after the other: leave out --jobs, --dask and --shard")
    if splits is not None and folds == (ALL,):
        raise UsageError("--splits says which cases validate, and with --fold all none does: leave out one")
    if shard is not None:
        refuse_with_share({"--anonymise": anonymise}, "train all folds by one command")
    run = output or Path("runs") / safe_name(find_dataset(data).name)
    stop: Stop = context.obj
    with _processes(None if apart else chosen, stop) as (group, progress):
        request = TrainRequest(
            data=data,
            run=run,
            folds=folds,
            config=chosen,
            plan=plan,
            splits=splits,
            cache=cache or default_cache(),
            drop_bad_cases=drop_bad_cases,
            verify=verify,
            anonymise=anonymise,
            progress=progress,
            group=group,
            ending=stop,
        )
        if apart:
            _train_apart(request, jobs if dask is None else Cluster.parse(dask, jobs), shard, json)
            return
        summary = train(request) if views is None else train_views(request, parse_views(views))
    if group.is_helper:
        return
    _print_scores(summary, run, folds, json)


def _print_scores(summary: Summary, run: Path, folds: Sequence[str], json: bool) -> None:
    if json:
        print_json(summary.as_dict())
    else:
        print_summary(summary, f"Scores of the {_scored(folds)}")
    _print_places(RunFolder(run), folds)


def _train_apart(request: TrainRequest, workers: int | Cluster, shard: str | None, json: bool) -> None:
    """Train folds side by side, or a share of them; a fold that fails does not stop the others.

    Raises:
        PartialFailure: some failed.
    """
    from fullscale.errors import PartialFailure
    from fullscale.training.folds import train_folds
    from fullscale.work.shard import Shard

    summary, outcomes = train_folds(request, workers, None if shard is None else Shard.parse(shard))
    if shard is not None:
        print_share(shard, outcomes, len(request.folds), request.run, json)
        return
    failed = {outcome.name: outcome.failure() for outcome in outcomes if outcome.error is not None}
    done = [outcome.item for outcome in outcomes if outcome.error is None]
    if summary is not None:
        _print_scores(summary, request.run, done, json)
    for name, line in failed.items():
        print_status(f"failed: {name}: {line}")
    if failed:
        raise PartialFailure(f"{len(failed)} of {len(outcomes)} folds failed; the same command again goes on with them")


def gather_folds(asked: dict[str, Any], folder: Path, overwrite: bool, json: bool) -> Gathered:
    """Say which folds are missing; the model and the scores of a run are always those of its finished folds."""
    from fullscale.scoring.summary import read_summary
    from fullscale.training.folds import missing_folds

    del overwrite  # nothing is written
    run = RunFolder(folder.parent)
    missing = missing_folds(run, asked["folds"])
    done = [fold for fold in asked["folds"] if f"fold {fold}" not in missing]
    if done and not json:
        _print_scores(read_summary(run.summary), run.path, done, json)
    return Gathered([run.summary] if done else [], len(done), "folds", missing)


@contextmanager
def _processes(config: Config | None, stop: Stop) -> Iterator[tuple[Group, Progress]]:
    """Join the processes that train together, and show how far they are.

    All but the first one are silent, unless they know of an error alone.

    Args:
        config: tells on how many devices; None where each training is of one process.
        stop: what ends them all is said by the first one.
    """
    from fullscale.inference.runtimes.torch import choose_device
    from fullscale.training.group import ALONE, RankLost, join
    from fullscale.work.ranks import Ranks

    if config is None:
        with progress_bar("training") as progress:
            yield ALONE, progress
        return
    ranks = Ranks.of_environment()
    stop.silent = ranks.rank > 0
    if ranks.rank:
        logging.getLogger("fullscale").setLevel(logging.ERROR)
    shown = nullcontext(ignore) if ranks.rank else progress_bar("training")
    try:
        on_gpu = choose_device(config.trainer.device).type == "cuda"
        with join(ranks, config.trainer.devices, on_gpu) as group, shown as progress:
            yield group, progress
    except RankLost as error:
        if error.quiet:
            raise typer.Exit(error.exit_code) from error
        raise
    except FullscaleError as error:
        if ranks.rank:
            raise type(error)(f"rank {ranks.rank}: {error}") from error
        raise


def _scored(folds: Sequence[str]) -> str:
    """Say which cases the scores are of."""
    numbered = [fold for fold in folds if fold != ALL]
    if not numbered:
        return "training cases (none were held back)"
    together = f"validation cases of {'fold' if len(numbered) == 1 else 'folds'} {', '.join(numbered)}"
    return together + (" and the training cases of 'all'" if ALL in folds else "")


def _print_places(run: RunFolder, folds: Sequence[str]) -> None:
    """Say where the model of the run is and what it is made of, and where the scores are."""
    from fullscale.bundle.card import CARD, EnsembleCard, read_card

    card = read_card(run.bundle / CARD)
    members = list(card.members) if isinstance(card, EnsembleCard) else [run.fold(card.provenance["fold"]).path.name]
    print_status(f"model: {run.bundle} (made of {', '.join(members)}); scores: {run.summary}")
    if ALL in folds and run.fold(ALL).path.name not in members:
        print_status(f"the model trained on every case is not mixed with the folds: predict with {run.fold(ALL).path}")


def settings(
    chosen: Annotated[
        list[str] | None,
        typer.Argument(help="Settings to start from, such as network.name=unet++ for its options.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """List every setting of a run with its default, the options of network, loss, optimiser and augmentation included.

    The names to choose from follow the table.
    """
    from fullscale.config.load import load_config
    from fullscale.training.choices import REGISTRIES, check_choices, setting_rows

    config = load_config(None, chosen or [])
    check_choices(config)
    rows = list(setting_rows(config))
    names = {f"{section}.name": registry.names() for section, registry in REGISTRIES.items()}
    if json:
        print_json(
            {"settings": [dict(zip(("key", "value", "help"), row, strict=True)) for row in rows], "names": names}
        )
        return
    shown = [(key, "automatic" if value is None else str(value), text) for key, value, text in rows]
    table("Settings", ["key", "default", "what it does"], shown)
    for key, known in names.items():
        typer.echo(f"{key}: {', '.join(known)}, or package.module:Class")


COMMANDS = {"train": train, "settings": settings}
