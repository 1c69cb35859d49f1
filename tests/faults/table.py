"""The tables of docs/reliability.md, written from the counts of the last long run: `python -m tests.faults.table`."""

import json
import re
from typing import Any

from tests.faults.scale import COUNTS, ROOT

PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- counts -->", "<!-- end of counts -->"

Counts = dict[str, dict[str, Any]]


def parts(counts: dict[str, Any], kind: str) -> Counts:
    """Return what was counted of one kind, by what it was counted on."""
    return {name.removeprefix(f"{kind} "): part for name, part in counts.items() if name.startswith(f"{kind} ")}


def table(heads: list[str], rows: list[list[Any]]) -> list[str]:
    """Write a table; numbers stand to the right."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return ["", *("| " + " | ".join(map(str, line)) + " |" for line in lines), ""]


def with_sum(rows: list[list[Any]]) -> list[list[Any]]:
    """Add a last row with the sums."""
    return [*rows, ["**all**", *(sum(row[k] for row in rows) for k in range(1, len(rows[0])))]] if rows else rows


def counted(counts: Counts, names: list[str]) -> list[list[Any]]:
    """Make a row of each part, and one of the sums."""
    return with_sum([[f"`{what}`", *(part.get(name, 0) for name in names)] for what, part in counts.items()])


def size(count: int) -> str:
    """Write bytes for people."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024  # type: ignore[assignment]
    return f"{count:.3g} GiB"


def page_tables(counts: dict[str, Any]) -> str:
    """Write all tables."""
    names = ["killed", "terminated", "same result", "litter"]
    lines = ["**Kills.**", *table(["command", *names], counted(parts(counts, "kill"), names))]
    names = ["killed", "jobs", "interrupted", "ended once"]
    rows = [[f"`{what}`", *(part[name] for name in names)] for what, part in parts(counts, "service").items()]
    lines += ["**Kills of the service while it works on jobs.**", *table(["command", *names], rows)] if rows else []
    names = ["copied", "gap", "lost", "same result", "refused", "litter"]
    rows = counted(parts(counts, "network"), names)
    lines += ["**Renames that are no renames.**", *table(["command", *names], rows)] if rows else []
    names = ["two at once", "done", "same result", "litter"]
    rows = counted(parts(counts, "locks"), names)
    lines += ["**Locks that hold nobody.**", *table(["command", *names], rows)] if rows else []
    names = ["same result", "litter"]
    rows = counted(parts(counts, "clock"), names)
    lines += ["**Clocks that are set again and again.**", *table(["command", *names], rows)] if rows else []
    names = ["interrupted", "terminated", "done before", "litter"]
    rows = counted(parts(counts, "signal"), names)
    lines += ["**Ctrl-C and SIGTERM.**", *table(["command", *names], rows)] if rows else []
    names = ["refused", "done all the same", "same result", "litter"]
    for kind, title in (("full disk", "Full disk."), ("read-only", "Read-only disk."), ("64 files", "64 open files.")):
        rows = counted(parts(counts, kind), names)
        lines += [f"**{title}**", *table(["command", *names], rows)] if rows else []
    names = ["read", "refused", "faults"]
    lines += ["**Broken files of a run.**", *table(["file", *names], counted(parts(counts, "file"), names))]
    names = ["read", "read alone", "refused"]
    rows = counted(parts(counts, "scan"), names)
    lines += ["**Broken scans.**", *table(["kind", *names], rows)] if rows else []
    rows = [[what, size(part["bytes"]), size(part["peak"])] for what, part in parts(counts, "bomb").items()]
    lines += ["**Bombs.**", *table(["file", "size", "memory that reading it took"], rows)]
    return "\n".join(lines)


def with_tables(text: str, counts: dict[str, Any]) -> str:
    """Put the tables into the page."""
    body = f"{BEGIN}\n\n{page_tables(counts)}\n{END}"
    return re.sub(f"{BEGIN}.*{END}", lambda _: body, text, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(), json.loads(COUNTS.read_text())))
