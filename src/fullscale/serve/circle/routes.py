"""The routes of the circle: what to look at next, corrected cases, trainings on them, and the choice of a model."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, ConfigDict

from fullscale.documents import read_json, validated
from fullscale.serve.circle.circle import Circle, Doubted, TrainingRequest
from fullscale.serve.circle.corrected import DATASET, PROVENANCE
from fullscale.serve.circle.trainings import State, Training
from fullscale.serve.job_routes import parse_json_body, short_body
from fullscale.serve.views import ModelView, view_model

routes = APIRouter(prefix="/circle", tags=["circle"])


def the_circle(request: Request) -> Circle:
    """Return the circle that a request asks."""
    found: Circle = request.app.state.circle
    return found


TheCircle = Annotated[Circle, Depends(the_circle)]
TrainingId = Annotated[str, Path(description="Name of the training.", pattern="^[0-9a-f]{16}$")]


class TrainingView(BaseModel):
    """A training.

    Attributes:
        id: its name.
        model: that it starts from.
        model_digest: of that model's card.
        state: running, interrupted (and started again with the service), done, failed or stopped.
        created: when it was asked for.
        finished: when it ended.
        minutes: of training and validation.
        cases: that it trains on.
        held_out: cases that the new model is compared on.
        progress: how far it is, while it runs.
        failure: why it failed.
        digest: of the new model's card.
        comparison: Dice of the new model against the old, case by case, with intervals and p-values.
        scores: Dice of each structure of each case, of both.
        chosen: whether the new model is the one that is served.
    """

    id: str
    model: str
    model_digest: str
    state: State
    created: datetime
    finished: datetime | None
    minutes: float
    cases: list[str]
    held_out: list[str]
    progress: dict[str, Any] | None
    failure: str | None
    digest: str | None
    comparison: dict[str, Any] | None
    scores: list[dict[str, Any]]
    chosen: bool


class ChoiceRequest(BaseModel):
    """Which model is to be served.

    Attributes:
        training: that made it.
    """

    model_config = ConfigDict(extra="forbid")

    training: str


def _body(kind: type[BaseModel]) -> dict[str, Any]:
    """Describe the JSON of a request."""
    return {"requestBody": {"content": {"application/json": {"schema": kind.model_json_schema()}}}}


def view_training(circle: Circle, one: Training) -> TrainingView:
    """Say how a training stands."""
    chosen = circle.choices.of(one.asked.model)
    finished = one.ended.get("finished")
    return TrainingView(
        id=one.id,
        model=one.asked.model,
        model_digest=one.asked.digest,
        state=one.state,
        created=datetime.fromtimestamp(one.asked.created, UTC),
        finished=None if finished is None else datetime.fromtimestamp(finished, UTC),
        minutes=one.asked.minutes,
        cases=list(one.asked.cases),
        held_out=list(one.asked.held_out),
        progress=one.progress or None,
        failure=one.ended.get("failure"),
        digest=one.ended.get("digest"),
        comparison=one.ended.get("comparison"),
        scores=one.ended.get("cases", []),
        chosen=chosen is not None and chosen["training"] == one.id,
    )


@routes.get("/{model}/order", summary="The cases without labels, what the model is least sure of first")
def get_order(model: str, circle: TheCircle) -> list[Doubted]:
    """Of each the doubt, from 0 to 1, and the job whose mask it is of; null where the model has not segmented it."""
    return circle.order(circle.service.model(model))


@routes.post("/{model}/order", summary="Segment the cases without labels that the model has not seen", status_code=202)
def measure(model: str, circle: TheCircle) -> dict[str, int]:
    """Queue a job for each; say how many."""
    return {"queued": circle.measure(circle.service.model(model))}


@routes.get("/{model}/cases", summary="The corrected cases, with their provenance")
def get_cases(model: str, circle: TheCircle) -> list[dict[str, Any]]:
    """Write them as a data set into the folder of the service, and say who drew what, when, on whose mask."""
    chosen = circle.service.model(model)
    if not circle.corrected(chosen):
        return []
    found: list[dict[str, Any]] = read_json(circle.write_dataset(chosen).with_name(PROVENANCE))
    return found


@routes.get("/{model}/dataset", summary="The corrected cases as a data set")
def get_dataset(model: str, circle: TheCircle) -> dict[str, Any]:
    """Say where `fullscale train` finds it in the folder of the service, and what it holds."""
    chosen = circle.service.model(model)
    path = circle.write_dataset(chosen)
    place = path.relative_to(circle.service.settings.state).as_posix()
    content = read_json(path.with_name(DATASET))
    return {"dataset": place, "labels": content["labels"], "cases": [row["case"] for row in content["training"]]}


@routes.post(
    "/{model}/trainings",
    summary="Train on the corrected cases, from the weights of the model",
    openapi_extra=_body(TrainingRequest),
)
async def start_training(model: str, circle: TheCircle, request: Request) -> TrainingView:
    """One at a time, in a process of its own. Nothing is replaced: see `comparison`, and choose."""
    chosen = circle.service.model(model)
    asked = validated(TrainingRequest, parse_json_body(await short_body(request) or b"{}"), "the training")
    return view_training(circle, await asyncio.to_thread(circle.start, chosen, asked))


@routes.get("/trainings", summary="The trainings, the newest first")
def list_trainings(circle: TheCircle) -> list[TrainingView]:
    """List them."""
    return [view_training(circle, one) for one in circle.trainings.all()]


@routes.get("/trainings/{id}", summary="How a training stands, and how the new model compares with the old")
def get_training(id: TrainingId, circle: TheCircle) -> TrainingView:
    """Say so."""
    return view_training(circle, circle.trainings.get(id))


@routes.delete("/trainings/{id}", summary="Stop a training")
def stop_training(id: TrainingId, circle: TheCircle) -> TrainingView:
    """What it has learned so far is given up."""
    return view_training(circle, circle.trainings.stop(id))


@routes.put(
    "/{model}/choice", summary="Serve the new model of a training from now on", openapi_extra=_body(ChoiceRequest)
)
async def choose(model: str, circle: TheCircle, request: Request) -> ModelView:
    """The model that the service was started with stays where it is, and `DELETE` serves it again."""
    circle.service.model(model)
    asked = validated(ChoiceRequest, parse_json_body(await short_body(request)), "the choice")
    training = await asyncio.to_thread(circle.trainings.get, asked.training)
    return view_model(await asyncio.to_thread(circle.choices.choose, model, training))


@routes.delete("/{model}/choice", summary="Serve the model that the service was started with")
def take_back(model: str, circle: TheCircle) -> ModelView:
    """Take a choice back."""
    circle.service.model(model)
    return view_model(circle.choices.take_back(model))
