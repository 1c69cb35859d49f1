"""Trainings as the protocol of MONAI Label asks for them."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, HTTPException, Request

from fullscale.documents import validated
from fullscale.serve.circle.circle import TrainingRequest
from fullscale.serve.circle.routes import TheCircle
from fullscale.serve.circle.trainings import Training
from fullscale.serve.job_routes import short_body
from fullscale.serve.monai_label.state import parse_params
from fullscale.serve.service import Refused

routes = APIRouter()

_STATUS = {"running": "RUNNING", "interrupted": "PENDING", "done": "DONE", "failed": "ERROR", "stopped": "CANCELED"}
_MINUTES = "minutes"


def _task(one: Training, lines: list[str]) -> dict[str, Any]:
    return {
        "id": one.id,
        "model": one.asked.model,
        "status": _STATUS[one.state],
        "details": [one.ended["failure"]] if "failure" in one.ended else lines,
    }


@routes.get("/train/", summary="How a training stands")
def train_status(circle: TheCircle, all: bool = False, check_if_running: bool = False) -> Any:
    """Tell of the one that has not ended, or of the newest; 404 where there is none, as clients expect it."""
    found = circle.trainings.all()
    if all:
        return [_task(one, []) for one in found]
    current = [one for one in found if one.state in ("running", "interrupted")] or ([] if check_if_running else found)
    if not current:
        raise HTTPException(404, "no training is running here")
    progress = current[0].progress
    line = f"{progress['item']} {progress['done']}/{progress['total']}" if progress else "starting"
    return _task(current[0], [line])


@routes.post("/train/", include_in_schema=False)
@routes.post("/train/{model}", summary="Train on the corrected cases, from the weights of a model")
async def train(circle: TheCircle, request: Request, model: str | None = None) -> dict[str, Any]:
    """Of the parameters of the client `minutes` is heeded; nothing is replaced when it is done."""
    models = circle.service.settings.models
    body = (await short_body(request)).decode("utf-8", "replace")
    params = parse_params(body)
    if model is None and len(models) > 1:
        raise Refused(f"the service has {len(models)} models: name one, as in /train/{next(iter(models))}")
    chosen = circle.service.model(model or next(iter(models)))
    own = params.get(chosen.name)
    given = own if isinstance(own, dict) else params
    asked = validated(TrainingRequest, {name: given[name] for name in given if name == _MINUTES}, "the training")
    return _task(await asyncio.to_thread(circle.start, chosen, asked), [])


@routes.delete("/train/", summary="Stop the training that runs")
def stop_training(circle: TheCircle) -> dict[str, Any]:
    """Stop it."""
    current = circle.trainings.current()
    if current is None:
        raise HTTPException(404, "no training is running here")
    return _task(circle.trainings.stop(current.id), [])
