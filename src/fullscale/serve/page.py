"""The page at `/`: files that `make page` built, sent from memory with a policy that lets them load nothing else."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from importlib.resources import files

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import PlainTextResponse, Response

routes = APIRouter(include_in_schema=False)

PREFIX = "/page/"
"""Path of the page's files, which hold no data and need no token."""
INDEX = "index.html"
ABSENT = "This service was installed from a checkout without its page: make page builds it, and npm must be there.\n"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page may load: itself. NiiVue brings its font as a picture in the script."""
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True)
class PageFile:
    """A file of the page.

    Attributes:
        content: its bytes.
        compressed: the same, by gzip.
        kind: its media type.
    """

    content: bytes
    compressed: bytes
    kind: str


def read_page() -> dict[str, PageFile]:
    """Read the files of the page by their names; none where it was not built."""
    folder = files("fullscale.serve") / "static"
    found: dict[str, PageFile] = {}
    for file in sorted(folder.iterdir(), key=lambda one: one.name) if folder.is_dir() else ():
        kind = _TYPES.get(f".{file.name.rpartition('.')[2]}")
        if kind is not None:
            content = file.read_bytes()
            found[file.name] = PageFile(content, gzip.compress(content, mtime=0), kind)
    return found if INDEX in found else {}


@routes.get("/")
def get_index(request: Request) -> Response:
    """Send the page, or the line that says how to build it."""
    if not request.app.state.page:
        return PlainTextResponse(ABSENT, 503)
    return _answer(request, INDEX)


@routes.get(PREFIX + "{name}")
def get_file(request: Request, name: str) -> Response:
    """Send a file of the page."""
    if name not in request.app.state.page:
        raise HTTPException(404, "the page has no such file")
    return _answer(request, name)


def _answer(request: Request, name: str) -> Response:
    file: PageFile = request.app.state.page[name]
    headers = _HEADERS | {"Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.compressed, media_type=file.kind, headers=headers | {"Content-Encoding": "gzip"})
    return Response(file.content, media_type=file.kind, headers=headers)
