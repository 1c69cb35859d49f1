"""The routes of the exchange with the PACS: how it stands, and its dead letters."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Request
from pydantic import BaseModel

from fullscale.errors import DataError, UsageError
from fullscale.serve.pacs.exchange import Exchange
from fullscale.serve.pacs.store import Letter

routes = APIRouter(prefix="/pacs", tags=["pacs"])


class LetterView(BaseModel):
    """Something that a person must look at.

    Attributes:
        number: by which it is put back or dropped.
        kind: association, patient, file, version, job, delivery or fetch.
        study: UID of the study; empty where that is not known.
        why: in a line.
        attempts: how often it was tried.
        remedy: what to do.
        at: when it was written.
    """

    number: int
    kind: str
    study: str
    why: str
    attempts: int
    remedy: str
    at: datetime


class ExchangeView(BaseModel):
    """How the exchange stands.

    Attributes:
        series: how many stand how.
        results: likewise.
        deliveries: likewise.
        letters: how many there are of each kind.
        dicom_port: on which DICOM is received; null where it is not.
        problem: why the PACS cannot be looked through; null where it can.
    """

    series: dict[str, int]
    results: dict[str, int]
    deliveries: dict[str, int]
    letters: dict[str, int]
    dicom_port: int | None
    problem: str | None


def the_exchange(request: Request) -> Exchange:
    """Return the exchange of the service."""
    exchange: Exchange = request.app.state.exchange
    return exchange


TheExchange = Annotated[Exchange, Depends(the_exchange)]
Number = Annotated[int, Path(description="Of the letter.", ge=1)]


def view_letter(letter: Letter) -> LetterView:
    """Say what a letter is about."""
    known = {name: value for name, value in vars(letter).items() if name in LetterView.model_fields}
    return LetterView(**known | {"at": datetime.fromtimestamp(letter.at, UTC)})


@routes.get("", summary="How the exchange with the PACS stands")
def get_exchange(exchange: TheExchange) -> ExchangeView:
    """Count series, results, deliveries and letters by how they stand."""
    return ExchangeView(**exchange.summary())


@routes.get("/letters", summary="What a person must look at, the oldest first")
def get_letters(exchange: TheExchange) -> list[LetterView]:
    """List the dead letters."""
    return [view_letter(letter) for letter in exchange.letters.all()]


@routes.post("/letters/{number}/retry", summary="Try again what a letter is about")
def put_back(number: Number, exchange: TheExchange) -> LetterView:
    """Put a letter back; it is off the list until it fails again."""
    try:
        return view_letter(exchange.letters.put_back(number))
    except DataError as error:
        raise HTTPException(404, str(error)) from error
    except UsageError as error:
        raise HTTPException(409, str(error)) from error


@routes.delete("/letters/{number}", summary="Drop what a letter is about")
def drop(number: Number, exchange: TheExchange) -> LetterView:
    """Take a letter off the list for good."""
    try:
        return view_letter(exchange.letters.drop(number))
    except DataError as error:
        raise HTTPException(404, str(error)) from error
