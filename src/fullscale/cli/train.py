"""Verbs train and settings: a network trained on labelled scans, and everything that can be set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fullscale.cli.show import Json, print_json, print_status, print_summary, table


def train(
    data: Annotated[Path, typer.Argument(help="Folder of labelled scans, or a CSV or JSON list.", show_default=False)],
    settings: Annotated[
        list[str] | None,
        typer.Argument(help="Settings, such as trainer.max_minutes=20 network.width=32.", show_default=False),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Run folder; default runs/NAME.")] = None,
    fold: Annotated[str, typer.Option(help="Fold that validates: 0, 1 ..., or 'all' to train on every case.")] = "0",
    config: Annotated[Path | None, typer.Option(help="YAML of settings, such as a run's config.yaml.")] = None,
    plan: Annotated[Path | None, typer.Option(help="An edited plan.json to follow.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of prepared cases; default the user's cache.")] = None,
    drop_bad_cases: Annotated[bool, typer.Option("--drop-bad-cases", help="Train without unusable cases.")] = False,
    json: Json = False,
) -> None:
    """Train a network on labelled scans and score it on those held back.

    The same command again goes on where it stopped. `fullscale settings` lists every setting.
    """
    from fullscale.config.load import load_config
    from fullscale.data.cache import default_cache
    from fullscale.data.layouts.find import find_dataset
    from fullscale.runfolder import RunFolder
    from fullscale.training.run import TrainRequest, train

    chosen = load_config(config, settings or [])
    run = output or Path("runs") / find_dataset(data).name.replace("/", "_")
    summary = train(
        TrainRequest(
            data=data,
            run=run,
            fold=fold,
            config=chosen,
            plan=plan,
            cache=cache or default_cache(),
            drop_bad_cases=drop_bad_cases,
            report=print_status,
            bar=sys.stderr.isatty() and not json,
        )
    )
    if json:
        print_json(summary.as_dict())
    else:
        title = "training cases (none were held back)" if fold == "all" else f"validation cases of fold {fold}"
        print_summary(summary, f"Scores of the {title}")
    folder = RunFolder(run)
    print_status(f"model: {folder.bundle}; scores: {folder.fold(fold).summary}")


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
