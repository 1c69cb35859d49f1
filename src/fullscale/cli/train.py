"""Verbs train and settings: a network trained on labelled scans, and everything that can be set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fullscale.cli.options import Anonymise, Json
from fullscale.cli.progress import progress_bar
from fullscale.cli.show import print_json, print_status, print_summary, table
from fullscale.runfolder import ALL, RunFolder


def train(
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
    cache: Annotated[Path | None, typer.Option(help="Folder of prepared cases; default the user's cache.")] = None,
    drop_bad_cases: Annotated[bool, typer.Option("--drop-bad-cases", help="Train without unusable cases.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read every file again, changed or not.")] = False,
    anonymise: Anonymise = None,
    json: Json = False,
) -> None:
    """Train a network on labelled scans and score it on those held back, fold by fold.

    The same command again goes on where it stopped. `fullscale settings` lists every setting.
    """
    from fullscale.config.load import load_config
    from fullscale.data.cache import default_cache
    from fullscale.data.layouts.find import find_dataset
    from fullscale.data.splits import parse_folds
    from fullscale.files import safe_name
    from fullscale.training.fit import is_helper
    from fullscale.training.request import TrainRequest
    from fullscale.training.run import train
    from fullscale.training.views import parse_views, train_views

    chosen = load_config(config, settings or [])
    run = output or Path("runs") / safe_name(find_dataset(data).name)
    folds = parse_folds(fold)
    with progress_bar("training") as progress:
        request = TrainRequest(
            data=data,
            run=run,
            folds=folds,
            config=chosen,
            plan=plan,
            cache=cache or default_cache(),
            drop_bad_cases=drop_bad_cases,
            verify=verify,
            anonymise=anonymise,
            progress=progress,
        )
        summary = train(request) if views is None else train_views(request, parse_views(views))
    if is_helper():
        return
    if json:
        print_json(summary.as_dict())
    else:
        print_summary(summary, f"Scores of the {_scored(folds)}")
    _print_places(RunFolder(run), folds)


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
