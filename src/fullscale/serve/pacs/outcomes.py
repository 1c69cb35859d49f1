"""From results that are wanted to segmentations that are to be sent: jobs are asked for, and what they made is kept."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fullscale.data.dicom.facts import version_of
from fullscale.data.dicom.replaced import SegReference, write_replacing
from fullscale.errors import DataError
from fullscale.serve.jobs import Job
from fullscale.serve.pacs.places import Places
from fullscale.serve.pacs.store import Outcome, PacsStore, listed
from fullscale.serve.service import Full, JobRequest, NotServed, Service
from fullscale.text import without_folders

_log = logging.getLogger(__name__)

_SEND_AGAIN = "send the series again"


@dataclass(frozen=True)
class Outcomes:
    """Makes results of series that were taken.

    Attributes:
        store: of series and results.
        places: the folders.
        service: does the jobs.
    """

    store: PacsStore
    places: Places
    service: Service

    def step(self) -> None:
        """Ask for jobs that are not there yet, and take in what came of those that ended."""
        for outcome in self.store.outcomes("state = 'waiting' ORDER BY created"):
            job = self.service.store.get(outcome.job)
            if job is None:
                if not self._ask(outcome):
                    return
            elif job.state == "done":
                self._collect(outcome, job)
            elif job.ended:
                self._fail(outcome, job.failure or f"the job was {job.state}", job.attempts)

    def tidy(self) -> None:
        """Remove files whose time is over: of series that were taken, and of segmentations that were sent."""
        before = time.time() - self.service.settings.keep_s
        for series in self.store.series("state IN ('taken', 'ignored') AND arrived < ?", before):
            if not self.store.outcomes("series = ? AND state = 'waiting'", series.id):
                shutil.rmtree(self.places.series(series.id), ignore_errors=True)
                self.store.set("pacs_series", "id = ? AND state != 'arriving'", (series.id,), state="removed")
        for outcome in self.store.outcomes("state = 'done' AND created < ?", before):
            if not self.store.deliveries("result = ? AND state IN ('waiting', 'dead')", outcome.id):
                self.places.result(outcome.id).unlink(missing_ok=True)

    def _ask(self, outcome: Outcome) -> bool:
        """Queue the job of a result; tell whether there was room."""
        asked = json.loads(outcome.request)
        files = sorted(self.places.series(outcome.series).glob("*.dcm"))
        if not files:
            self._fail(outcome, "the files of the series were removed, as their time was over", 0, _SEND_AGAIN)
            return True
        try:
            model = self.service.model(outcome.model)
            is_current = version_of(files) == asked["version"] and model.card.digest == asked["digest"]
        except (NotServed, DataError) as error:
            self._fail(outcome, str(error), 0)
            return True
        if not is_current:  # it, or the model, changed before there was a job
            self._take_anew(outcome)
            return True
        reading = {name: asked[name] for name in ("phase", "allow_gaps", "untilt", "seg_type")}
        try:
            uploaded = _linked(files, self.service.settings.inputs(outcome.job))
            request = JobRequest(model=outcome.model, **reading)
            self.service.submit_scan(outcome.job, request, {"uploaded": [str(file) for file in uploaded]})
        except Full:
            self.service.drop_upload(outcome.job)
            return False
        return True

    def _take_anew(self, outcome: Outcome) -> None:
        """Forget a result that was not made yet, and let its series be taken again, with what is served now."""
        with self.store.change():
            self.store.remove("pacs_results", "id = ?", outcome.id)
            self.store.set("pacs_series", "id = ? AND state = 'taken'", (outcome.series,), state="arriving")

    def _collect(self, outcome: Outcome, job: Job) -> None:
        name = job.result.get("segmentation")
        made = self.service.settings.outputs(job.id) / str(name)
        used, wanted = job.result.get("model_digest"), json.loads(outcome.request)["digest"]
        if used != wanted and self.service.model(outcome.model).card.digest == used:  # another was chosen meanwhile
            self._take_anew(outcome)
        elif used != wanted:
            why = "the model was changed on disk while it was served"
            self._fail(outcome, why, job.attempts, "start the service again, and put it back")
        elif not name:
            why = "; ".join(job.result.get("notes", [])) or "the job wrote no DICOM SEG"
            self._fail(outcome, why, job.attempts)
        elif not made.is_file():
            self._fail(outcome, "the segmentation was removed before it could be sent", job.attempts)
        else:
            try:
                self._keep(outcome, made)
            except DataError as error:
                self._fail(outcome, without_folders(error), job.attempts)

    def _keep(self, outcome: Outcome, made: Path) -> None:
        """Keep a segmentation, with a reference to the one that it replaces, and write down where it goes."""
        earlier = self.store.outcomes(
            "series = ? AND model = ? AND state = 'done' AND id != ? ORDER BY created DESC LIMIT 1",
            *(outcome.series, outcome.model, outcome.id),
        )
        replaced = SegReference.parse(earlier[0].sop) if earlier else None
        reference = write_replacing(made, self.places.result(outcome.id), replaced)
        with self.store.change():
            done: dict[str, Any] = {"state": "done", "sop": str(reference)}
            self.store.set("pacs_results", "id = ?", (outcome.id,), **done, replaces=earlier[0].id if earlier else "")
            for place in listed(outcome.destinations):
                row = {"result": outcome.id, "destination": place, "state": "waiting", "due": time.time()}
                self.store.add("pacs_deliveries", **row)
        _log.info("PACS: result %s of job %s is to be sent", outcome.id, outcome.job)

    def _fail(self, outcome: Outcome, why: str, attempts: int, remedy: str = "") -> None:
        remedy = remedy or "look at the scan and the model; put back tries again"
        with self.store.change():
            self.store.set("pacs_results", "id = ?", (outcome.id,), state="failed")
            self.store.write_letter("job", outcome.id, outcome.study, f"{outcome.model}: {why}", attempts, remedy)
        _log.warning("PACS: result %s could not be made; fullscale letters says why", outcome.id)


def _linked(files: list[Path], folder: Path) -> list[Path]:
    """Give a job its files: further names of the same bytes, where the file system can."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    linked = []
    for file in files:
        target = folder / file.name
        target.unlink(missing_ok=True)
        try:
            os.link(file, target)
        except OSError:
            shutil.copyfile(file, target)
        linked.append(target)
    return linked
