"""A mask for whoever waits for it: a job, its end, and the answer in the parts that the clients read."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from scipy import ndimage

from fullscale.data.volume_files import read_volume, volume_suffix, write_volume
from fullscale.geometry.volume import Volume
from fullscale.serve.job_routes import short_body, upload_limits
from fullscale.serve.jobs import Job
from fullscale.serve.monai_label.state import NO_SESSION, Monai, MonaiLabel, attachment, parse_params, received
from fullscale.serve.service import JobRequest, NotServed, Refused, Service
from fullscale.serve.uploads import Upload
from fullscale.serve.worker import packed_scan

routes = APIRouter()

_LOOK_S = 0.1
_TYPES = ("uint8", "uint16", "int16", "uint32", "int32")
_CONVERTED = (".nrrd", ".nii.gz", ".nii", ".mha")


@routes.post("/infer/{model}", summary="The mask of an image, now")
async def infer(
    model: str,
    request: Request,
    monai: Monai,
    image: str = "",
    session_id: str = "",
    output: Literal["all", "image", "json", "dicom_seg"] = "all",
) -> Response:
    """Queue a job for a case, a session or an upload, wait for its end, and send mask and parameters in one body."""
    monai.service.model(model)
    job, params = await _submitted(model, request, monai, image, session_id)
    ended = await _ended(monai.service, job, request)
    if ended.state != "done":
        raise HTTPException(422, ended.failure or f"the job was {ended.state}")
    return await _answer(monai.service, ended, output, params)


async def _submitted(
    model: str, request: Request, monai: MonaiLabel, image: str, session_id: str
) -> tuple[Job, dict[str, Any]]:
    service, asked = monai.service, JobRequest(model=model)
    kind = request.headers.get("content-type", "")
    if kind.startswith("multipart/"):
        with service.new_upload() as (id, folder):
            upload = await received(request, folder, upload_limits(service))
            params = parse_params(upload.fields.get("params", "{}"))
            files = [(name, path) for name, path in upload.files if path.stat().st_size]
            if any(name == "label" for name, _ in files):
                raise Refused("the models here take no scribbles and no other label: leave out the file label")
            if files:
                sent = Upload(upload.fields, [("scan", path) for _, path in files], upload.size)
                return await asyncio.to_thread(service.submit_upload, id, asked, sent), params
            scan = await asyncio.to_thread(_known_scan, monai, image, session_id, asked)
            return await asyncio.to_thread(service.submit_scan, id, asked, scan), params
    body = (await short_body(request)).decode("utf-8", "replace")
    params = parse_params(body) if kind.startswith("application/json") else {}
    scan = await asyncio.to_thread(_known_scan, monai, image, session_id, asked)
    with service.new_upload() as (id, _):
        return await asyncio.to_thread(service.submit_scan, id, asked, scan), params


def _known_scan(monai: MonaiLabel, image: str, session_id: str, asked: JobRequest) -> dict[str, Any]:
    """Say which scan is meant: that of a session, or a case."""
    if session_id:
        session = monai.sessions.get(session_id)
        if session is None:
            raise NotServed(NO_SESSION)
        return {"uploaded": [str(path) for path in session.files]}
    if not image:
        raise Refused("neither an image nor a session nor a file: name one")
    name, _, _ = monai.case(image)
    cases = monai.service.cases_of(monai.service.model(asked.model))
    if name not in cases:
        raise NotServed(f"the model {asked.model} does not take the image {name!r}")
    asked.case = name
    if image != name:  # the UID of one series of a study
        asked.series = image
    return {"case": packed_scan(cases[name])}


async def _ended(service: Service, job: Job, request: Request) -> Job:
    """Wait for the end of a job; where the client goes away, the job is cancelled."""
    while True:
        current = await asyncio.to_thread(service.job, job.id)
        if current.ended:
            return current
        if await request.is_disconnected():
            await asyncio.to_thread(service.runner.cancel, job.id)
        if service.ending():
            raise HTTPException(503, "the service ends; the job goes on when it is started again")
        await asyncio.sleep(_LOOK_S)


async def _answer(service: Service, job: Job, output: str, params: dict[str, Any]) -> Response:
    said = {
        "label_names": {name: int(value) for value, name in job.result["labels"].items()},
        "latencies": job.result["seconds"],
        "warnings": job.result["warnings"],
        "job": job.id,
    }
    if output == "json":
        return JSONResponse(said)
    folder = service.settings.outputs(job.id)
    if output == "dicom_seg":
        if job.result["segmentation"] is None:
            raise HTTPException(422, "there is no DICOM SEG of it: the image is not DICOM, or see the notes of the job")
        return FileResponse(folder / job.result["segmentation"], media_type="application/dicom", filename="mask.dcm")
    mask = folder / job.result["mask"]
    read = cache(partial(read_volume, mask))  # once, where it is looked at and converted
    name, content = await asyncio.to_thread(_converted, mask, read, params)
    if output == "image":
        return Response(content, media_type="application/octet-stream", headers=attachment(name))
    said["centroids"] = await asyncio.to_thread(_centroids, read, said["label_names"])
    return _multipart(said, name, content)


def _converted(mask: Path, read: Callable[[], Volume], params: dict[str, Any]) -> tuple[str, bytes]:
    """Return the mask in the format that the client asks for; where it asks for none, as it is."""
    suffix = params.get("result_extension")
    if suffix is None or suffix == volume_suffix(mask) or volume_suffix(mask) not in _CONVERTED:
        return mask.name, mask.read_bytes()
    if suffix not in _CONVERTED:
        raise Refused(f"result_extension {suffix!r} is not written here; expected one of {', '.join(_CONVERTED)}")
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"mask{suffix}"
        volume = read()
        typed = volume.with_array(_of_type(volume.array, params.get("result_dtype")))
        # The plugin of OHIF 3 takes the answer for text, which leaves only small plain numbers as they are.
        write_volume(path, typed, keep_type=True, compress=params.get("result_compress") is not False)
        return path.name, path.read_bytes()


def _centroids(read: Callable[[], Volume], names: Mapping[str, int]) -> dict[str, list[int]]:
    """Return for each structure that was found its value and the voxel at the mean of its voxels, as OHIF wants it."""
    labels = read().array
    found = {name: value for name, value in names.items() if (labels == value).any()}
    centres = ndimage.center_of_mass(labels > 0, labels, list(found.values()))
    return {name: [found[name], *map(round, centre)] for name, centre in zip(found, centres, strict=True)}


def _of_type(labels: npt.NDArray[Any], asked: Any) -> npt.NDArray[Any]:
    """Bring labels to the type that a client asks for: OHIF takes the bytes for that, and looks at no header."""
    if asked is None:
        return labels
    if asked not in _TYPES:
        raise Refused(f"result_dtype {asked!r} is not written here; expected one of {', '.join(_TYPES)}")
    highest = int(labels.max(initial=0))
    if highest > np.iinfo(asked).max:
        raise Refused(f"the mask holds the label {highest}, for which result_dtype {asked} is too small")
    return labels.astype(asked)


def _multipart(params: dict[str, Any], name: str, mask: bytes) -> Response:
    boundary = secrets.token_hex(16)
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="params"\r\nContent-Type: application/json\r\n\r\n'
        f"{json.dumps(params)}\r\n"
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = head.encode() + mask + f"\r\n--{boundary}--\r\n".encode()
    return Response(body, media_type=f"multipart/form-data; boundary={boundary}")
