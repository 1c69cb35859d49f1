"""Verbs about models and pictures: import-weights, overlay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_weights(
    source: Annotated[Path, typer.Argument(help="A .pth state dict written by the authors' code.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.", show_default=False)],
) -> None:
    """Bring weights of the authors' UNet 3+ into this one, strictly, and say which network they are."""
    from fullscale.networks.official import import_weights

    typer.echo(f"{import_weights(source, output)}: written to {output}")


def overlay(
    scan: Annotated[Path, typer.Argument(help="The scan.", show_default=False)],
    mask: Annotated[Path, typer.Argument(help="Its mask.", show_default=False)],
    truth: Annotated[Path | None, typer.Argument(help="The true mask.", show_default=False)] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG to write.")] = Path("overlay.png"),
    window: Annotated[str | None, typer.Option(help="Grey values from,to (HU for CT), such as -100,240.")] = None,
    names: Annotated[str | None, typer.Option(help="Names of labels, such as 1=liver,2=spleen.")] = None,
    slices: Annotated[int, typer.Option(help="Axial slices to show.", min=1)] = 6,
) -> None:
    """Draw a mask over its scan; with the truth, what was found, missed and invented."""
    from fullscale.data.read import read_image, read_label
    from fullscale.errors import UsageError
    from fullscale.evaluation.figures import write_overlay
    from fullscale.geometry.volume import require_same_grid

    try:
        limits = None if window is None else (float(window.split(",")[0]), float(window.split(",")[1]))
    except (ValueError, IndexError) as error:
        raise UsageError(f"--window {window!r} is not two numbers, such as -100,240") from error
    try:
        named = {int(v): n for v, _, n in (part.partition("=") for part in names.split(","))} if names else None
    except ValueError as error:
        raise UsageError(f"--names {names!r} is not of the form 1=liver,2=spleen") from error
    volume, labels = read_image(scan), read_label(mask, scan)
    require_same_grid(volume, labels, f"{scan} and {mask}")
    reference = read_label(truth, scan) if truth is not None else None
    if reference is not None:
        require_same_grid(volume, reference, f"{scan} and {truth}")
    write_overlay(output, volume, labels, reference, window=limits, names=named, slices=slices)
    typer.echo(str(output))


COMMANDS = {"import-weights": import_weights, "overlay": overlay}
