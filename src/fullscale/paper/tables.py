"""Tables 1 and 2 of the paper beside what is counted here, and beside the Dice of a comparison that was run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from fullscale.errors import DataError, UsageError
from fullscale.networks.encoders import PlainEncoder, TimmEncoder, create_encoder
from fullscale.networks.parameters import count_parameters
from fullscale.paper.costs import create_row
from fullscale.paper.formula import plain_rows
from fullscale.paper.published import ENCODERS, PLAIN, RESNET, TABLE_1, TABLE_2, Dice, Row
from fullscale.scoring.tables import Cell, Table, name_cell, number_cell

IN_CHANNELS, CLASSES, WIDTH = 3, 1, 64
"""Of the paper: a slice with its two neighbours, one organ, 64 channels at the finest level."""


class Measured(NamedTuple):
    """A Dice of a comparison: its mean over cases, and its 95 % interval where there are cases enough."""

    mean: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Compared:
    """What a comparison found.

    Attributes:
        title: data set and budget.
        rows: Dice of each structure, by the name of the row.
    """

    title: str
    rows: Mapping[str, Mapping[str, Measured]]

    @property
    def structures(self) -> list[str]:
        """Structures with a column; one structure is its own mean."""
        names = list(dict.fromkeys(structure for row in self.rows.values() for structure in row))
        return [name for name in names if name != "mean" or len(names) > 2]


@dataclass(frozen=True)
class PaperTable:
    """A table as it is shown.

    Attributes:
        title: which it is.
        table: its cells.
        notes: what its figures are, and why some differ.
    """

    title: str
    table: Table
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"title": self.title, "rows": plain_rows(self.table), "notes": self.notes}


def paper_tables(compared: Compared | None = None) -> list[PaperTable]:
    """Set the two tables beside the networks of this installation, which are built without content and counted.

    Args:
        compared: a comparison by one of the two recipes, whose Dice is shown beside the published one.

    Raises:
        DataError: no row of the comparison is one of the paper's.
    """
    lines_1 = [(row, encoder) for encoder in (PLAIN, RESNET) for row in TABLE_1]
    lines_2 = [(row, RESNET) for row in TABLE_2]
    if compared is not None:
        _require_known(compared, [_recipe_name(row, encoder) for row, encoder in (*lines_1, *lines_2)])
    counted = {id(row): _count(row, encoder) for row, encoder in lines_2}
    first = {(id(row), encoder): _count(row, encoder) for row, encoder in lines_1}
    return [
        _table_1(lines_1, first, compared),
        _table_2(lines_2, counted, compared),
    ]


def _table_1(
    lines: Sequence[tuple[Row, str]], counted: Mapping[tuple[int, str], int | None], compared: Compared | None
) -> PaperTable:
    heads = ["network", "encoder", "published M", "counted here", "more, M", "liver", "spleen"]
    rows = []
    for row, encoder in lines:
        published, own = row.published_m[encoder], counted[id(row), encoder]
        more = None if own is None else round(own / 1e6 - published, 2) + 0.0  # no -0.00
        counts = [number_cell(published, ".2f"), number_cell(own, ","), number_cell(more, "+.2f")]
        rows.append([name_cell(row.title), name_cell(ENCODERS[encoder]), *counts, *_dice(row, encoder, compared)])
    notes = [
        "published M: parameters in millions; more: counted here less published. liver and spleen: the paper's Dice.",
        "VGG-16 is the plain encoder: two 3x3 convolutions a level with batch norm. The paper prints UNet 3+ with deep "
        "supervision without the weights of its further heads.",
        _about_resnet(counted),
    ]
    return PaperTable("Table 1: UNet, UNet++ and UNet 3+", _with_found(heads, rows, compared), notes + _about(compared))


def _table_2(
    lines: Sequence[tuple[Row, str]], counted: Mapping[int, int | None], compared: Compared | None
) -> PaperTable:
    heads = ["network", "counted here", "liver", "spleen"]
    rows = [
        [name_cell(row.title), number_cell(counted[id(row)], ","), *_dice(row, encoder, compared)]
        for row, encoder in lines
    ]
    notes = [
        "All with ResNet-101; Attention UNet is counted with its plain encoder, the only one it has here. The paper "
        "prints no parameters in this table. liver and spleen: the paper's Dice."
    ]
    return PaperTable("Table 2: UNet 3+ and others", _with_found(heads, rows, compared), notes + _about(compared))


def _dice(row: Row, encoder: str, compared: Compared | None) -> list[Cell]:
    published: Dice = row.dice[encoder]
    cells = [number_cell(value, ".4f") for value in published]
    if compared is not None:
        found = compared.rows.get(_recipe_name(row, encoder), {})
        for structure in compared.structures:
            mean, interval = found.get(structure, Measured(None, None))
            cells.append(number_cell(mean, ".4f", interval if mean is not None else None))
    return cells


def _with_found(heads: list[str], rows: list[list[Cell]], compared: Compared | None) -> Table:
    found = [] if compared is None else [f"{structure}, here" for structure in compared.structures]
    return Table([*heads, *found], rows)


def _about(compared: Compared | None) -> list[str]:
    if compared is None:
        return []
    ours = {_recipe_name(row, encoder) for row in (*TABLE_1, *TABLE_2) for encoder in row.dice}
    others = [name for name in compared.rows if name not in ours]
    further = [f"Not in the paper's tables: {', '.join(others)}."] if others else []
    return [f"here: the comparison on {compared.title}.", *further]


def _about_resnet(counted: Mapping[tuple[int, str], int | None]) -> str:
    """Say why the counts with ResNet-101 are others than the published ones, with the numbers that show it."""
    if any(number is None for number in counted.values()):
        return "Networks with ResNet-101 need timm and segmentation-models-pytorch: pip install 'fullscale[backbones]'"
    gains = [row.published_m[RESNET] - row.published_m[PLAIN] for row in TABLE_1[:3]]
    plain, resnet = (count_parameters(_encoder(name)) / 1e6 for name in (PLAIN, RESNET))
    behind = plain + sum(gains) / len(gains)
    return (
        f"No reading of ResNet-101 gives the published counts. Between the two encoders they grow by "
        f"{', '.join(f'{gain:.2f}' for gain in gains)}M. With {plain:.2f}M of the plain encoder, that leaves about "
        f"{behind:.1f}M for ResNet-101 if the decoders stay as they are, but from its stem to its last stage it has "
        f"{resnet:.2f}M. Its levels also have 64, 256, 512, 1024 and 2048 channels, which makes the decoders larger. "
        "The counts here are those of the whole backbone with its own channels."
    )


def _encoder(name: str) -> PlainEncoder | TimmEncoder:
    with torch.device("meta"):
        return create_encoder(name, IN_CHANNELS, WIDTH)


def _count(row: Row, encoder: str) -> int | None:
    """Count the parameters of a row; None where a library that it needs is not installed."""
    words = {"encoder": encoder, "width": WIDTH, "skip_channels": WIDTH}
    try:
        return count_parameters(create_row(row, IN_CHANNELS, CLASSES, words)[0])
    except UsageError:  # these options fit every network: a library of an extra is not there
        return None


def _recipe_name(row: Row, encoder: str) -> str:
    return row.recipe.format(ENCODERS[encoder])


def _require_known(compared: Compared, known: Sequence[str]) -> None:
    if not any(name in known for name in compared.rows):
        raise DataError(
            f"the comparison on {compared.title} has no row of the paper's tables, only "
            f"{', '.join(list(compared.rows)[:5])}: run it with recipes/paper-table-1.yaml or paper-table-2.yaml"
        )
