"""Verbs about models: export, import-weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fullscale.cli.options import Json, Overwrite, parse_labels
from fullscale.cli.show import print_json, print_line, print_status

if TYPE_CHECKING:
    from fullscale.data.labels import LabelScheme
    from fullscale.data.recipe import Intensity, Recipe


def export(
    model: Annotated[Path, typer.Argument(help="A run folder or a bundle.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="model.onnx, model.xml or model.pt2.")] = Path(
        "model.onnx"
    ),
    format: Annotated[
        Literal["onnx", "openvino", "torch"],
        typer.Option(help="onnx; openvino, the quickest on a CPU; torch, a program of torch.export for your own code."),
    ] = "onnx",
    form: Annotated[
        Literal["factored", "direct"], typer.Option(help="How up-sampled skips are computed; factored is quicker.")
    ] = "factored",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write a model for other runtimes, with its card, after its outputs have been checked against PyTorch.

    Batch and size stay free. `fullscale predict model.onnx SCAN` segments with the file and its card alone.
    """
    from fullscale.bundle.card import card_beside
    from fullscale.inference.export.model import check_request, export_model, files_of
    from fullscale.outputs import claimed

    check_request(output, format, form)
    with claimed([*files_of(output, format), card_beside(output)], [model], "export", overwrite):
        done = export_model(model, output, format, form, None if json else lambda case: print_line(case.describe()))
    if json:
        print_json(done.as_dict())
    print_status(f"checked against PyTorch: {done.model}, with its card {done.card}")


def import_weights(
    source: Annotated[Path, typer.Argument(help="A .pth state dict written by the authors' code.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the weights as this .safetensors file.")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="Write a model that predict takes into this folder.")] = None,
    labels: Annotated[
        str | None, typer.Option(help="For --bundle: its structures, 1=liver or 1=liver,2=spleen.")
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            help="For --bundle: LOW,HIGH of the intensities it was trained on, scaled to 0..1; or LOW,HIGH,MEAN,STD."
        ),
    ] = None,
    spacing_mm: Annotated[
        float | None, typer.Option(help="For --bundle: in-plane spacing that slices are resized to.", min=0.01)
    ] = None,
    modality: Annotated[str | None, typer.Option(help="For --bundle: what it was trained on, such as CT.")] = None,
    plan: Annotated[
        Path | None, typer.Option(help="For --bundle: a plan.json that says all this instead of these options.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Convert weights of the authors' UNet 3+, strictly, and say which network they are of.

    The weights alone can start a training (network.init=FILE). A bundle predicts; for it, say what its output stands
    for and how its images were normalised. Networks of 3, 5 or 7 input channels are given a slice and its neighbours.
    """
    from fullscale.bundle import imported
    from fullscale.errors import UsageError
    from fullscale.outputs import claimed

    given = {"--labels": labels, "--window": window, "--spacing-mm": spacing_mm, "--modality": modality, "--plan": plan}
    if output is None and bundle is None:
        raise UsageError("nothing to write: give -o FILE.safetensors, --bundle FOLDER, or both")
    if bundle is None and any(value is not None for value in given.values()):
        option = next(name for name, value in given.items() if value is not None)
        raise UsageError(f"{option} describes a bundle: give --bundle FOLDER too")
    files, folders = ([path] if path else [] for path in (output, bundle))
    with claimed(files, [source, plan], "import-weights", overwrite, folders):
        if output is not None:
            print_line(f"{imported.import_weights(source, output)}: written to {output}")
        if bundle is not None:
            described = _from_plan(plan, given) if plan else _from_options(source, labels, window, spacing_mm, modality)
            card = imported.import_bundle(source, bundle, *described)
            print_line(f"{card.provenance['imported']}: a model of {', '.join(card.structures.values())} in {bundle}")


def _from_plan(plan: Path, given: Mapping[str, object]) -> tuple[LabelScheme, Recipe, str]:
    """Take structures, recipe and modality from a plan."""
    from fullscale.data.plan import read_plan
    from fullscale.errors import UsageError

    both = [name for name, value in given.items() if value is not None and name != "--plan"]
    if both:
        raise UsageError(f"--plan says what {both[0]} would say: give one of them, or edit {plan}")
    planned = read_plan(plan)
    return planned.scheme, planned.recipe, planned.modality.value


def _from_options(
    source: Path, labels: str | None, window: str | None, spacing_mm: float | None, modality: str | None
) -> tuple[LabelScheme, Recipe, str]:
    """Make structures, recipe and modality of the options."""
    from fullscale.bundle.imported import neighbours_for
    from fullscale.bundle.weights import read_weights
    from fullscale.data.labels import LabelScheme
    from fullscale.data.recipe import Recipe
    from fullscale.errors import UsageError

    chosen = parse_labels(labels)
    if chosen is None:
        raise UsageError("a bundle needs --labels, what the network's output stands for: such as --labels 1=liver")
    if window is None:
        raise UsageError("a bundle needs --window, the intensities it was trained on: such as --window -100,240 for CT")
    in_channels = read_weights(source).in_channels
    recipe = Recipe(
        intensity=_parse_window(window),
        spacing_mm=spacing_mm,
        neighbours=neighbours_for(in_channels or 3),
    )
    return LabelScheme(chosen), recipe, modality or "unknown"


def _parse_window(text: str) -> Intensity:
    """Read LOW,HIGH, which is scaled to 0..1, or LOW,HIGH,MEAN,STD."""
    from pydantic import ValidationError

    from fullscale.data.recipe import Intensity
    from fullscale.errors import UsageError

    try:
        low, high, *rest = (float(part) for part in text.split(","))
        mean, std = rest or (low, high - low)
        return Intensity(per="dataset", low=low, high=high, mean=mean, std=std)
    except (ValueError, ValidationError) as error:
        raise UsageError(
            f"--window {text!r} is not of the form LOW,HIGH or LOW,HIGH,MEAN,STD with LOW below HIGH and STD above 0"
        ) from error


COMMANDS = {"export": export, "import-weights": import_weights}
