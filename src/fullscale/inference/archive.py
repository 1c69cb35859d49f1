"""An archive of studies segmented by one command or by many: found while others are worked on, and each one once.

Each entry of the folder, such as a study's own folder, is a case. Who works on it looks into it, so that finding is
shared too. What is done is known by the content of the scan, the model and the options, not by the name of a file.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from fullscale.bundle.card import is_exported
from fullscale.data.dicom.stack import DicomReadOptions
from fullscale.data.identity import digest_of
from fullscale.inference.attempt import (
    ArchiveRequest,
    Entry,
    EntryResult,
    ModelRequest,
    segment_entry,
)
from fullscale.inference.entries import find_entries, read_listings, source_of
from fullscale.inference.runtimes.torch import choose_device
from fullscale.outputs import remember_holds
from fullscale.progress import Progress, ignore
from fullscale.work.cluster import Workers
from fullscale.work.executor import choose_workers, make_executor, map_cases
from fullscale.work.ledger import TRIES, Ledger, Row, write_row
from fullscale.work.processes import Killed

_log = logging.getLogger(__name__)
_GRAPHS: dict[str | None, str] = {"onnx": ".onnx", "openvino": ".xml"}
"""Suffix of the exported model that a runtime computes."""
_MANY = 1 << 20
"""Cases that an archive is taken to have, where processes are chosen by their number."""


def predict_archive(
    request: ArchiveRequest,
    entries: Iterable[Entry],
    jobs: Workers = None,
    progress: Progress = ignore,
) -> Iterator[EntryResult]:
    """Segment entries, each in the process that gets it; what is done already is not done again.

    Args:
        request: what is to be done with them.
        entries: as `find_entries` gives them; taken one by one.
        jobs: processes; None as the machine allows, one on a GPU.
        progress: told of each entry that is done.

    Yields:
        What became of each entry, in their order; whatever is wrong with one does not stop the others.

    Raises:
        FullscaleError: the output cannot be written.
    """
    if jobs is None and choose_device(request.model.device).type != "cpu":
        jobs = 1
    how = _how(request)
    segment = partial(segment_entry, request=request, how=how)
    with make_executor(choose_workers(jobs, _MANY)) as executor:
        for outcome in map_cases(executor, segment, _noted(entries, request, how), progress, attrgetter("name")):
            failure = outcome.failure()
            if isinstance(outcome.error, Killed):
                _report_killed(outcome.item, request.output, str(failure))
            yield EntryResult(outcome.name, error=failure) if failure is not None else outcome.result()


def _noted(entries: Iterable[Entry], request: ArchiveRequest, how: str) -> Iterator[Entry]:
    """Write down what the masks will hold, for evaluate, once there is a case."""
    for number, entry in enumerate(entries):
        if number == 0:
            remember_holds(request.output, how, request.model.load().card.scheme.as_dict())
        yield entry


def _report_killed(entry: Entry, output: Path, line: str) -> None:
    """Write down a case that killed every process that worked on it, so that it is not tried again unasked."""
    row = Ledger(output).get(entry.name)
    if row is not None and row.state == "begun":
        write_row(output, replace(row, state="failed", tries=TRIES, line=line))


def missing_cases(output: Path, ledger: Ledger) -> list[str]:
    """List the cases of the sources, as they are there now, that are neither done nor failed, or whose masks are gone.

    Raises:
        DataError: a source is not there any more, or cannot be read.
    """
    missing: list[str] = []
    listings = sorted(read_listings(output), key=lambda one: one.series or "")
    for series, alike in groupby(listings, key=lambda one: one.series):
        together = list(alike)
        dicom = DicomReadOptions(series)
        request = ArchiveRequest(ModelRequest(together[0].model, "cpu"), output, dicom=dicom)
        found = find_entries([source_of(one.source) for one in together], request, ledger)
        missing += [one.name for one in found if not _has_ended(one.earlier, output)]
    return sorted(missing)


def _has_ended(row: Row | None, output: Path) -> bool:
    if row is None or row.state in ("begun", "stopped"):
        return False
    return row.state == "failed" or all((output / name).is_file() for name in row.content["files"])


def _how(request: ArchiveRequest) -> str:
    """Name how scans are worked on: the model and everything that changes a mask."""
    model = request.model
    card = model.load().card
    settings = [
        card.digest,
        # What "auto" finds differs from machine to machine, and its masks hardly do: their work counts as the same.
        (is_exported(model.path) and model.path.suffix) or _GRAPHS.get(model.runtime, False),
        model.quick,
        model.postprocess,
        model.region,
        request.resample_channels,
    ]
    return digest_of(json.dumps([*settings, asdict(request.options), asdict(request.dicom)]))
