"""The routes that tell what there is: models, and the next case."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial
from importlib.metadata import version
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import PlainTextResponse

from fullscale.serve.circle.routes import TheCircle
from fullscale.serve.monai_label import datastore, infer, train
from fullscale.serve.monai_label.datastore import image_bytes
from fullscale.serve.monai_label.state import DOUBT, STRATEGIES, Monai
from fullscale.serve.security import same_token
from fullscale.serve.settings import ServedModel
from fullscale.text import nearest

routes = APIRouter(tags=["MONAI Label"])

_LONGEST_FORM = 4096


@routes.get("/info/", summary="What the server offers")
def info(monai: Monai) -> dict[str, Any]:
    """Say what the plugins show: models, labels, strategies, and how much of the data is labelled."""
    models = monai.service.settings.models.values()
    labels = dict.fromkeys(name for model in models for name in model.card.structures.values())
    return {
        "name": "fullscale",
        "description": "Medical image segmentation with UNet 3+",
        "version": version("fullscale"),
        "labels": list(labels),
        "models": {model.name: _model_info(model) for model in models},
        "trainers": {
            model.name: {"description": "Trains on the corrected cases, from the weights of the model", "config": {}}
            for model in models
        },
        "strategies": {name: {"description": text, "config": {}} for name, text in STRATEGIES.items()},
        "scoring": {},
        "train_stats": {},
        "datastore": monai.stats(),
        "config": {},
    }


def _model_info(model: ServedModel) -> dict[str, Any]:
    return {
        "type": "segmentation",
        "labels": {name: value for value, name in model.card.structures.items()},
        "dimension": 3,
        "description": f"{model.card.modality}, {model.members} member(s)",
        "config": {},
    }


@routes.post("/activelearning/{strategy}", summary="A case to label next")
async def next_sample(strategy: str, monai: Monai, circle: TheCircle) -> dict[str, Any]:
    """Choose a case without labels; an empty answer where there is none."""
    if strategy not in STRATEGIES:
        raise HTTPException(404, f"no strategy {strategy!r} here{nearest(strategy, STRATEGIES)}")
    choose = circle.next_case if strategy == DOUBT else partial(monai.next_case, strategy)
    name = await asyncio.to_thread(choose)
    if name is None:
        return {}
    suffix, content = await asyncio.to_thread(image_bytes, monai.book.cases[name][0])
    # The plugin of 3D Slicer keeps what it downloads by name, and takes it from there where the checksum is the same.
    return {"id": name, "name": f"{name}{suffix}", "checksum": f"SHA256:{hashlib.sha256(content).hexdigest()}"}


@routes.get("/logs/", summary="The last lines of the log", response_class=PlainTextResponse)
def logs(request: Request, lines: int = 300) -> str:
    """Send what the service logged, which names no case."""
    return "".join(f"{line}\n" for line in list(request.app.state.recent.lines)[-max(0, lines) :])


@routes.get("/auth/", summary="Whether a token is needed")
def auth(request: Request) -> dict[str, bool]:
    """Say so."""
    return {"enabled": request.app.state.token is not None}


@routes.post("/auth/token", summary="The token, for who gives it as a password")
async def auth_token(request: Request) -> dict[str, str]:
    """Answer the dialogue of the plugins, which ask for a name (any) and a password (the token)."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_FORM:
            raise HTTPException(413, "a form of name and password is shorter")
    password = parse_qs(body.decode("utf-8", "replace")).get("password", [""])[0]
    token = request.app.state.token
    if token is None or not same_token(password, token):
        raise HTTPException(401, "the password must be the token of the service")
    return {"access_token": token, "token_type": "bearer"}


@routes.get("/auth/token/valid", summary="Whether the token is right")
def auth_valid() -> dict[str, bool]:
    """Answer whoever came this far."""
    return {"valid": True}


for part in (infer.routes, datastore.routes, train.routes):
    routes.include_router(part)
