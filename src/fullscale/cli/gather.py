"""Verb gather: what is missing of work that several commands shared, and what they found, joined."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Annotated

import typer

from fullscale.cli.compare import gather_comparison
from fullscale.cli.options import Json, Overwrite
from fullscale.cli.shares import Gathered, gather_scores
from fullscale.cli.show import print_json, print_line
from fullscale.cli.train import gather_folds

LISTED = 20
"""Names of what is missing that are printed."""
GATHERERS = {
    "evaluate": gather_scores,
    "test": gather_scores,
    "compare": gather_comparison,
    "train": gather_folds,
}
"""What joins the shares of each command."""


def gather(
    output: Annotated[Path, typer.Argument(help="Output folder of commands with --shard.", show_default=False)],
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Say what is missing of work that was shared (--shard, --archive), and join what there is.

    Masks of predict are listed in results.csv; shares of evaluate, test, compare and train become the files that one
    command writes. Exit code 4 where something is missing.
    """
    from fullscale.errors import PartialFailure
    from fullscale.inference.entries import read_listings
    from fullscale.shares import read_request, requests_in

    requests = [(folder, read_request(folder)) for folder in requests_in(output)]
    found = [GATHERERS[asked["command"]](asked, folder, overwrite, json) for folder, asked in requests]
    if not found or read_listings(output):
        found.append(_gather_archive(output, overwrite))
    missing = [name for one in found for name in one.missing]
    files = [str(file) for one in found for file in one.files]
    if json:
        counts = {one.what: one.count for one in found}
        print_json({"results": files, **counts, "missing": missing})
    else:
        for one in found:
            if one.files:
                print_line(f"{one.count} {one.what} are in {', '.join(map(str, one.files))}")
        for name in missing[:LISTED]:
            print_line(f"missing: {name}")
        if len(missing) > LISTED:
            print_line(f"{len(missing) - LISTED} more are missing; --json lists all")
    if missing:
        raise PartialFailure(f"{len(missing)} are missing; the same commands again go on with them")


def _gather_archive(output: Path, overwrite: bool) -> Gathered:
    """Write results.csv of the masks of an archive."""
    from fullscale.cli.archive import require_run
    from fullscale.files import write_text
    from fullscale.inference.archive import missing_cases
    from fullscale.inference.attempt import restored
    from fullscale.inference.entries import read_listings
    from fullscale.outputs import claimed
    from fullscale.text import without_folders
    from fullscale.work.ledger import Ledger

    ledger = Ledger(output)
    require_run(output, ledger, read_listings(output))
    missing = missing_cases(output, ledger)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["case", "scan", "mask", "structure", "size", "unit", "expected_dice", "seconds", "error"])
    rows = sorted((row for row in ledger if row.state in ("done", "failed")), key=lambda row: row.case)
    for row in rows:
        results = restored(row, output).results
        for result in results:
            mask = result.written[0].relative_to(output).as_posix() if result.written else ""
            sizes = result.structure_ml.items() or [("", "")]
            scan, error = without_folders(result.scan), without_folders(result.error or "")  # of this machine
            for name, size in sizes:
                expected = result.trust.get(name, {}).get("expected_dice")
                table.writerow([row.case, scan, mask, name, size, result.unit, expected, result.elapsed_s, error])
        if not results:
            table.writerow([row.case, "", "", "", "", "", "", round(row.seconds, 2), without_folders(row.line)])
    with claimed([output / "results.csv"], [], "gather", overwrite):
        write_text(output / "results.csv", text.getvalue())
    return Gathered([output / "results.csv"], len(rows), "cases", missing)


COMMANDS = {"gather": gather}
