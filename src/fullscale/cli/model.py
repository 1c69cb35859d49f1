"""Verbs about models: export, import-weights, params."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fullscale.cli.show import Json, print_json, print_status, table

if TYPE_CHECKING:
    from fullscale.networks.parameters import Cost


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
    from fullscale.export.model import export_model

    done = export_model(model, output, format, form, None if json else lambda case: typer.echo(case.describe()))
    if json:
        print_json(done.as_dict())
    print_status(f"answers like PyTorch: {done.model}, with its card {done.card}")


def import_weights(
    source: Annotated[Path, typer.Argument(help="A .pth state dict written by the authors' code.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.", show_default=False)],
) -> None:
    """Bring weights of the authors' UNet 3+ into this one, strictly, and say which network they are."""
    from fullscale.networks.official import import_weights

    typer.echo(f"{import_weights(source, output)}: written to {output}")


def params(
    encoder: Annotated[
        list[str] | None,
        typer.Option(help="plain or a timm backbone; repeat it. Default the paper's two.", show_default=False),
    ] = None,
    width: Annotated[int, typer.Option(help="Channels of the first level; the paper has 64.", min=1)] = 64,
    in_channels: Annotated[int, typer.Option(help="Channels of the image.", min=1)] = 3,
    classes: Annotated[int, typer.Option(help="Channels of the logits.", min=1)] = 1,
    size: Annotated[int, typer.Option(help="Rows and columns that operations are counted on.", min=32)] = 320,
    json: Json = False,
) -> None:
    """Count parameters and operations of the paper's networks, beside its formulas and its Table 1."""
    from fullscale.networks.parameters import PLAIN, RESNET, count_costs

    costs = {name: count_costs(name, in_channels, classes, width, size) for name in encoder or (PLAIN, RESNET)}
    if json:
        print_json({name: [cost.as_dict() for cost in rows] for name, rows in costs.items()})
        return
    for name, rows in costs.items():
        table(
            f"Encoder {name}, {in_channels} channels in, {classes} out, width {width}",
            ("network", "encoder", "decoder", "by formula", "heads", "parameters", "published", "more", "GMAC"),
            [_cost_row(cost) for cost in rows],
        )
    typer.echo(
        "by formula: the decoder's kernels as the paper counts them, without biases, every kernel 3x3 (UNet and UNet++ "
        "bring\nup with 4x4), and of UNet++ the last node of each level alone. published: Table 1, in millions; more: "
        f"ours less that.\nGMAC: one slice of {size}x{size} to its finest logits, nothing factored."
    )


def _cost_row(cost: Cost) -> tuple[str, ...]:
    def count(number: int | None) -> str:
        return "-" if number is None else f"{number:,}"

    published, more = "-", "-"
    if cost.published_m is not None:
        published, more = f"{cost.published_m:.2f}", f"{cost.difference_m:+.2f}"
    encoder, decoder, heads = (count(cost.parts.get(part)) for part in ("encoder", "decoder", "heads"))
    total, formula = count(cost.parameters), count(cost.formula)
    return (cost.title, encoder, decoder, formula, heads, total, published, more, f"{cost.macs / 1e9:.1f}")


COMMANDS = {"export": export, "import-weights": import_weights, "params": params}
