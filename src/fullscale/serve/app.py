"""The routes of the service, and what becomes of an error."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fullscale.errors import DataError, FullscaleError, OutputError, UsageError
from fullscale.serve.case_routes import routes as case_routes
from fullscale.serve.casebook import CaseBook
from fullscale.serve.circle.circle import Circle
from fullscale.serve.circle.routes import routes as circle_routes
from fullscale.serve.docs_page import POLICY, docs_page
from fullscale.serve.job_routes import routes as job_routes
from fullscale.serve.metrics import Metrics
from fullscale.serve.monai_label.routes import routes as monai_routes
from fullscale.serve.monai_label.state import MonaiLabel
from fullscale.serve.page import read_page
from fullscale.serve.page import routes as page_routes
from fullscale.serve.recent import RecentLines
from fullscale.serve.security import Gate
from fullscale.serve.service import Full, NotServed, Refused, Service
from fullscale.serve.viewer_routes import routes as viewer_routes
from fullscale.serve.views import CaseView, ModelView, view_cases, view_model
from fullscale.text import without_folders

if TYPE_CHECKING:
    from fullscale.serve.pacs.exchange import Exchange

_log = logging.getLogger(__name__)

_STATUS: dict[type[FullscaleError], int] = {NotServed: 404, Refused: 422, Full: 503, DataError: 422, UsageError: 422}
_QUIET = ("/health", "/metrics")
_NO_ROUTE = "(none)"
_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


def make_app(
    service: Service,
    recent: RecentLines,
    token: str | None = None,
    origins: Sequence[str] = (),
    exchange: Exchange | None = None,
) -> FastAPI:
    """Make the application.

    Args:
        service: what it serves.
        recent: the last lines of its log.
        token: that every request must carry; None on loopback.
        origins: of pages elsewhere that may speak to it from a browser.
        exchange: with a PACS, if there is one.
    """
    app = FastAPI(
        title="fullscale",
        description="Medical image segmentation: models, cases, and jobs that turn a scan into a mask.",
        version=version("fullscale"),
        docs_url=None,  # the page of FastAPI loads its scripts from elsewhere
        redoc_url=None,
    )
    book = CaseBook(service)
    app.state.service, app.state.book, app.state.monai_label = service, book, MonaiLabel(service, book)
    app.state.page = read_page()
    app.state.circle = Circle(service, book.annotations)
    app.state.circle.begin()
    app.state.token, app.state.recent = token, recent
    for part in (page_routes, job_routes, case_routes, viewer_routes, circle_routes, monai_routes):
        app.include_router(part)
    if exchange is not None:
        from fullscale.serve.pacs.routes import routes as pacs_routes  # needs an extra

        app.state.exchange = exchange
        app.include_router(pacs_routes)
    _add_general_routes(app, service, book)
    app.add_exception_handler(FullscaleError, _explain)
    app.add_exception_handler(sqlite3.Error, _no_database)
    app.add_exception_handler(Exception, _unexpected)
    app.add_middleware(Gate, token=token, origins=origins)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
        )
    app.add_middleware(Journal, metrics=service.metrics)
    return app


def _add_general_routes(app: FastAPI, service: Service, book: CaseBook) -> None:
    @app.get("/health", summary="Whether the service stands; needs no token", tags=["service"])
    def health() -> dict[str, str]:
        return {"status": "ok", "version": version("fullscale")}

    @app.get("/metrics", summary="Counts for Prometheus", tags=["service"], response_class=PlainTextResponse)
    def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/models", summary="The models", tags=["models"])
    def models() -> list[ModelView]:
        return [view_model(model) for model in service.settings.models.values()]

    @app.get("/cases", summary="The cases of the data folder", tags=["cases"])
    def cases() -> list[CaseView]:
        return view_cases(book)

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi()), headers={"Content-Security-Policy": POLICY})


def _explain(_: Request, error: Exception) -> JSONResponse:
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
    # What was read or written may lie anywhere on this machine, which is nobody's concern.
    text = without_folders(error) if isinstance(error, DataError | OutputError) else str(error)
    return JSONResponse({"detail": text}, status, headers={"Retry-After": "60"} if status == 503 else None)


def _no_database(_: Request, error: Exception) -> JSONResponse:
    _log.error("the jobs cannot be read or written: %s", error)
    return JSONResponse({"detail": f"the service cannot read or write its jobs: {error}"}, 503)


def _unexpected(_: Request, error: Exception) -> JSONResponse:
    _log.error("unexpected %s in a request", type(error).__name__)  # its text may name a scan
    return JSONResponse({"detail": f"unexpected {type(error).__name__}"}, 500)


class Journal:
    """Counts and logs requests as an ASGI middleware: by route, never by path, which may name a case.

    Args:
        app: what is behind it.
        metrics: where it counts.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, and take down what became of it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.monotonic(), 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            found = scope.get("route")
            route = found.path if found is not None else _NO_ROUTE
            method = scope["method"] if found is not None else _NO_ROUTE  # a client may send any word
            self.metrics.requests.labels(method, route, str(status)).inc()
            if route not in _QUIET:
                _log.info("%s %s %d %.0f ms", method, route, status, 1000 * (time.monotonic() - started))
