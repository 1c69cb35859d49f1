"""Images, masks that people saved, and scans that are sent for a while."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse, Response

from fullscale.data.discover import Scan
from fullscale.data.read import read_image
from fullscale.data.volume_files import volume_suffix, write_volume
from fullscale.serve.annotations import FINAL, Annotation
from fullscale.serve.case_routes import mask_of_upload
from fullscale.serve.job_routes import upload_limits
from fullscale.serve.monai_label.state import NO_SESSION, Monai, MonaiLabel, Tag, attachment, parse_params, received
from fullscale.serve.service import NotServed, Refused

routes = APIRouter()

READ_ONLY = "the data folder is not written to: upload a scan as a session, or put it there and start the service again"


@routes.get("/datastore/", summary="The images and their labels")
def datastore(monai: Monai, output: Literal["stats", "all", "train"] = "stats") -> Any:
    """Count them, or list them all; `train` lists those with labels, by name: no path of this machine is told."""
    if output == "stats":
        return monai.stats()
    if output == "train":
        return [{"image": name, "label": name} for name in monai.book.cases if monai.book.completed(name)]
    objects = {
        name: {
            "image": {"ext": _suffix(scan), "info": {}},
            "labels": {tag: _label_entry(found) for tag, found in monai.book.annotations.of_case(name).items()},
        }
        for name, (scan, _) in monai.book.cases.items()
    }
    return {"name": "fullscale", "description": "", "images_dir": ".", "labels_dir": ".", "objects": objects}


def _label_entry(found: Annotation) -> dict[str, Any]:
    return {
        "ext": ".nii.gz",
        "info": {"params": {"label_names": found.about["label_names"]}, "ts": found.about["saved"]},
    }


def _suffix(scan: Scan) -> str:
    return volume_suffix(scan.path) or ".nii.gz"


def image_bytes(scan: Scan) -> tuple[str, bytes]:
    """Return a scan as one file, its suffix first: its own, or of DICOM a volume made of it."""
    if volume_suffix(scan.path) is not None:
        return _suffix(scan), scan.path.read_bytes()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "image.nii.gz"
        write_volume(path, read_image(scan.source))
        return ".nii.gz", path.read_bytes()


@routes.get("/datastore/image", summary="An image")
@routes.head("/datastore/image", include_in_schema=False)
def get_image(monai: Monai, image: str) -> Response:
    """Send the first channel of a case; of DICOM, a volume made of it."""
    _, scan, _ = monai.case(image)
    suffix, content = image_bytes(scan)
    return Response(content, media_type="application/octet-stream", headers=attachment(f"image{suffix}"))


@routes.get("/datastore/image/info", summary="What is known of an image")
def get_image_info(monai: Monai, image: str) -> dict[str, Any]:
    """Say how it is called."""
    name, scan, _ = monai.case(image)
    return {"name": f"{name}{_suffix(scan)}"}


@routes.put("/datastore/", include_in_schema=False)
@routes.put("/datastore/image", summary="Refused: the data folder is read only")
@routes.delete("/datastore/", include_in_schema=False)
@routes.delete("/datastore/image", summary="Refused: the data folder is read only")
def refuse_to_change_images() -> Response:
    """Refuse."""
    raise HTTPException(403, READ_ONLY)


@routes.put("/datastore/label", summary="Save a mask beside the data")
async def save_label(request: Request, monai: Monai, image: str, tag: Tag = FINAL) -> dict[str, Any]:
    """Keep the file `label` as the newest mask of the image and tag; earlier ones stay, and the answer counts them.

    With `label_info` in `params`, the values of the mask become those that the models have for the names.
    """
    name, scan, model = await asyncio.to_thread(monai.case, image)
    tag = tag or FINAL
    with monai.service.new_upload() as (id, folder):
        upload = await received(request, folder, upload_limits(monai.service))
        params = parse_params(upload.fields.get("params", "{}"))
        given = monai.service.settings.models.get(str(params.get("model")), model)
        mask = await mask_of_upload(upload, "label", scan, given, params.get("label_info"))
        kept = await asyncio.to_thread(monai.book.annotations.save, name, tag, mask, given.card.structures, params)
        monai.service.drop_upload(id)
    return {"image": name, "label": name, "tag": tag, "version": kept.version, "earlier": kept.version - 1}


def _saved(monai: MonaiLabel, label: str, tag: str) -> Annotation:
    name, _, _ = monai.case(label)
    found = monai.book.annotations.newest(name, tag)
    if found is None:
        raise NotServed(f"no mask of the image {name!r} with the tag {tag!r} was saved")
    return found


@routes.get("/datastore/label", summary="The newest mask that was saved")
def get_label(monai: Monai, label: str, tag: Tag) -> FileResponse:
    """Send it."""
    found = _saved(monai, label, tag)
    return FileResponse(found.mask, media_type="application/octet-stream", filename="label.nii.gz")


@routes.head("/datastore/label", include_in_schema=False)
def has_label(monai: Monai, image: str, tag: Tag) -> Response:
    """Say whether there is one."""
    _saved(monai, image, tag)
    return Response()


@routes.get("/datastore/label/info", summary="What is known of a mask")
def get_label_info(monai: Monai, label: str, tag: Tag) -> dict[str, Any]:
    """Say when it was saved, and what its values stand for."""
    return {"params": {"label_names": _saved(monai, label, tag).about["label_names"]}}


@routes.delete("/datastore/label", summary="Put the masks of an image and tag away")
def remove_label(monai: Monai, id: str, tag: Tag) -> dict[str, Any]:
    """They stay in the folder of the service, under a hidden name."""
    name, _, _ = monai.case(id)
    if not monai.book.annotations.remove(name, tag):
        raise NotServed(f"no mask of the image {name!r} with the tag {tag!r} was saved")
    return {}


@routes.put("/session/", summary="Send a scan for a while")
async def create_session(request: Request, monai: Monai, expiry: int = 0) -> dict[str, Any]:
    """Keep one scan for an hour after its last use: a volume, DICOM files of one series, or a zip of them."""
    with monai.sessions.new(expiry) as session:
        upload = await received(request, session.folder, upload_limits(monai.service))
        session.files = [path for _, path in upload.files]
        if not session.files:
            raise Refused("the request has no file")
    return {"session_id": session.id, "session_info": session.as_dict()}


@routes.get("/session/{session_id}", summary="A session")
def get_session(monai: Monai, session_id: str, image: bool = False) -> Any:
    """Say what is known of it, or send its first file."""
    session = monai.sessions.get(session_id)
    if session is None:
        raise NotServed(NO_SESSION)
    return FileResponse(session.files[0], filename=session.files[0].name) if image else session.as_dict()


@routes.delete("/session/{session_id}", summary="End a session")
def remove_session(monai: Monai, session_id: str) -> dict[str, Any]:
    """Remove its files."""
    session = monai.sessions.remove(session_id)
    if session is None:
        raise NotServed(NO_SESSION)
    return session.as_dict()
