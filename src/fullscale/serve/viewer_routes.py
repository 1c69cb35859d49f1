"""What a viewer needs of jobs: their scans and masks as NIfTI, and news of all of them as it comes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import FileResponse, StreamingResponse

from fullscale.data.channels import read_scan
from fullscale.data.dicom.stack import DicomReadOptions
from fullscale.data.read import read_label
from fullscale.geometry.volume import Volume
from fullscale.serve.case_routes import NIFTI, TheBook, channel_of
from fullscale.serve.casebook import CaseBook
from fullscale.serve.job_routes import JobId, done_job, mask_file, server_sent
from fullscale.serve.views import view_job
from fullscale.serve.worker import scan_of

routes = APIRouter()

NEWEST = 200
"""Jobs that news are sent of."""
_LOOK_S = 0.5
_SIGN_OF_LIFE_S = 15.0


@routes.get("/jobs/{id}/scan", summary="The scan of a job as NIfTI", tags=["jobs"], response_class=FileResponse)
def get_job_scan(
    id: JobId, book: TheBook, channel: Annotated[str | None, Query(description="The first without.")] = None
) -> FileResponse:
    """Send one channel of what was segmented, an upload too, as long as it is kept."""
    job = book.service.job(id)
    if job.removed is not None:
        raise HTTPException(410, f"the files of the job were removed: they are kept for {book.service.settings.kept}")
    model = book.service.model(job.model)
    wanted, channels = channel_of(model, channel), model.channels
    dicom = DicomReadOptions(**job.request["dicom"])

    def read() -> Volume:
        return read_scan(scan_of(job.request, dicom, channels), channels, dicom)[wanted]

    return FileResponse(book.shown.file(("scan of job", id, wanted), read), media_type=NIFTI)


@routes.get("/jobs/{id}/mask.nii", summary="The mask of a job as NIfTI", tags=["jobs"], response_class=FileResponse)
def get_job_mask(id: JobId, book: TheBook) -> FileResponse:
    """Send the mask in one byte a voxel, whatever the format of the scan."""
    path = mask_file(book.service, done_job(book.service, id))
    shown = book.shown.mask(("mask of job", id), lambda: read_label(path, path))
    return FileResponse(shown, media_type=NIFTI)


@routes.get("/events", summary="News of jobs and saved masks (server-sent events)", tags=["service"])
async def get_events(book: TheBook) -> StreamingResponse:
    """Send `event: jobs` with those that changed, all at first, and `event: annotations` when a mask was saved."""
    return StreamingResponse(_news(book), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _news(book: CaseBook) -> AsyncIterator[str]:
    told: dict[str, str] = {}
    saved, spoke, first = book.annotations.saved, time.monotonic(), True
    while not book.service.ending():
        now = await asyncio.to_thread(_jobs, book)
        changed = [view for id, view in now.items() if told.get(id) != view]
        if changed or first:
            yield server_sent("jobs", f"[{','.join(changed)}]")
        if saved != book.annotations.saved:
            saved = book.annotations.saved
            yield server_sent("annotations", json.dumps({"saved": saved}))
        if changed or first:
            told, spoke, first = now, time.monotonic(), False
        elif time.monotonic() - spoke > _SIGN_OF_LIFE_S:
            yield ": still here\n\n"
            spoke = time.monotonic()
        await asyncio.sleep(_LOOK_S)
    yield server_sent("ending", json.dumps({"detail": "the service ends"}))


def _jobs(book: CaseBook) -> dict[str, str]:
    jobs = reversed(book.service.store.all(NEWEST))
    return {job.id: view_job(book.service, job).model_dump_json() for job in jobs}
