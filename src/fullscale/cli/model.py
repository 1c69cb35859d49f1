"""Verbs about models and pictures: export, import-weights, overlay."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fullscale.cli.show import Json, Labels, news, parse_labels, print_json

if TYPE_CHECKING:
    from fullscale.geometry.volume import Volume


def export(
    model: Annotated[Path, typer.Argument(help="A run folder or a bundle.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file, model.onnx or model.pt2.")] = Path(
        "model.onnx"
    ),
    format: Annotated[
        Literal["onnx", "torch"], typer.Option(help="onnx, or torch: a program of torch.export, for your own code.")
    ] = "onnx",
    form: Annotated[
        Literal["factored", "direct"], typer.Option(help="How up-sampled skips are computed; factored is quicker.")
    ] = "factored",
    json: Json = False,
) -> None:
    """Write a model for other runtimes, its card (.json) beside it, once it has answered like PyTorch.

    Batch and size stay free. `fullscale predict model.onnx SCAN` segments with the file and its card alone.
    """
    from fullscale.export import export_model

    done = export_model(model, output, format, form, None if json else lambda case: typer.echo(case.describe()))
    if json:
        print_json(done.as_dict())
    news(f"answers like PyTorch: {done.model}, with its card {done.card}")


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
    labels: Labels = None,
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
    names = parse_labels(labels)
    volume = read_image(scan)

    def read(path: Path) -> Volume:
        label_map = read_label(path, scan)
        require_same_grid(volume, label_map, f"{scan} and {path}")
        return label_map if names is None else _only(label_map, names)

    reference = None if truth is None else read(truth)
    write_overlay(output, volume, read(mask), reference, window=limits, names=names, slices=slices)
    typer.echo(str(output))


def _only(label_map: Volume, labels: Iterable[int]) -> Volume:
    import numpy as np

    return label_map.with_array(np.where(np.isin(label_map.array, list(labels)), label_map.array, 0))


COMMANDS = {"export": export, "import-weights": import_weights, "overlay": overlay}
