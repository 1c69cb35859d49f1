"""Who may speak to the service: whoever has the token, or on loopback without one whoever is on this machine.

A page of the web that is open in a browser on this machine is not: it reaches loopback too, by a name of its own that
leads here (DNS rebinding) or by a form that is sent from it. Both show in the headers `Host` and `Origin`.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from fullscale.errors import DataError, UsageError
from fullscale.serve.page import PREFIX
from fullscale.text import one_line

SHORTEST_TOKEN = 16
OPEN = ("/health", "/auth/", "/auth/token", "/")
"""What needs no token: whether the service stands, whether it wants one, where a client shows that it has it, and the
page, which holds no data and asks for the token."""


def is_loopback(host: str) -> bool:
    """Tell whether an address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(path: Path) -> str:
    """Read the token from a file.

    Raises:
        DataError: the file cannot be read.
        UsageError: it holds no token, or one that others can read or guess.
    """
    try:
        token = path.read_text(encoding="utf-8").strip()
        shared = path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the token in {path}: {one_line(error)}") from error
    if shared:
        raise UsageError(f"every user of this machine can read the token in {path}: chmod 600 {path}")
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            f"the token in {path} has {len(token)} characters, expected one word of {SHORTEST_TOKEN} or more: "
            f"openssl rand -hex 32 > {path}"
        )
    return token


def require_token(host: str, token: str | None) -> None:
    """Refuse to be reached from other machines by everybody.

    Raises:
        UsageError: the address is not loopback, and there is no token.
    """
    if token is None and not is_loopback(host):
        raise UsageError(f"--host {host} is reached from other machines: give --token-file too, or use 127.0.0.1")


@dataclass(frozen=True)
class Gate:
    """Lets through, as an ASGI middleware, who may speak to the service.

    Attributes:
        app: what is behind it.
        token: that every request must carry as `Authorization: Bearer TOKEN`; None on loopback.
        origins: of pages that may speak to the service from a browser, beside its own.
    """

    app: ASGIApp
    token: str | None = None
    origins: Sequence[str] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what is refused, and hand on the rest."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            refused = self._strange_page(headers) if self.token is None else None
            if self.token is not None and not _is_open(scope["path"]):
                refused = self._bad_token(headers)
            if refused is not None:
                await refused(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _bad_token(self, headers: Headers) -> JSONResponse | None:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and same_token(given.strip(), self.token or ""):
            return None
        what = "the token is wrong" if given else "a token is needed: send the header Authorization: Bearer TOKEN"
        return JSONResponse({"detail": what}, 401, headers={"WWW-Authenticate": "Bearer"})

    def _strange_page(self, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "")
        if not is_loopback(_without_port(host)):
            return JSONResponse({"detail": "the service is reached as localhost or 127.0.0.1 alone"}, 403)
        origin = headers.get("origin")
        if origin is not None and origin not in self.origins and origin.partition("://")[2] != host:
            return JSONResponse({"detail": "the page of another origin may not speak to the service"}, 403)
        return None


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith(PREFIX)


def same_token(given: str, token: str) -> bool:
    """Compare in a time that tells nothing of either, not even the length."""
    one, other = (hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in (given, token))
    return hmac.compare_digest(one, other)


def _without_port(host: str) -> str:
    return host.rpartition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
