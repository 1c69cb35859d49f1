"""Verbs about the paper: paper, params."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fullscale.cli.options import Json, Overwrite
from fullscale.cli.show import print_json, print_line, print_scores, print_status, table

if TYPE_CHECKING:
    from fullscale.paper.content import Paper
    from fullscale.paper.costs import Cost
    from fullscale.paper.formula import Formula
    from fullscale.paper.tables import Compared


def paper(
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            help="Settings of the networks in formulas and figures, such as network.width=32.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for a page, and its figures for slides.", show_default=False),
    ] = None,
    classes: Annotated[int, typer.Option(help="Channels of the logits in formulas and figures.", min=1)] = 1,
    comparison: Annotated[
        Path | None,
        typer.Option(
            help="What compare wrote by recipes/paper-table-1.yaml or -2: its Dice beside the published one.",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Show the formulas, tables and figures of the UNet 3+ paper, with the numbers of this installation.

    With -o, a page that holds all of it, and beside it Figures 1 to 3, drawn from the networks themselves.
    """
    from fullscale.outputs import claimed
    from fullscale.paper.content import read_paper
    from fullscale.paper.page import files_of, write_paper

    options = _options(settings or [])
    if output is None:
        _print(read_paper(options, classes, _compared(comparison)), json)
        return
    with claimed(files_of(output), [comparison], "paper", overwrite):
        content = read_paper(options, classes, _compared(comparison))
        written = write_paper(content, output)
    if json:
        print_json(content.as_dict() | {"files": [str(path) for path in written]})
        return
    for path in written:
        print_line(str(path))


def _options(settings: Sequence[str]) -> dict[str, Any]:
    """Read settings of the network; others would change nothing that is shown."""
    from fullscale.config.load import configure, parse_override
    from fullscale.config.schema import NetworkConfig
    from fullscale.errors import UsageError

    given = list(map(parse_override, settings))
    network = configure(given).network
    own = {f"network.{name}" for name in NetworkConfig.model_fields if name != "options"}
    for key, _ in given:
        if not key.startswith("network.") or key in own or key == "network.pretrained":
            raise UsageError(f"the setting {key} changes nothing of what the paper shows: give options of the network")
    return network.options


def _compared(folder: Path | None) -> Compared | None:
    from fullscale.compare.results import read_found
    from fullscale.paper.tables import Compared, Measured

    if folder is None:
        return None
    found = read_found(folder)
    rows = {
        row.name: {name: Measured(score.mean, score.interval) for name, score in row.dice.items()} for row in found.rows
    }
    return Compared(f"{found.dataset}, {found.budget}", rows)


def _print(paper: Paper, json: bool) -> None:
    from fullscale.paper.losses import EXAMPLE

    if json:
        print_json(paper.as_dict())
        return
    for shown in paper.tables:
        print_scores(shown.title, shown.table)
        for note in shown.notes:
            print_line(note)
        print_line("")
    for formula in paper.decoders:
        _print_formula(formula)
    print_line(EXAMPLE)
    print_line("")
    for formula in paper.losses:
        _print_formula(formula)
    print_status("fullscale paper -o FOLDER writes this as a page, with Figures 1 to 3 drawn from the networks")


def _print_formula(formula: Formula) -> None:
    print_line(f"{formula.title} ({formula.source})")
    for line in (formula.text, *formula.numbers, formula.values):
        print_line(f"    {line}")
    if formula.table is not None:
        print_scores("", formula.table)
    if formula.note:
        print_line(formula.note)
    print_line("")


def params(
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            help="plain or a timm backbone; repeat it. Default the paper's two, in 3D plain.", show_default=False
        ),
    ] = None,
    width: Annotated[int, typer.Option(help="Channels of the first level; the paper has 64.", min=1)] = 64,
    in_channels: Annotated[int, typer.Option(help="Channels of the image.", min=1)] = 3,
    classes: Annotated[int, typer.Option(help="Channels of the logits.", min=1)] = 1,
    size: Annotated[
        int | None,
        typer.Option(help="Rows and columns that operations are counted on; in 3D slices too. 320, in 3D 96.", min=32),
    ] = None,
    spatial_dims: Annotated[int, typer.Option(help="2, or 3 for their like in 3D.", min=2, max=3)] = 2,
    json: Json = False,
) -> None:
    """Count parameters and operations of the paper's networks, beside its formulas and its Table 1."""
    from fullscale.paper.costs import count_costs
    from fullscale.paper.published import PLAIN, RESNET

    size = size or {2: 320, 3: 96}[spatial_dims]
    encoders = encoder or {2: [PLAIN, RESNET], 3: [PLAIN]}[spatial_dims]
    costs = {name: count_costs(name, in_channels, classes, width, size, spatial_dims) for name in encoders}
    if json:
        print_json({name: [cost.as_dict() for cost in rows] for name, rows in costs.items()})
        return
    for name, rows in costs.items():
        table(
            f"Encoder {name}, {in_channels} channels in, {classes} out, width {width}",
            ("network", "encoder", "decoder", "by formula", "heads", "parameters", "published", "more", "GMAC"),
            [_cost_row(cost) for cost in rows],
        )
    print_line(
        "by formula: the decoder's kernels as the paper counts them, without biases, every side 3 (UNet and UNet++ "
        "bring up with 4), and of UNet++ the last node of each level alone. published: Table 1, in millions; more: "
        "ours less that."
    )
    shape = "x".join([str(size)] * spatial_dims)
    print_line(f"GMAC: one {'slice' if spatial_dims == 2 else 'volume'} of {shape} to its finest logits, no factoring.")


def _cost_row(cost: Cost) -> tuple[str, ...]:
    def count(number: int | None) -> str:
        return "-" if number is None else f"{number:,}"

    published, more = "-", "-"
    if cost.published_m is not None:
        published, more = f"{cost.published_m:.2f}", f"{cost.difference_m:+.2f}"
    encoder, decoder, heads = (count(cost.parts.get(part)) for part in ("encoder", "decoder", "heads"))
    total, formula = count(cost.parameters), count(cost.formula)
    return (cost.title, encoder, decoder, formula, heads, total, published, more, f"{cost.macs / 1e9:.1f}")


COMMANDS = {"paper": paper, "params": params}
