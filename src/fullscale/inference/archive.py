"""An archive of studies segmented by one command or by many: found while others are worked on, and each one once.

Each entry of the folder, such as a study's own folder, is a case. Who works on it looks into it, so that finding is
shared too. What is done is known by the content of the scan, the model and the options, not by the name of a file.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from operator import attrgetter
from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeInt

from fullscale.data.dicom.headers import is_dicom_file
from fullscale.data.dicom.store import is_hidden, is_zip
from fullscale.data.dicom.web import NO_IMAGES, Query, is_url
from fullscale.data.identity import digest_of
from fullscale.data.read import stem_of
from fullscale.data.volume_files import volume_suffix
from fullscale.documents import read_model
from fullscale.errors import DataError, UsageError
from fullscale.files import safe_name, write_json
from fullscale.inference.attempt import (
    ArchiveRequest,
    Entry,
    EntryResult,
    ModelRequest,
    Source,
    place_of,
    segment_entry,
)
from fullscale.inference.batch import find_scans
from fullscale.inference.runtimes.torch import choose_device
from fullscale.outputs import remember_holds
from fullscale.progress import Progress, ignore
from fullscale.work.cluster import Workers
from fullscale.work.executor import choose_workers, make_executor, map_cases
from fullscale.work.ledger import FOLDER, TRIES, Ledger, Row, write_row
from fullscale.work.processes import Killed
from fullscale.work.shard import Shard

_log = logging.getLogger(__name__)
_MANY = 1 << 20
"""Cases that an archive is taken to have, where processes are chosen by their number."""


class Listing(BaseModel):
    """A source of an archive run.

    Attributes:
        source: a folder, a list, a scan or a query.
        model: that it was given to.
        cases: how many it holds, once that is known.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    model: Path
    cases: NonNegativeInt | None


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
    remember_holds(request.output, how, request.model.load().card.scheme.as_dict())  # for evaluate
    segment = partial(segment_entry, request=request, how=how)
    with make_executor(choose_workers(jobs, _MANY)) as executor:
        for outcome in map_cases(executor, segment, entries, progress, attrgetter("name")):
            failure = outcome.failure()
            if isinstance(outcome.error, Killed):
                _report_killed(outcome.item, request.output, str(failure))
            yield EntryResult(outcome.name, error=failure) if failure is not None else outcome.result()


def find_entries(
    sources: Sequence[Path | Query], request: ArchiveRequest, ledger: Ledger, shard: Shard | None = None
) -> Iterator[Entry]:
    """Find the cases of an archive, one by one.

    Of a folder each entry is one: a folder, a zip or a volume file. A list stands for its scans, and of a server each
    series is one, called by its UID.

    Args:
        sources: folders, lists, scans, queries of a server.
        request: what is to be done with them.
        ledger: what is known of them.
        shard: the share that is wanted; default all.

    Raises:
        DataError: a source does not exist, a list cannot be read, or there is no case.
        UsageError: the output lies in the archive, or loose DICOM slices do.
    """
    shard, taken, of_all = shard or Shard(), dict[str, str](), 0
    for source in sources:
        if isinstance(source, Path) and request.output.resolve().is_relative_to(source.resolve()):
            raise UsageError(f"{request.output} lies in the archive {source}; choose an output folder elsewhere")
        _remember_listing(request, source, None)
        listed = 0
        for name, found in _listed(source, request):
            listed += 1
            place = place_of(found)
            clash = taken.setdefault(safe_name(name).casefold(), place)  # some file systems do not tell A from a
            if clash != place:
                path = Path(place)
                name = path.name if path.name != name else f"{path.parent.name}_{name}"
            if shard.holds(name):
                yield Entry(name, found, ledger.get(name), None if clash == place else clash)
        _remember_listing(request, source, listed)
        of_all += listed
    if not of_all:
        raise DataError(f"{' '.join(map(str, sources))}: holds no series or scan; each entry of an archive is a case")


def _listed(source: Path | Query, request: ArchiveRequest) -> Iterator[tuple[str, Source]]:
    """List what a source holds, by name, without looking into it."""
    if isinstance(source, Query):
        yield from _series_of(source, request)
        return
    if not source.exists():
        raise DataError(f"{source}: no such file or folder; give an archive, a list or a scan")
    if source.is_dir():
        others: list[Path] = []
        with os.scandir(source) as found:
            for one in found:
                path = source / one.name
                if is_hidden(source, path):
                    continue
                if one.is_dir():
                    yield one.name, path
                elif _is_whole(path):
                    yield stem_of(path), path
                else:
                    others.append(path)
        if others:
            _log.info("%s: files that are no scans were passed over: %d, such as %s", source, len(others), others[0])
    elif _is_whole(source) or is_dicom_file(source):
        yield stem_of(source), source
    else:
        channels = request.model.load().channels
        yield from ((scan.name, scan) for scan in find_scans([source], request.dicom, channels)[0])


def _series_of(query: Query, request: ArchiveRequest) -> Iterator[tuple[str, Source]]:
    """List the series on a server that may be scans."""
    if len(request.model.load().channels) > 1:
        raise UsageError(f"{query}: a model of several channels takes files, not series of a server; fetch them first")
    others = Counter[str]()
    for series in query.find(request.dicom.series):
        if series.modality in NO_IMAGES:
            others[series.modality] += 1
        else:
            yield series.series, series
    if others:
        what = ", ".join(f"{count} {modality}" for modality, count in sorted(others.items()))
        _log.info("%s: series without images were passed over: %s", query, what)


def source_of(text: str) -> Path | Query:
    """Read a source as it is given: a path, or the URL of a query.

    Raises:
        UsageError: it is a URL of no DICOMweb service.
    """
    return Query.parse(text) if is_url(text) else Path(text)


def _is_whole(path: Path) -> bool:
    """Tell a file that is a scan by itself from one that is none."""
    if volume_suffix(path) or is_zip(path):
        return True
    if path.is_file() and is_dicom_file(path):
        raise UsageError(
            f"{path} is a DICOM file that lies loose in the archive: put the files of each study into a folder of "
            "their own, or leave out --archive and --shard"
        )
    return False


def _remember_listing(request: ArchiveRequest, source: Path | Query, listed: int | None) -> None:
    """Note how many cases a source has, once that is known; every share of an array finds the same."""
    name = str(source.absolute() if isinstance(source, Path) else source)
    file = request.output / FOLDER / f"source-{digest_of(name)}.json"
    if listed is None and file.exists():
        return
    listing = Listing(source=name, cases=listed, model=request.model.path.absolute())
    write_json(file, listing.model_dump(mode="json"))


def _report_killed(entry: Entry, output: Path, line: str) -> None:
    """Write down a case that killed every process that worked on it, so that it is not tried again unasked."""
    row = Ledger(output).get(entry.name)
    if row is not None and row.state == "begun":
        write_row(output, replace(row, state="failed", tries=TRIES, line=line))


def read_listings(output: Path) -> list[Listing]:
    """Read what is known of the sources of an archive run.

    Raises:
        DataError: a file is damaged.
    """
    files = sorted((output / FOLDER).glob("source-*.json"))
    return [read_model(file, Listing, "a source of an archive") for file in files]


def missing_cases(output: Path, ledger: Ledger) -> list[str]:
    """List the cases of the sources, as they are there now, that are neither done nor failed, or whose masks are gone.

    Raises:
        DataError: a source is not there any more, or cannot be read.
    """
    listings = read_listings(output)
    model = ModelRequest(listings[0].model, "cpu") if listings else ModelRequest(output)
    sources = [source_of(one.source) for one in listings]
    found = find_entries(sources, ArchiveRequest(model, output), ledger)
    return sorted(one.name for one in found if not _has_ended(one.earlier, output))


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
        model.path.suffix == ".onnx",
        model.quick,
        model.postprocess,
        model.region,
        request.resample_channels,
    ]
    return digest_of(json.dumps([*settings, asdict(request.options), asdict(request.dicom)]))
