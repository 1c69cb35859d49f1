"""One attempt at a case of an archive: whether there is anything to do, and what is written down of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import torch

from fullscale.data.dicom.series import no_scan
from fullscale.data.dicom.stack import DicomReadOptions
from fullscale.data.dicom.web import RemoteSeries
from fullscale.data.dicom.web_study import RemoteStudy
from fullscale.data.discover import Scan
from fullscale.data.identity import content_files, content_of, digest_of
from fullscale.errors import DataError, FullscaleError
from fullscale.files import safe_name, state_of
from fullscale.inference.batch import Result, find_scans, predict_scans
from fullscale.inference.naming import OutputOptions, planned_copies, planned_outputs
from fullscale.inference.predictor import Predictor
from fullscale.inference.region import RegionMode
from fullscale.inference.runtimes.load import RuntimeName
from fullscale.inference.runtimes.torch import choose_device
from fullscale.inputs import require_no_input
from fullscale.temporary import temporary_folder
from fullscale.work.executor import describe_failure
from fullscale.work.ledger import TRIES, Row, State, next_attempt, write_row


@dataclass(frozen=True)
class ModelRequest:
    """A model as each process loads it, on the device that is there.

    Attributes: as of `Predictor.from_run`.
    """

    path: Path
    device: str = "auto"
    batch_size: int | None = None
    quick: bool = False
    postprocess: bool = True
    region: RegionMode = "whole"
    runtime: RuntimeName | None = None

    def load(self) -> Predictor:
        """Load it, once in a process as long as it is the same."""
        path = self.path.absolute()
        return _load(replace(self, path=path), stamp_of(path))


@dataclass(frozen=True)
class ArchiveRequest:
    """What is segmented with what.

    Attributes:
        model: the model.
        output: folder for the masks and the ledger.
        options: how masks are written.
        dicom: how DICOM is read.
        resample_channels: bring channels on other grids onto that of the first.
        overwrite: replace files that are no mask of this ledger, or were changed since.
        retry: try again what failed `TRIES` times.
    """

    model: ModelRequest
    output: Path
    options: OutputOptions = field(default_factory=OutputOptions)
    dicom: DicomReadOptions = field(default_factory=DicomReadOptions)
    resample_channels: bool = False
    overwrite: bool = False
    retry: bool = False


Source: TypeAlias = Path | Scan | RemoteSeries | RemoteStudy
"""What an entry of an archive is."""


def place_of(source: Source) -> str:
    """Say where a source lies."""
    if isinstance(source, RemoteSeries | RemoteStudy):
        return source.place
    return str(source.path if isinstance(source, Scan) else source)


@dataclass(frozen=True)
class Entry:
    """A case of an archive.

    Attributes:
        name: what its mask is called, and the folder of its masks where it holds several scans.
        source: a file, a folder or a zip, the scan itself where a list names it, or a series or study of a server.
        earlier: what the ledger says of it.
        clash: another entry whose masks would have the same name.
    """

    name: str
    source: Source
    earlier: Row | None = None
    clash: str | None = None


@dataclass
class EntryResult:
    """What became of a case.

    Attributes:
        name: of the case.
        results: of its scans.
        notes: what was passed over beside them.
        error: why it failed, or how many of its scans did.
        earlier: whether nothing was done, because that was known before.
    """

    name: str
    results: list[Result] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str | None = None
    earlier: bool = False


def segment_entry(entry: Entry, request: ArchiveRequest, how: str) -> EntryResult:
    """Segment what an entry holds, and write down how that went."""
    if entry.clash is not None:
        line = f"its mask would be called like that of {entry.clash}; rename one of the two"
        return EntryResult(entry.name, error=f"{place_of(entry.source)}: {line}")
    request.model.load()  # before the clock starts: it is loaded once, not for each case
    attempt, known = _Attempt.of(entry, request, how)
    if known is not None:
        return known
    attempt.write("begun")
    try:
        found = attempt.segment()
    except DataError as error:
        found = EntryResult(entry.name, error=str(error))
    except FullscaleError:
        attempt.write("stopped")
        raise
    except Exception as error:
        found = EntryResult(entry.name, error=describe_failure(entry.name, error))
    except BaseException:
        attempt.write("stopped")
        raise
    attempt.write("done" if found.error is None else "failed", found)
    return found


@dataclass
class _Attempt:
    """One attempt at an entry."""

    entry: Entry
    request: ArchiveRequest
    row: Row
    started: float = field(default_factory=time.perf_counter)

    @classmethod
    def of(cls, entry: Entry, request: ArchiveRequest, how: str) -> tuple[_Attempt, EntryResult | None]:
        """Say what is tried, and what came of it earlier where nothing has changed since."""
        before = entry.earlier or Row(entry.name, "stopped", turn=0, tries=0)
        try:
            content = _content_of(entry.source, before.content)
        except (OSError, DataError) as error:
            return cls(entry, request, before), EntryResult(entry.name, error=str(error))
        work = digest_of(how, content["content"])
        known = content | {"how": how, "files": before.content.get("files", {})}
        again = work == before.work and not (request.retry and before.state == "failed")
        attempt = cls(entry, request, next_attempt(entry.name, work, entry.earlier, known, afresh=not again))
        if not again:
            return attempt, None
        if before.state == "done" and attempt.masks_are_ours():
            return attempt, restored(before, request.output)
        if before.state == "failed" and before.tries >= TRIES:
            return attempt, restored(before, request.output)
        if before.state == "begun" and before.tries >= TRIES and not request.retry:
            given_up = EntryResult(entry.name, error=f"its process was killed at each of {before.tries} tries")
            attempt.row = replace(attempt.row, tries=before.tries)
            attempt.write("failed", given_up)
            return attempt, given_up
        return attempt, None

    def masks_are_ours(self) -> bool:
        """Whether all masks that were written are there as they were."""
        files = self.row.content["files"]
        return all(state_of(self.request.output / name) == list(state) for name, state in files.items())

    def segment(self) -> EntryResult:
        """Find the scans of the entry and segment them; what lies on a server is fetched first, and removed after."""
        source = self.entry.source
        if not isinstance(source, RemoteSeries | RemoteStudy):
            return self._segment(source)
        with temporary_folder("series") as folder:
            source.fetch(folder)
            other = None if source.chosen else no_scan(folder)
            if other is not None:
                return EntryResult(self.entry.name, notes=[f"{source.place}: passed over, {other}"])
            try:
                return _at_place(self._segment(folder), folder, source.place)
            except DataError as error:
                raise type(error)(str(error).replace(str(folder), source.place)) from error

    def _segment(self, source: Path | Scan) -> EntryResult:
        request, entry = self.request, self.entry
        predictor = request.model.load()
        if isinstance(source, Scan):
            scans, notes = [source], list[str]()
        else:
            scans, notes = find_scans([source], request.dicom, predictor.channels)
        folder = request.output if len(scans) == 1 else request.output / safe_name(entry.name)
        scans = [replace(scan, name=entry.name) for scan in scans] if len(scans) == 1 else scans
        self._require_ours(scans, folder, predictor)
        self.row.content["writing"] = True  # should it be killed from here on, what is there is ours
        self.write("begun")
        results = predict_scans(
            predictor, scans, folder, request.options, request.dicom, resample_channels=request.resample_channels
        )
        failed = [result for result in results if result.error is not None]
        error = None
        if failed:
            first = f"{failed[0].error}"
            error = first if len(results) == 1 else f"{len(failed)} of {len(results)} scans failed, such as: {first}"
        self.row.content["files"] = {
            path.relative_to(request.output).as_posix(): state_of(path)
            for path in planned_outputs(scans, folder, request.options, predictor.card.structures.values())
            if path.exists()
        }
        return EntryResult(entry.name, results, notes, error)

    def _require_ours(self, scans: Sequence[Scan], folder: Path, predictor: Predictor) -> None:
        """Refuse to replace what is read, and a file that this ledger knows nothing of, or that was changed since."""
        outputs = planned_outputs(scans, folder, self.request.options, predictor.card.structures.values())
        outputs += planned_copies(scans, folder, self.request.options, self.request.dicom)
        before = self.entry.earlier
        killed = before is not None and before.state in ("begun", "stopped") and before.content.get("writing", False)
        ours = self.row.content["files"]
        for path in outputs if not killed else ():
            name = path.relative_to(self.request.output).as_posix()
            if not path.exists() or state_of(path) == list(ours.get(name, ())):
                continue
            require_no_input([path], [self.request.model.path, *self._read(scans)])
            if not self.request.overwrite:
                what = "was changed since it was written" if name in ours else "is there and no mask of this ledger"
                raise DataError(f"{path} {what}; move it away, or replace it with --overwrite")

    def _read(self, scans: Sequence[Scan]) -> Iterator[Path]:
        """List what is read of the entry; a folder that it lies in is the archive, or a folder of a data set."""
        if isinstance(self.entry.source, Path):
            yield self.entry.source.parent
        elif isinstance(self.entry.source, Scan):
            yield self.entry.source.path
        for scan in scans:
            yield from scan.inputs

    def write(self, state: State, found: EntryResult | None = None) -> None:
        """Write down how the attempt stands."""
        content = dict(self.row.content)
        if found is not None:
            content |= {"results": [_plain(result, self.request.output) for result in found.results]}
            content |= {"notes": found.notes, "threads": torch.get_num_threads()}
            content |= {"device": choose_device(self.request.model.device).type}
        seconds, line = time.perf_counter() - self.started, (found and found.error) or ""
        row = replace(self.row, state=state, seconds=seconds, at=time.time(), line=line, content=content)
        write_row(self.request.output, row)


def _content_of(source: Source, earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Say what a case holds, as `content_of` does."""
    if isinstance(source, RemoteSeries | RemoteStudy):
        return source.content(earlier)
    if isinstance(source, Path):
        return content_of(content_files(source), earlier)
    if source.files:
        return content_of(source.files, earlier)
    parts = source.channels.values() or [source.path]
    return content_of([file for part in parts for file in content_files(part)], earlier)


def _at_place(found: EntryResult, folder: Path, place: str) -> EntryResult:
    """Name where a series lies in place of the folder that it was fetched into."""

    def named(text: str) -> str:
        return text.replace(str(folder), place)

    results = [
        replace(result, scan=Path(place), notes=[*map(named, result.notes)], error=result.error and named(result.error))
        for result in found.results
    ]
    return replace(found, results=results, notes=[*map(named, found.notes)], error=found.error and named(found.error))


def _plain(result: Result, output: Path) -> dict[str, Any]:
    """Turn a result into plain values; masks are named from the folder of the output, which may be moved."""
    written = (result.mask, result.segmentation, result.uncertainty)
    mask, segmentation, uncertainty = (None if path is None else path.relative_to(output) for path in written)
    return replace(result, mask=mask, segmentation=segmentation, uncertainty=uncertainty).as_dict()


def _unpacked(plain: dict[str, Any], output: Path) -> Result:
    written = ("mask", "segmentation", "uncertainty")
    paths = {name: output / plain[name] for name in written if plain.get(name) is not None}
    return Result(**plain | {"scan": Path(plain["scan"])} | paths)


def restored(row: Row, output: Path) -> EntryResult:
    """Say what the ledger says of a case that has ended."""
    results = [_unpacked(plain, output) for plain in row.content.get("results", [])]
    return EntryResult(row.case, results, row.content.get("notes", []), row.line or None, earlier=True)


def stamp_of(path: Path) -> tuple[tuple[int, ...], ...]:
    """Return what changes when a model is written again under the same path."""
    cards = [found for depth in ("", "*/", "*/*/") for found in sorted(path.glob(f"{depth}model.json"))]
    return tuple(tuple(state_of(file)) for file in (path, *cards))


@cache
def _load(model: ModelRequest, _: tuple[tuple[int, ...], ...]) -> Predictor:
    settings = (model.device, model.batch_size, model.quick, model.postprocess, model.region, model.runtime)
    return Predictor.from_run(model.path, *settings)
