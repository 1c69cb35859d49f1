"""The service without its HTTP: models, cases, and the jobs that are asked for."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from fullscale.data.discover import Scan
from fullscale.errors import DataError, FullscaleError
from fullscale.files import only_one
from fullscale.inference.batch import find_scans
from fullscale.progress import Progress, ignore
from fullscale.serve.jobs import Job, JobStore, new_id
from fullscale.serve.metrics import Metrics
from fullscale.serve.runner import Runner
from fullscale.serve.settings import ServedModel, ServeSettings
from fullscale.serve.uploads import DICOM, Upload
from fullscale.serve.worker import packed_scan
from fullscale.text import counted, nearest

_log = logging.getLogger(__name__)

Cases = dict[tuple[str, ...], dict[str, Scan]]
SCAN = "scan"
"""Name of the part of an upload that is a scan."""


class NotServed(FullscaleError):
    """There is no such model, case or job here."""


class Refused(FullscaleError):
    """What was sent cannot become a job."""


class Full(FullscaleError):
    """So many jobs wait that no other is taken."""


class JobRequest(BaseModel):
    """What is asked for beside the scan itself.

    Attributes:
        model: name of the model.
        case: name of a case of the data folder; not with an upload.
        series: of a DICOM study, the UID or description of the series.
        phase: of a series with several phases or echoes, its number or name.
        allow_gaps: fill missing DICOM slices by interpolation.
        untilt: resample DICOM slices of a tilted gantry.
        seg_type: of the DICOM SEG; labelmap is small, binary for older viewers.
    """

    model_config = ConfigDict(extra="forbid")

    model: str
    case: str | None = None
    series: str | None = None
    phase: str | None = None
    allow_gaps: bool = False
    untilt: bool = False
    seg_type: Literal["labelmap", "binary"] | None = None

    def values(self) -> dict[str, Any]:
        """Return what the worker is told of it."""
        dicom = self.model_dump(include={"series", "phase", "allow_gaps", "untilt"})
        return {"dicom": dicom, "seg_type": self.seg_type}


@dataclass
class Service:
    """The service: what it offers, and what it does.

    Attributes:
        settings: what it was started with.
        store: its jobs.
        cases: the scans of the data folder by name, as models of these channels see them.
        ending: tells whether it is about to end, so that what waits for news stops waiting.
    """

    settings: ServeSettings
    store: JobStore
    cases: Cases = field(default_factory=dict)
    ending: Callable[[], bool] = lambda: False

    @cached_property
    def metrics(self) -> Metrics:
        """What is counted."""
        return Metrics(self.store)

    @cached_property
    def runner(self) -> Runner:
        """What works on the jobs."""
        return Runner(self.settings, self.store, self.metrics.job_ended)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Work on jobs while the block lasts; what runs at its end waits for the next start."""
        self.runner.start()
        try:
            yield
        finally:
            self.runner.stop()
            self.store.close()

    def model(self, name: str) -> ServedModel:
        """Return a model by its name.

        Raises:
            NotServed: there is none.
        """
        if name not in self.settings.models:
            raise NotServed(f"no model {name!r} here{nearest(name, self.settings.models)}")
        return self.settings.models[name]

    def cases_of(self, model: ServedModel) -> dict[str, Scan]:
        """Return the cases that a model can be asked for."""
        return self.cases.get(model.channels, {})

    def job(self, id: str) -> Job:
        """Return a job by its name.

        Raises:
            NotServed: there is none.
        """
        found = self.store.get(id)
        if found is None:
            raise NotServed(f"no job {id!r} here; results are kept for a while and jobs not for ever")
        return found

    def submit_case(self, request: JobRequest) -> Job:
        """Queue a job for a case of the data folder.

        Raises:
            NotServed: there is no such model, or no such case.
            Full: too many jobs wait.
        """
        model = self.model(request.model)
        cases = self.cases_of(model)
        if request.case is None or request.case not in cases:
            hint = nearest(request.case, cases) if request.case else "; name a case, or upload a scan"
            raise NotServed(f"no case {request.case!r} for the model {model.name}{hint if cases else ': no --data'}")
        return self._add(new_id(), request, {"case": packed_scan(cases[request.case])})

    @contextmanager
    def new_upload(self) -> Iterator[tuple[str, Path]]:
        """Give the name of a job that is to be, and a folder for its scan, which is removed where the block fails.

        Raises:
            OSError: the folder cannot be made.
        """
        id = new_id()
        folder = self.settings.inputs(id)
        folder.mkdir(parents=True, mode=0o700)
        try:
            yield id, folder
        except BaseException:
            shutil.rmtree(folder.parent, ignore_errors=True)
            raise

    def submit_upload(self, id: str, request: JobRequest, upload: Upload) -> Job:
        """Queue a job for what was uploaded.

        Raises:
            NotServed: there is no such model.
            Refused: the files are not one scan of the model.
            Full: too many jobs wait.
        """
        self.metrics.uploaded.inc(upload.size)
        if request.case is not None:
            raise Refused("a case of the service or an upload, not both: leave one out")
        return self._add(id, request, _uploaded(self.model(request.model), upload))

    def submit_scan(self, id: str, request: JobRequest, scan: dict[str, Any]) -> Job:
        """Queue a job for a scan that the service has already.

        Raises:
            Full: too many jobs wait.
        """
        return self._add(id, request, scan)

    def drop_upload(self, id: str) -> None:
        """Remove an upload that becomes no job."""
        shutil.rmtree(self.settings.jobs / id, ignore_errors=True)

    def _add(self, id: str, request: JobRequest, scan: dict[str, Any]) -> Job:
        if not self.store.add(id, request.model, request.case, request.values() | scan, self.settings.most_waiting):
            raise Full(f"{self.settings.most_waiting} jobs wait already; ask again later")
        self.runner.wake()
        return self.job(id)


def _uploaded(model: ServedModel, upload: Upload) -> dict[str, Any]:
    """Say which of the files is what: one scan, the slices of one, or a file for each channel."""
    names = [name for name, _ in upload.files]
    paths = [path for _, path in upload.files]
    if names and set(names) == {SCAN} and (len(paths) == 1 or {path.suffix for path in paths} == {DICOM}):
        return {"uploaded": [str(path) for path in paths]}
    if len(model.channels) > 1 and sorted(names) == sorted(model.channels):
        by_channel = dict(zip(names, paths, strict=True))
        channels = {name: by_channel[name] for name in model.channels}
        return {"case": packed_scan(Scan(SCAN, channels[model.channels[0]], channels=channels))}
    wanted = f"one file called {SCAN!r} (a volume, a DICOM file or a zip of DICOM), or several of DICOM"
    if len(model.channels) > 1:
        wanted += f", or a file for each of {', '.join(model.channels)}"
    raise Refused(f"the upload has {len(names)} files, expected {wanted}")


@contextmanager
def opened_service(settings: ServeSettings, cases: Cases) -> Iterator[Service]:
    """Open the folder of the service, which no other process may have.

    Args:
        settings: what it is started with.
        cases: as `find_cases` found them.

    Raises:
        UsageError: another process serves from the same folder.
        OutputError: the folder cannot be written.
    """
    settings.make_folders()
    with only_one(settings.state, "serving"):
        yield Service(settings, JobStore(settings.database), cases)


def find_cases(settings: ServeSettings, progress: Progress = ignore) -> Cases:
    """Look at the data folder: the cases by name, as models of these channels see them.

    Args:
        settings: what the service is started with.
        progress: told of each file that was looked at.

    Raises:
        DataError: the data folder holds no scan for any of the models.
    """
    found: Cases = {}
    if settings.data is None:
        return found
    failures: list[DataError] = []
    without: list[str] = []
    for channels in dict.fromkeys(model.channels for model in settings.models.values()):
        try:
            scans, beside = find_scans([settings.data], None, channels, progress)
        except DataError as error:
            failures.append(error)
            without.append(", ".join(channels))
            continue
        found[channels] = {scan.name: scan for scan in scans}
        if beside:  # they name files, which a log must not
            _log.info("%s on the data folder: fullscale inspect shows them", counted(len(beside), "note"))
    if not found:
        raise failures[0]
    for names in without:
        _log.warning("no case for models of %s: fullscale predict says why", names)
    return found
