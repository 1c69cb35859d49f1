"""The cases of an archive: found while others are segmented, in folders, in lists, and on servers."""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeInt

from fullscale.data.dicom.headers import PassedOver, is_dicom_file, read_slices
from fullscale.data.dicom.store import is_hidden, is_zip
from fullscale.data.dicom.web import NO_IMAGES, Query, is_url
from fullscale.data.dicom.web_study import find_studies
from fullscale.data.discover import Scan, is_slice
from fullscale.data.identity import digest_of
from fullscale.data.read import stem_of
from fullscale.data.volume_files import volume_suffix
from fullscale.documents import read_model
from fullscale.errors import DataError, UsageError
from fullscale.files import safe_name, write_json
from fullscale.inference.attempt import ArchiveRequest, Entry, Source, place_of
from fullscale.inference.batch import find_scans
from fullscale.work.ledger import FOLDER, Ledger
from fullscale.work.shard import Shard

_log = logging.getLogger(__name__)


class Listing(BaseModel):
    """A source of an archive run.

    Attributes:
        source: a folder, a list, a scan or a query.
        model: that it was given to.
        cases: how many it holds, once that is known.
        series: that alone is meant, by its UID or description.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    model: Path
    cases: NonNegativeInt | None
    series: str | None = None


def find_entries(
    sources: Sequence[Path | Query], request: ArchiveRequest, ledger: Ledger, shard: Shard | None = None
) -> Iterator[Entry]:
    """Find the cases of an archive, one by one.

    Of a folder each entry is one: a folder, a zip or a volume file; DICOM files that lie in it themselves are put
    together by their study, which is called by its UID. A list stands for its scans, and of a server each series is
    one, called by its UID.

    Args:
        sources: folders, lists, scans, queries of a server.
        request: what is to be done with them.
        ledger: what is known of them.
        shard: the share that is wanted; default all.

    Raises:
        DataError: a source does not exist, a list cannot be read, or there is no case.
        UsageError: the output lies in the archive, or DICOM files are given one by one.
    """
    slices = [source for source in sources if isinstance(source, Path) and is_slice(source)]
    if len(slices) > 1:
        raise UsageError(f"{len(slices)} DICOM files, such as {slices[0]}, are given one by one: give their folder")
    shard, taken, of_all = shard or Shard(), dict[str, str](), 0
    for source in sources:
        if isinstance(source, Path) and request.output.resolve().is_relative_to(source.resolve()):
            raise UsageError(f"{request.output} lies in the archive {source}; choose an output folder elsewhere")
        listed = 0
        for name, found in _listed(source, request):
            listed += 1
            if listed == 1:  # before that, it may be a wrong path, which leaves no trace
                _remember_listing(request, source, None)
            place = place_of(found)
            clash = taken.setdefault(safe_name(name).casefold(), place)  # some file systems do not tell A from a
            if clash != place:
                path = Path(place)
                name = path.name if path.name != name else f"{path.parent.name}_{name}"
            if shard.holds(name):
                yield Entry(name, found, ledger.get(name), None if clash == place else clash)
        if listed:
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
        yield from _loose_studies(source, sorted(others))
    elif _is_whole(source) or is_dicom_file(source):
        yield stem_of(source), source
    else:
        channels = request.model.load().channels
        yield from ((scan.name, scan) for scan in find_scans([source], request.dicom, channels)[0])


def _series_of(query: Query, request: ArchiveRequest) -> Iterator[tuple[str, Source]]:
    """List the series on a server that may be scans; of a model of several channels, the studies that hold them."""
    channels = request.model.load().channels
    if len(channels) > 1:
        if query.series is not None or not request.dicom.by_channel:
            words = " ".join(f"--series {name}=DESCRIPTION" for name in channels)
            raise UsageError(f"{query}: the model takes several series of a study: give studies, and {words}")
        yield from ((study.study, study) for study in find_studies(query, request.dicom.by_channel))
        return
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


def _loose_studies(folder: Path, files: Sequence[Path]) -> Iterator[tuple[str, Source]]:
    """Put the DICOM files that lie in an archive itself together, and say which files are no scans."""
    studies, others = defaultdict[str, list[Path]](list), list[Path]()
    for file in files:
        try:
            slices = read_slices(file)
        except DataError:  # a case of its own, so that reading it says why
            yield stem_of(file), file
            continue
        if isinstance(slices, PassedOver) or all(plane.modality == "SEG" for plane in slices):
            others.append(file)
        else:
            studies[slices[0].study_uid or folder.name].append(file)
    for name, parts in studies.items():
        yield name, Scan(name, folder, tuple(parts))
    if others:
        _log.info("%s: files that are no scans were passed over: %d, such as %s", folder, len(others), others[0])


def _is_whole(path: Path) -> bool:
    """Tell a file that is a scan by itself from one that is none."""
    return bool(volume_suffix(path)) or is_zip(path)


def _remember_listing(request: ArchiveRequest, source: Path | Query, listed: int | None) -> None:
    """Note how many cases a source has, once that is known; every share of an array finds the same."""
    name = str(source.absolute() if isinstance(source, Path) else source)
    file = request.output / FOLDER / f"source-{digest_of(name)}.json"
    if listed is None and file.exists():
        return
    listing = Listing(source=name, cases=listed, model=request.model.path.absolute(), series=request.dicom.series)
    write_json(file, listing.model_dump(mode="json"))


def read_listings(output: Path) -> list[Listing]:
    """Read what is known of the sources of an archive run.

    Raises:
        DataError: a file is damaged.
    """
    files = sorted((output / FOLDER).glob("source-*.json"))
    return [read_model(file, Listing, "a source of an archive") for file in files]
