"""The service on its address, until a signal ends it."""

from __future__ import annotations

import errno
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import uvicorn

from fullscale.errors import FullscaleError, UsageError
from fullscale.serve.app import make_app
from fullscale.serve.recent import RecentLines
from fullscale.serve.service import Service

if TYPE_CHECKING:
    from fullscale.serve.pacs.exchange import Exchange

_GRACE_S = 5
"""How long answers may take that are on their way when the service is told to end."""
_MOST_CONNECTIONS = 512


def bound_socket(host: str, port: int) -> socket.socket:
    """Take an address, so that it is known to be free before anything else is done.

    Args:
        host: an address or a name.
        port: 0 for any that is free.

    Raises:
        UsageError: it is in use, is no address of this machine, or is reserved.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        taken = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(f"--host {host}: {error.strerror or error}") from error
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
        taken.listen(1)  # only this tells that another process listens there
    except OSError as error:
        taken.close()
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"port {port} of {host} is in use: choose another with --port, or 0 for any") from error
        raise UsageError(f"cannot listen on port {port} of {host}: {error.strerror}") from error
    return taken


def url_of(taken: socket.socket) -> str:
    """Return the address that a browser takes."""
    host, port = taken.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(
    service: Service,
    taken: socket.socket,
    recent: RecentLines,
    token: str | None,
    origins: Sequence[str],
    ready: Callable[[], None],
    exchange: Exchange | None = None,
) -> None:
    """Answer requests until SIGINT or SIGTERM, which is raised again when everything is put away.

    Args:
        service: what is served.
        taken: the address.
        recent: the last lines of its log.
        token: that every request must carry, or None.
        origins: of pages elsewhere that may speak to it from a browser.
        ready: called when requests are answered.
        exchange: with a PACS, if there is one.

    Raises:
        FullscaleError: the server could not start.
    """
    config = uvicorn.Config(
        make_app(service, recent, token, origins, exchange),
        log_config=None,
        access_log=False,  # it would log paths, which may name cases
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        http="h11",
        loop="asyncio",
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = _Server(config, ready)
    service.ending = lambda: server.should_exit
    with service.running(), exchange.running() if exchange is not None else nullcontext():
        server.run(sockets=[taken])
    if not server.started:
        raise FullscaleError("the server did not start")


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Heed signals, but for those that were ignored from the start, as a shell has it for what runs behind."""
        ignored = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) == signal.SIG_IGN]
        with super().capture_signals():
            for number in ignored:
                signal.signal(number, signal.SIG_IGN)
            yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say when requests are answered."""
        await super().startup(sockets)
        self._ready()
