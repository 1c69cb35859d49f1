"""The routes of jobs: ask for one, watch it, cancel it, take what came of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import ValidationError

from fullscale.documents import first_fault, parse_json
from fullscale.serve.jobs import Job, State
from fullscale.serve.service import SCAN, JobRequest, Service
from fullscale.serve.uploads import UploadLimits, receive, require_zips
from fullscale.serve.views import JobView, ResultView, view_job, view_result

routes = APIRouter(tags=["jobs"])

LONGEST_JSON = 64 << 10
_LOOK_S = 0.2
_SIGN_OF_LIFE_S = 15.0
_FORM = JobRequest.model_json_schema()
_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": _FORM},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["model", SCAN],
                "properties": {name: field for name, field in _FORM["properties"].items() if name != "case"}
                | {SCAN: {"type": "string", "format": "binary"}},
            }
        },
    },
}


def the_service(request: Request) -> Service:
    """Return the service that answers a request."""
    service: Service = request.app.state.service
    return service


TheService = Annotated[Service, Depends(the_service)]
JobId = Annotated[str, Path(description="Name of the job.", pattern="^[0-9a-f]{16}$")]


def upload_limits(service: Service) -> UploadLimits:
    """Return what one request may send."""
    settings = service.settings
    return UploadLimits(settings.largest_upload, settings.upload_s, settings.idle_s)


@routes.post("/jobs", status_code=201, summary="Ask for a mask", openapi_extra={"requestBody": _BODY})
async def add_job(request: Request, service: TheService) -> JobView:
    """Of a case: JSON. Of an upload: a form with `model` and the file `scan`, or a file for each channel.

    A volume, a DICOM file, several of one series, or a zip of DICOM files.
    """
    if request.headers.get("content-type", "").startswith("multipart/"):
        job = await _from_upload(request, service)
    else:
        asked = _asked(parse_json_body(await short_body(request)))
        job = await asyncio.to_thread(service.submit_case, asked)
    return view_job(service, job)


async def _from_upload(request: Request, service: Service) -> Job:
    with service.new_upload() as (id, folder):
        upload = await receive(request, folder, upload_limits(service))
        await asyncio.to_thread(require_zips, upload)
        return await asyncio.to_thread(service.submit_upload, id, _asked(upload.fields), upload)


async def short_body(request: Request) -> bytes:
    """Read a body of JSON.

    Raises:
        HTTPException: 413 it is too long.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_JSON:
            raise HTTPException(413, f"the JSON of a request has at most {LONGEST_JSON} bytes")
    return body


def parse_json_body(body: bytes) -> Any:
    """Read the JSON of a request.

    Raises:
        HTTPException: 400 it is none.
    """
    try:
        return parse_json(body.decode("utf-8"))
    except ValueError as error:
        raise HTTPException(400, "the body is no JSON") from error


def _asked(content: Any) -> JobRequest:
    try:
        return JobRequest.model_validate(content)
    except ValidationError as error:
        raise HTTPException(422, first_fault(error)) from error


@routes.get("/jobs", summary="The jobs, the newest first")
def list_jobs(
    service: TheService,
    state: Annotated[State | None, Query(description="Those alone that stand so.")] = None,
    limit: Annotated[int, Query(description="So many at most.", ge=1, le=1000)] = 100,
) -> list[JobView]:
    """List the jobs."""
    return [view_job(service, job) for job in service.store.all(limit, state)]


@routes.get("/jobs/{id}", summary="How a job stands")
def get_job(id: JobId, service: TheService) -> JobView:
    """Say how a job stands."""
    return view_job(service, service.job(id))


@routes.delete("/jobs/{id}", summary="Cancel a job, or remove the files of one that ended")
def cancel_job(id: JobId, service: TheService) -> JobView:
    """One that waits is cancelled at once, one that runs in a few seconds; of one that ended the files are removed."""
    job = service.job(id)
    if not job.ended:
        service.runner.cancel(id)
    elif job.removed is None:
        service.runner.remove(job)
    return view_job(service, service.job(id))


@routes.get("/jobs/{id}/result", summary="Volumes, seconds, notes and warnings")
def get_result(id: JobId, service: TheService) -> ResultView:
    """Say what came of a job."""
    return view_result(done_job(service, id))


@routes.get("/jobs/{id}/mask", summary="The mask", response_class=FileResponse)
def get_mask(
    id: JobId,
    service: TheService,
    format: Annotated[
        Literal["volume", "seg"], Query(description="volume, in the scan's own format; of DICOM .nii.gz, or seg.")
    ] = "volume",
) -> FileResponse:
    """Send the mask, on the scan's own grid: the bytes that `fullscale predict` writes."""
    path = mask_file(service, done_job(service, id), format)
    return FileResponse(path, media_type=_media_type(path), filename=f"{id}{path.name.removeprefix('mask')}")


def mask_file(service: Service, job: Job, format: Literal["volume", "seg"] = "volume") -> FilePath:
    """Return the mask of a job that is done.

    Raises:
        HTTPException: 404 there is none of this format; 410 it is gone.
    """
    name: str | None = job.result["segmentation" if format == "seg" else "mask"]
    if name is None:
        raise HTTPException(404, "there is no DICOM SEG of it: see the notes of its result")
    path = service.settings.outputs(job.id) / name
    if not path.is_file():
        raise HTTPException(410, "the mask is no longer in the folder of the service")
    return path


@routes.get("/jobs/{id}/events", summary="How a job stands, whenever that changes (server-sent events)")
async def get_events(id: JobId, service: TheService) -> StreamingResponse:
    """Send `event: job` with the job as JSON at once and at every change, until it has ended."""
    await asyncio.to_thread(service.job, id)
    return StreamingResponse(_events(service, id), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _events(service: Service, id: str) -> AsyncIterator[str]:
    told, spoke = "", time.monotonic()
    while not service.ending():
        job = await asyncio.to_thread(service.store.get, id)
        if job is None:
            return
        now = view_job(service, job).model_dump_json()
        if now != told:
            yield server_sent("job", now)
            told, spoke = now, time.monotonic()
        elif time.monotonic() - spoke > _SIGN_OF_LIFE_S:
            yield ": still here\n\n"
            spoke = time.monotonic()
        if job.ended:
            return
        await asyncio.sleep(_LOOK_S)
    yield server_sent("ending", json.dumps({"detail": "the service ends; the job goes on when it is started again"}))


def server_sent(name: str, data: str) -> str:
    """Return an event as it is sent; the data are one line."""
    return f"event: {name}\ndata: {data}\n\n"


def done_job(service: Service, id: str) -> Job:
    """Return a job whose mask is there.

    Raises:
        NotServed: there is none of this name.
        HTTPException: 409 it is not done; 410 its files were removed.
    """
    job = service.job(id)
    if job.state != "done":
        why = f": {job.failure}" if job.failure else ""
        raise HTTPException(409, f"the job is {job.state}{why}")
    if job.removed is not None:
        raise HTTPException(410, f"the files of the job were removed: they are kept for {service.settings.kept}")
    return job


def _media_type(path: FilePath) -> str:
    known = {".gz": "application/gzip", ".dcm": "application/dicom", ".png": "image/png"}
    return known.get(path.suffix, "application/octet-stream")
