"""Classic DICOM over the network, as the one who is asked: C-ECHO, and C-STORE into a folder an association.

What an association sends becomes one folder, in one step, when it is released; one that breaks off leaves nothing. So
no half of a study is ever taken for the whole of it, and a sender that is told of an error may send all of it again.
"""

from __future__ import annotations

import logging
import shutil
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydicom.filewriter import write_file_meta_info
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from fullscale.data.dicom.destination import OUR_TITLE
from fullscale.data.dicom.headers import header_tags
from fullscale.errors import DataError, UsageError
from fullscale.extras import needs
from fullscale.temporary import sync
from fullscale.text import counted

with needs("pacs", "Receivers of classic DICOM"):
    from pynetdicom import AE, AllStoragePresentationContexts, evt
    from pynetdicom.association import Association
    from pynetdicom.dimse_primitives import C_STORE
    from pynetdicom.events import Event
    from pynetdicom.pdu_primitives import A_RELEASE
    from pynetdicom.transport import ThreadedAssociationServer

_log = logging.getLogger(__name__)

LARGEST_PDU = 1 << 20
"""Bytes of one message on the wire; we ask for less, and pynetdicom takes what the head of a message claims."""
IDLE_S = 60.0
"""How long a peer may say nothing."""
FIRST_S = 10.0
"""How long one may take to ask for an association, or to go when it is told to."""
_VERIFICATION = "1.2.840.10008.1.1"
_OK, _NO_ROOM, _NOT_UNDERSTOOD = 0x0000, 0xA700, 0xC000
_SYNTAXES = [
    *(ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian),
    *(JPEGLosslessSV1, JPEGLossless, JPEGLSLossless, JPEGLSNearLossless, JPEG2000Lossless, JPEG2000, RLELossless),
    *(JPEGBaseline8Bit, JPEGExtended12Bit),
]


@dataclass(frozen=True)
class ReceiveOptions:
    """Who may send what.

    Attributes:
        host: address to listen on.
        port: 0 for any that is free.
        title: AE title by which we must be called.
        callers: `AET` or `AET@host` of those who may send; empty for everybody.
        largest_file: bytes of one file, and of all that is half-received at a time.
        largest: bytes of one association.
        most_files: of one association.
        associations: at a time; others are told to come again.
    """

    host: str = "127.0.0.1"
    port: int = 0
    title: str = OUR_TITLE
    callers: tuple[str, ...] = ()
    largest_file: int = 1 << 30
    largest: int = 4 << 30
    most_files: int = 20_000
    associations: int = 64


@dataclass(frozen=True)
class Broken:
    """An association of which nothing was kept.

    Attributes:
        caller: AE title of the sender.
        studies: UIDs of what it was sending.
        files: how many had come.
        why: in a line.
    """

    caller: str
    studies: tuple[str, ...]
    files: int
    why: str


@dataclass
class _Open:
    """What an association has sent so far."""

    folder: Path
    files: list[Path] = field(default_factory=list)
    studies: set[str] = field(default_factory=set)
    size: int = 0
    half: int = 0
    refused: str = ""


class Receiver:
    """Receives DICOM files on an address.

    Args:
        options: who may send what.
        incoming: folder for what is under way; emptied at the start.
        arrived: folder that gets a folder for each association that ended well, on the same file system.
        broken: told of each that did not.
        received: told when there is a new folder.
    """

    def __init__(
        self,
        options: ReceiveOptions,
        incoming: Path,
        arrived: Path,
        broken: Callable[[Broken], None],
        received: Callable[[], None] = lambda: None,
    ) -> None:
        self._options, self._incoming, self._arrived = options, incoming, arrived
        self._broken, self._received = broken, received
        self._open: dict[Association, _Open] = {}
        self._lock = threading.Lock()
        self._hosts = _allowed_hosts(options.callers)
        self._server: ThreadedAssociationServer | None = None

    def start(self) -> int:
        """Listen, and return the port.

        Raises:
            UsageError: the address is in use, or none of this machine.
            OutputError: the folder cannot be written.
        """
        shutil.rmtree(self._incoming, ignore_errors=True)
        self._incoming.mkdir(parents=True, mode=0o700)
        self._arrived.mkdir(exist_ok=True, mode=0o700)
        entity = AE(ae_title=self._options.title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(self._hosts)
        entity.maximum_associations = self._options.associations
        entity.acse_timeout = FIRST_S
        entity.dimse_timeout = entity.network_timeout = IDLE_S
        entity.add_supported_context(_VERIFICATION)
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(str(context.abstract_syntax), _SYNTAXES)
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._bound),
            (evt.EVT_ACCEPTED, self._check_host),
            (evt.EVT_DATA_RECV, self._count),
            (evt.EVT_C_ECHO, lambda _: _OK),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_ACSE_RECV, self._release),
            (evt.EVT_ABORTED, self._drop),
            (evt.EVT_CONN_CLOSE, self._drop),
        ]
        address = (self._options.host.strip("[]"), self._options.port)
        try:
            self._server = entity.start_server(address, block=False, evt_handlers=handlers)
        except OSError as error:
            raise UsageError(
                f"cannot listen for DICOM on port {address[1]} of {address[0]} ({error.strerror or error}): "
                "choose another with --dicom-port, or 0 for any"
            ) from error
        if self._server is None:
            raise UsageError(f"cannot listen for DICOM on port {address[1]} of {address[0]}")
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Take nothing more; what is under way breaks off."""
        if self._server is not None:
            self._server.shutdown()
        for association in list(self._open):
            association.abort()
            self._end(association, "the service ended")

    def studies(self) -> set[str]:
        """Return the UIDs of the studies of which something is under way."""
        with self._lock:
            return set().union(*(state.studies for state in self._open.values()))

    def _bound(self, event: Event) -> None:
        """Bound what one read may take, in bytes and in time."""
        connection = event.assoc.dul.socket
        if connection is None or connection.socket is None:
            return
        connection.socket.settimeout(IDLE_S)
        vars(connection)["recv"] = partial(_bounded_read, connection.recv)

    def _check_host(self, event: Event) -> None:
        """Let no other machine go by the title of one that is allowed."""
        hosts = self._hosts.get(event.assoc.requestor.ae_title.strip())
        if hosts and event.assoc.requestor.address not in hosts:
            _log.warning("DICOM: an association was refused: its AE title belongs to another host")
            event.assoc.abort()

    def _count(self, event: Event) -> None:
        """Bound what is held in memory: files of which a part has come."""
        state = self._state(event.assoc)
        state.half += len(event.data)
        if sum(one.half for one in list(self._open.values())) > self._options.largest_file:
            state.refused = f"a file, or all that was half-received, had more than {self._options.largest_file} bytes"
            event.assoc.abort()

    def _store(self, event: Event) -> int:
        state = self._state(event.assoc)
        state.half = 0
        path = state.folder / f"{len(state.files):05d}.dcm"
        try:
            status = self._write(event, state, path)
        except OSError as error:
            status, state.refused = _NO_ROOM, f"it could not be written ({error.strerror or error})"
        if status != _OK:
            path.unlink(missing_ok=True)
        return status

    def _write(self, event: Event, state: _Open, path: Path) -> int:
        request = event.request
        if not isinstance(request, C_STORE) or request.DataSet is None:
            return _NOT_UNDERSTOOD
        data = request.DataSet
        size = data.getbuffer().nbytes
        if len(state.files) >= self._options.most_files or state.size + size > self._options.largest:
            state.refused = f"it had more than {self._options.most_files} files or {self._options.largest} bytes"
            return _NO_ROOM
        state.folder.mkdir(exist_ok=True, mode=0o700)
        with path.open("xb") as file:
            file.write(b"\0" * 128 + b"DICM")
            write_file_meta_info(file, event.file_meta)
            file.write(data.getbuffer())
        try:
            said = header_tags(path, ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
        except DataError:
            said = {}
        if not all(said.get(name) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")):
            state.refused = "a file of it names no study, series and instance, or cannot be read"
            return _NOT_UNDERSTOOD
        state.files.append(path)
        state.size += size
        state.studies.add(str(said["StudyInstanceUID"]))
        return _OK

    def _release(self, event: Any) -> None:
        """Keep what an association sent: it asks to end, and is answered after this."""
        if not isinstance(event.primitive, A_RELEASE) or event.primitive.result is not None:
            return
        state = self._state(event.assoc)
        if not state.files or state.refused:
            self._end(event.assoc, state.refused)
            return
        try:
            for path in (*state.files, state.folder):
                sync(path)
            state.folder.rename(self._arrived / state.folder.name)
            sync(self._arrived)
        except OSError as error:
            self._end(event.assoc, f"it could not be kept ({error.strerror or error})")
            event.assoc.abort()
            return
        with self._lock:
            self._open.pop(event.assoc, None)
        _log.info("DICOM: %s received", counted(len(state.files), "file"))
        self._received()

    def _drop(self, event: Event) -> None:
        self._end(event.assoc, "the connection broke off")

    def _end(self, association: Association, why: str) -> None:
        """Remove what an association sent."""
        with self._lock:
            state = self._open.pop(association, None)
        if state is None:
            return
        shutil.rmtree(state.folder, ignore_errors=True)
        if state.files or state.refused:
            caller = association.requestor.ae_title.strip()
            why = state.refused or why
            _log.warning("DICOM: nothing of %s was kept: %s", counted(len(state.files), "received file"), why)
            self._broken(Broken(caller, tuple(sorted(state.studies)), len(state.files), why))

    def _state(self, association: Association) -> _Open:
        with self._lock:
            if association not in self._open:
                self._open[association] = _Open(self._incoming / uuid4().hex)
            return self._open[association]


def _bounded_read(read: Callable[[int], bytearray], size: int) -> bytearray:
    if size > LARGEST_PDU:
        raise OSError(f"a message claims {size} bytes")
    return read(size)


def _allowed_hosts(callers: tuple[str, ...]) -> dict[str, set[str]]:
    """Return the addresses of each AE title that may send; none for any address.

    Raises:
        UsageError: a host has no address.
    """
    found: dict[str, set[str]] = {}
    for caller in callers:
        title, _, host = caller.partition("@")
        hosts = found.setdefault(title.strip(), set())
        if host:
            try:
                hosts |= {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
            except OSError as error:
                raise UsageError(f"receive.from {caller}: {error.strerror or error}") from error
    return found
