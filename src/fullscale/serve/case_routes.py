"""The routes of cases: the scan, its truth, masks that people saved, and scores; a case is named in the query.

A case can have any name, so none is part of a path, and none reaches a log.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from fullscale.data.channels import read_scan
from fullscale.data.discover import Scan
from fullscale.data.read import read_label
from fullscale.documents import parse_json
from fullscale.errors import DataError
from fullscale.files import state_of
from fullscale.geometry.volume import Volume
from fullscale.serve.annotations import FINAL, Annotation, checked_mask
from fullscale.serve.casebook import CaseBook
from fullscale.serve.job_routes import done_job, mask_file, upload_limits
from fullscale.serve.service import NotServed, Refused
from fullscale.serve.settings import ServedModel
from fullscale.serve.truths import find_truth, score_mask
from fullscale.serve.uploads import Upload, receive
from fullscale.serve.views import (
    AnnotationView,
    CaseDetailsView,
    ScoresView,
    view_annotation,
    view_details,
    view_scores,
)

routes = APIRouter(prefix="/cases", tags=["cases"])

NIFTI = "application/octet-stream"
MASK = "mask"
"""Name of the part of a form that is a mask."""
LONGEST_WORD, LONGEST_NOTE = 100, 1000


def the_book(request: Request) -> CaseBook:
    """Return the cases that a request asks for."""
    book: CaseBook = request.app.state.book
    return book


TheBook = Annotated[CaseBook, Depends(the_book)]
CaseName = Annotated[str, Query(description="Name of the case.")]
Tag = Annotated[str, Query(description="final, or another word.", min_length=1, max_length=64)]
Version = Annotated[int, Query(description="Which of the masks; 0 for the newest.", ge=0)]


@routes.get("/details", summary="What is known of a case")
def get_details(book: TheBook, case: CaseName) -> CaseDetailsView:
    """Say which channels it has, which models take it, and which masks of it were saved."""
    return view_details(book, case)


@routes.get("/scan", summary="A scan as NIfTI", response_class=FileResponse)
def get_scan(
    book: TheBook, case: CaseName, channel: Annotated[str | None, Query(description="The first without.")] = None
) -> FileResponse:
    """Send one channel of a case, whatever its format, on its own grid."""
    scan, model = book.case(case)
    return FileResponse(shown_scan(book, scan, model, channel), media_type=NIFTI)


def shown_scan(book: CaseBook, scan: Scan, model: ServedModel, channel: str | None) -> Path:
    """Return one channel of a case as NIfTI.

    Raises:
        NotServed: it has no such channel.
    """
    wanted = channel_of(model, channel)
    return book.shown.file(
        ("scan", scan.name, wanted, *state_of(scan.path)), lambda: read_scan(scan, model.channels)[wanted]
    )


def channel_of(model: ServedModel, channel: str | None) -> str:
    """Return the channel of a model that is asked for, the first where none is named.

    Raises:
        NotServed: it has no such channel.
    """
    if channel not in (None, *model.channels):
        raise NotServed(f"no channel {channel!r}; there are {', '.join(model.channels)}")
    return channel or model.channels[0]


@routes.get("/truth", summary="The truth of a case as NIfTI", response_class=FileResponse)
def get_truth(book: TheBook, case: CaseName, model: str | None = None) -> FileResponse:
    """Send the mask of the data set, or where there is none the newest finished one, with the values of a model."""
    _, first = book.case(case)
    chosen = first if model is None else book.service.model(model)
    known = find_truth(book, case, chosen)
    path = book.shown.mask(("truth", case, chosen.name, known.source), lambda: known.truth.labels)
    return FileResponse(path, media_type=NIFTI, headers={"X-Source": known.source})


@routes.get("/annotations", summary="The masks that people saved of a case")
def list_annotations(book: TheBook, case: CaseName) -> list[AnnotationView]:
    """List all of them, the newest first."""
    book.case(case)
    return [view_annotation(one) for one in book.annotations.all_of(case)]


@routes.get("/annotations/mask", summary="A saved mask as NIfTI", response_class=FileResponse)
def get_annotation(book: TheBook, case: CaseName, tag: Tag = FINAL, version: Version = 0) -> FileResponse:
    """Send it, on the grid of the scan."""
    scan, _ = book.case(case)
    found = _saved(book, case, tag, version)
    path = book.shown.mask(
        ("saved", str(found.folder), found.about["saved"]), lambda: read_label(found.mask, scan.source)
    )
    return FileResponse(path, media_type=NIFTI)


def _saved(book: CaseBook, case: str, tag: str, version: int) -> Annotation:
    found = book.annotations.version(case, tag, version) if version else book.annotations.newest(case, tag)
    if found is None:
        which = f"version {version}" if version else "mask"
        raise NotServed(f"no {which} of the case {case!r} with the tag {tag!r} was saved")
    return found


_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [MASK],
                "properties": {
                    MASK: {"type": "string", "format": "binary"},
                    "labels": {"type": "string", "description": "JSON: name of each value; without, the model's."},
                    "model": {"type": "string", "description": "Whose structures it has."},
                    "based_on": {"type": "integer", "description": "Newest version that the person had seen; 0 none."},
                    "job": {"type": "string", "description": "Whose mask was corrected."},
                    "viewed": {
                        "type": "string",
                        "description": 'JSON: the slices that were looked at, as {"axis": 2, "slices": [3, 4]}.',
                    },
                    "who": {"type": "string"},
                    "note": {"type": "string"},
                },
            }
        }
    },
}


@routes.post(
    "/annotations",
    status_code=201,
    summary="Save a mask beside the data",
    openapi_extra={"requestBody": _FORM},
    responses={409: {"description": "Saved, and so was another since `based_on`: both are kept."}},
)
async def save_annotation(request: Request, book: TheBook, case: CaseName, tag: Tag = FINAL) -> Response:
    """Keep the file `mask` as the newest of the case and tag: never over the data, and never over an earlier mask.

    Where somebody else saved one since the version that this one is based on, both are kept and the answer is 409.
    """
    scan, model = await asyncio.to_thread(book.case, case)
    with book.service.new_upload() as (id, folder):
        upload = await receive(request, folder, upload_limits(book.service))
        if "model" in upload.fields:
            model = book.service.model(upload.fields["model"])
        based_on, said = _said(upload.fields)
        names = _segments(upload.fields.get("labels"))
        mask = await mask_of_upload(upload, MASK, scan, model, names)
        kept = await asyncio.to_thread(book.annotations.save, case, tag, mask, model.card.structures, said)
        book.service.drop_upload(id)
    view = view_annotation(kept).model_dump(mode="json")
    if based_on is not None and kept.version - 1 != based_on:
        return JSONResponse({"detail": _conflict(book, kept, based_on), "saved": view}, 409)
    return JSONResponse(view, 201)


async def mask_of_upload(upload: Upload, part: str, scan: Scan, model: ServedModel, names: Any) -> Volume:
    """Read the one mask of an upload; see `checked_mask`.

    Raises:
        Refused: there is no mask, or several.
        HTTPException: 422 it does not fit the scan or the model.
    """
    files = [path for name, path in upload.files if name == part]
    if len(files) != 1:
        raise Refused(f"the request has {len(files)} files called {part!r}, expected one")
    try:
        return await asyncio.to_thread(checked_mask, files[0], scan, model.channels, names, model.card.structures)
    except DataError as error:
        raise HTTPException(422, str(error).replace(f"{files[0]}", "the mask")) from error


def _said(fields: dict[str, str]) -> tuple[int | None, dict[str, Any]]:
    """Read what a person says of a mask."""
    based_on = fields.get("based_on")
    if based_on is not None and not (based_on.isascii() and based_on.isdigit()):
        raise Refused(f"based_on {based_on[:20]!r} is no version: give the number of the newest that was seen, or 0")
    said: dict[str, Any] = {"who": fields.get("who", "")[:LONGEST_WORD], "note": fields.get("note", "")[:LONGEST_NOTE]}
    said |= {name: fields[name][:LONGEST_WORD] for name in ("job", "model") if name in fields}
    if "viewed" in fields:
        try:
            said["viewed"] = parse_json(fields["viewed"])
        except (ValueError, RecursionError) as error:
            raise Refused('viewed is no JSON, such as {"axis": 2, "slices": [3, 4]}') from error
    return (None, said) if based_on is None else (int(based_on), said | {"based_on": int(based_on)})


def _segments(labels: str | None) -> list[dict[str, Any]] | None:
    if labels is None:
        return None
    try:
        return [{"idx": int(value), "name": name} for value, name in json.loads(labels).items()]
    except (AttributeError, ValueError) as error:
        raise Refused('labels is no JSON object of names by value, such as {"1": "liver"}') from error


def _conflict(book: CaseBook, kept: Annotation, based_on: int) -> str:
    before = book.annotations.version(kept.case, kept.tag, kept.version - 1)
    who = f" by {before.who}" if before and before.who else ""
    seen = f"version {based_on}" if based_on else "no saved mask"
    return (
        f"saved as version {kept.version}, and version {kept.version - 1} was saved{who} since you opened {seen}: "
        "both are kept; look at the other and save again if yours shall stand"
    )


@routes.get("/scores", summary="A mask against the truth")
def get_scores(
    book: TheBook,
    case: CaseName,
    job: Annotated[str | None, Query(description="Whose mask it is; without, a saved one.")] = None,
    tag: Tag = FINAL,
    version: Version = 0,
) -> ScoresView:
    """Score the mask of a job or a saved one: Dice, distances and volumes of each structure."""
    scan, model = book.case(case)
    if job is not None:
        found = done_job(book.service, job)
        if found.case != case:
            raise Refused(f"the job is of another case than {case!r}")
        model, path, but = book.service.model(found.model), mask_file(book.service, found), None
        key: tuple[object, ...] = ("job", job)
    else:
        annotation = _saved(book, case, tag, version)
        path, but = annotation.mask, annotation.version if tag == FINAL else None
        key = ("saved", str(annotation.folder), annotation.about["saved"])
    known = find_truth(book, case, model, but)

    scores = book.scores.of((*key, known.source), lambda: score_mask(read_label(path, scan.source), known, model))
    return view_scores(known.source, scores)
