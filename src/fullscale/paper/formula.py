"""A formula as it is shown: written out, with numbers, and its value beside what the module itself gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fullscale.scoring.tables import NOTHING, Table


@dataclass(frozen=True)
class Formula:
    """A formula of the paper.

    Attributes:
        title: what it is of.
        source: where it stands in the paper.
        tex: for a picture, in the TeX that matplotlib knows.
        text: for a terminal.
        numbers: the formula with the numbers of the example, a line each.
        by_formula: the value of these numbers.
        by_module: what the module gives for the same.
        module: its name.
        note: what differs, or what the paper leaves open.
        table: further numbers.
    """

    title: str
    source: str
    tex: str
    text: str
    numbers: list[str]
    by_formula: float
    by_module: float
    module: str
    note: str = ""
    table: Table | None = None

    @property
    def values(self) -> str:
        """Both values in a line, as many digits as tell them apart from others."""
        return f"By the formula {_written(self.by_formula)}, by {self.module} {_written(self.by_module)}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {key: value for key, value in vars(self).items() if key not in ("tex", "table")} | {
            "table": None if self.table is None else plain_rows(self.table)
        }


def plain_rows(table: Table) -> list[dict[str, Any]]:
    """Return the rows of a table for JSON, by their heads; what has no number is None."""
    return [
        {head: None if cell.text == NOTHING else cell.value for head, cell in zip(table.heads, row, strict=True)}
        for row in table.rows
    ]


def _written(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.6f}"
