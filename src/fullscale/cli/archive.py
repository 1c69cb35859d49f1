"""Archives: predict on one, and the verb status, which reads what its commands wrote down."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fullscale.cli.options import Json
from fullscale.cli.progress import progress_bar
from fullscale.cli.show import print_json, print_line, print_status
from fullscale.text import counted

if TYPE_CHECKING:
    from fullscale.data.dicom.web import Query
    from fullscale.inference.attempt import ArchiveRequest, EntryResult
    from fullscale.inference.entries import Listing
    from fullscale.work.cluster import Workers
    from fullscale.work.ledger import Ledger

LISTED = 20
"""Failures that status prints in full."""

Output = Annotated[Path, typer.Argument(help="Output folder of predict --archive.", show_default=False)]


def segment_archive(
    request: ArchiveRequest,
    sources: Sequence[Path | Query],
    shard: str | None,
    first: int | None,
    workers: Workers,
    json: bool,
) -> None:
    """Segment an archive, or a share of it; with `first`, so many cases that are not done yet, and a forecast."""
    from fullscale.errors import PartialFailure
    from fullscale.inference.archive import predict_archive
    from fullscale.inference.entries import find_entries
    from fullscale.work.ledger import Ledger
    from fullscale.work.shard import Shard

    print_status(request.model.load().describe())
    share = None if shard is None else Shard.parse(shard)
    known = Ledger(request.output, wanted=None if share is None else share.holds)
    entries = find_entries(sources, request, known, share)
    if first is not None:
        entries = islice((entry for entry in entries if entry.earlier is None or entry.earlier.state != "done"), first)
    failed, earlier, found = 0, 0, []
    with progress_bar("predicting") as progress:
        for result in predict_archive(request, entries, workers, progress):
            failed += result.error is not None
            earlier += result.earlier and result.error is None
            if json:
                found.append(result)
            _say(result, json)
    if first is not None:
        ledger = Ledger(request.output)
        _print_forecast(ledger, sum(1 for _ in find_entries(sources, request, ledger)))
    if json:
        print_json({"cases": [_as_dict(result) for result in found]})
    if earlier:
        print_status(f"done already: {counted(earlier, 'case')}")
    if failed:
        raise PartialFailure(f"{counted(failed, 'case')} failed; fullscale status {request.output} lists them")


def _say(result: EntryResult, json: bool) -> None:
    """Say what became of a case; one that was done already is only counted."""
    if result.error is not None:
        again = " (not tried again; --retry does)" if result.earlier else ""
        print_status(f"failed: {result.name}: {result.error}{again}")
    if result.earlier:
        return
    for note in result.notes:
        print_status(f"note: {note}")
    for scan in result.results:
        for note in scan.notes:
            print_status(f"note: {scan.scan}: {note}")
        if scan.error is None and not json:
            print_line(f"{' '.join(map(str, scan.written))}  {scan.describe()}")
        for reason in scan.asks:
            print_status(f"review: {scan.scan}: {reason}")


def _as_dict(result: EntryResult) -> dict[str, Any]:
    return vars(result) | {"results": [scan.as_dict() for scan in result.results]}


def _print_forecast(ledger: Ledger, listed: int) -> None:
    forecast = ledger.forecast(ledger.left(listed))
    print_status("no case is done yet, so there is no forecast" if forecast is None else forecast.describe())


def status(output: Output, json: Json = False) -> None:
    """Say how far shared work is (--archive, --shard), at any time and from any machine that sees its folder."""
    from fullscale.inference.entries import read_listings
    from fullscale.shares import shared_ledgers
    from fullscale.work.ledger import Ledger

    shares, listings = shared_ledgers(output), read_listings(output)
    said = {what: _shown(ledger) for what, ledger in shares.items()}
    if listings or not shares:
        ledger = Ledger(output)
        require_run(output, ledger, listings)
        said["predict"] = _shown_archive(ledger, listings)
    if json:
        print_json(said["predict"] if list(said) == ["predict"] else said)
        return
    for what, shown in said.items():
        _print_shown("" if len(said) == 1 else f"{what}: ", shown)


def _shown(ledger: Ledger) -> dict[str, Any]:
    """Say in plain values what a ledger says."""
    failures = {row.case: {"tries": row.tries, "line": row.line} for row in ledger.of_state("failed")}
    begun = sorted(row.case for row in ledger.of_state("begun"))
    return {"listed": None, "counts": ledger.counts(), "failures": failures, "begun": begun, "forecast": None}


def _shown_archive(ledger: Ledger, listings: Sequence[Listing]) -> dict[str, Any]:
    known = [one.cases for one in listings]
    listed = None if not known or None in known else sum(filter(None, known))
    left = None if listed is None else ledger.left(listed)
    forecast = None if not left else ledger.forecast(left)
    said = None if forecast is None else vars(forecast) | {"says": forecast.describe()}
    return _shown(ledger) | {"listed": listed, "forecast": said}


def _print_shown(head: str, shown: dict[str, Any]) -> None:
    counts, failures, listed = shown["counts"], shown["failures"], shown["listed"]
    print_line(
        f"{head}{counts['done']} of {'an unknown number' if listed is None else listed} are done, "
        f"{counts['failed']} failed, {counts['begun']} were begun and have not ended (they are at work, or were "
        f"killed), {counts['stopped']} were stopped"
    )
    for case, failure in list(failures.items())[:LISTED]:
        print_line(f"failed: {case} (tried {failure['tries']} times): {failure['line']}")
    if len(failures) > LISTED:
        print_line(f"{len(failures) - LISTED} more failed; --json lists all")
    if shown["forecast"] is not None:
        print_line(shown["forecast"]["says"])


def require_run(output: Path, ledger: Ledger, listings: Sequence[Listing]) -> None:
    """Refuse a folder that no command worked on an archive for.

    Raises:
        DataError: nothing in it says so.
    """
    from fullscale.errors import DataError

    if not len(ledger) and not listings:
        raise DataError(f"{output} holds no archive run; give the output folder of predict --archive or --shard")


COMMANDS = {"status": status}
