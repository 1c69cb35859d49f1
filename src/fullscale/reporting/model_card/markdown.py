"""Markdown out of plain values: whatever comes from a file is escaped, so that it can be no markup."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fullscale.scoring.tables import NOTHING, Table
from fullscale.text import printable

_MARKUP = re.compile(r"([\\`*\[\]|~#])|(?<!\w)(_)|(_)(?!\w)")


def escaped(text: object) -> str:
    """Return a text on one line that Markdown and HTML show as it is."""
    plain = printable(str(text)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(lambda match: f"\\{match[0]}", plain)


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Make a table; heads and cells are escaped."""
    head, *shown = [[escaped(cell) for cell in row] for row in (heads, *rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [head, ["---"] * len(heads), *shown])


def score_table(scores: Table) -> str:
    """Make a table of scores, each interval in brackets behind its number."""
    rows = [[f"{cell.text} ({cell.interval})" if cell.interval else cell.text for cell in row] for row in scores.rows]
    return table(scores.heads, rows)


def bullets(lines: Sequence[str]) -> str:
    """Make a list of lines that are escaped already."""
    return "".join(f"- {line}\n" for line in lines)


def listed(names: Sequence[str], most: int = 10) -> str:
    """List names with commas, escaped; beyond `most` they are counted."""
    shown = ", ".join(escaped(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown or NOTHING
