"""Classic DICOM over the network, as the one who asks: echo, store, find and move. Home of pynetdicom with receive.py.

A refusal is told apart from a peer that is away: who is away may be asked again (`FullscaleError`), who refuses will
refuse again (`DataError`, `UsageError`).
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from fullscale.data.dicom.binary_seg import BINARY_STORAGE, as_binary, is_label_map
from fullscale.data.dicom.destination import OUR_TITLE
from fullscale.data.dicom.headers import quietly, read_dataset
from fullscale.errors import DataError, FullscaleError, UsageError
from fullscale.extras import needs
from fullscale.text import one_line

with needs("pacs", "Peers of classic DICOM (AET@HOST:PORT)"):
    from pynetdicom import AE
    from pynetdicom.association import Association

TIMEOUT_S = 30.0
"""Of a connection, and of each answer."""
MOVE_TIMEOUT_S = 600.0
"""Of an answer while a peer sends a series."""
_VERIFICATION = "1.2.840.10008.1.1"
_STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
_PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_PEER = re.compile(r"(?P<title>[^\\@/:]{1,16})@(?P<host>\[[0-9A-Fa-f:.]+\]|[^@/:\[\]\s]+):(?P<port>\d{1,5})")
_PENDING = (0xFF00, 0xFF01)
_FULL = range(0xA700, 0xA800)
_NOT_TAKEN = 0x0122
_CALLED_UNKNOWN, _CALLING_UNKNOWN = 7, 3


@dataclass(frozen=True)
class Peer:
    """A DICOM application on the network.

    Attributes:
        title: its AE title.
        host: name or address.
        port: such as 104 or 4242.
    """

    title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Peer:
        """Read `AET@host:port`.

        Raises:
            UsageError: it is not of this form.
        """
        found = _PEER.fullmatch(text)
        if found is None or not 0 < int(found["port"]) < 65536:
            raise UsageError(f"{text!r} is no DICOM peer: expected AET@host:port with an AE title of 1 to 16 letters")
        return cls(found["title"].strip(), found["host"].strip("[]"), int(found["port"]))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.title}@{host}:{self.port}"


@dataclass(frozen=True)
class ListedSeries:
    """A series that a peer or server has.

    Attributes:
        study: UID of the study.
        series: UID of the series.
        modality: empty where it is not said.
        instances: how many files it has; None where it is not said.
    """

    study: str
    series: str
    modality: str
    instances: int | None


def is_peer(text: str) -> bool:
    """Tell `AET@host:port` from a path or URL."""
    return _PEER.fullmatch(text) is not None


def echo(peer: Peer, calling: str = OUR_TITLE) -> None:
    """Ask a peer whether it is there (C-ECHO).

    Raises:
        UsageError: it does not know its title, or ours.
        FullscaleError: it is away.
    """
    with _associated(peer, calling, {(_VERIFICATION, ImplicitVRLittleEndian)}) as association:
        _require(peer, association.send_c_echo(), "C-ECHO")


def store(peer: Peer, files: Iterable[Path], calling: str = OUR_TITLE) -> list[str]:
    """Send DICOM files to a peer (C-STORE), each as it is, or in the nearest form that the peer takes.

    Compressed pixels are sent plain to a peer that does not take their compression, and a label map SEG as a binary one
    to a peer that does not take label maps.

    Returns:
        For each file a word on what it was sent as: "as it is", "uncompressed" or "binary".

    Raises:
        DataError: a file is no DICOM, or the peer refuses it.
        UsageError: the peer does not know its title, or ours.
        FullscaleError: the peer is away, or full.
    """
    paths = list(files)
    offered: set[tuple[str, str]] = set()
    for path in paths:
        offered |= set(_forms(path))
    with _associated(peer, calling, offered) as association:
        return [_store_one(peer, association, path) for path in paths]


def find_series(peer: Peer, filters: Mapping[str, str], calling: str = OUR_TITLE) -> list[ListedSeries]:
    """List the series of the studies that match (C-FIND), e.g. `{"StudyDate": "20260101-"}`.

    Raises:
        DataError: the peer refuses the query.
        UsageError: it does not know its title, or ours.
        FullscaleError: it is away.
    """
    offered = {(_STUDY_ROOT_FIND, ImplicitVRLittleEndian)}
    with _associated(peer, calling, offered) as association:
        studies = _find(peer, association, "STUDY", {"StudyInstanceUID": "", **filters})
        return [
            ListedSeries(
                str(study.StudyInstanceUID),
                str(series.get("SeriesInstanceUID", "")),
                str(series.get("Modality", "") or ""),
                _count(series.get("NumberOfSeriesRelatedInstances")),
            )
            for study in studies
            for series in _find(peer, association, "SERIES", _of_series(str(study.StudyInstanceUID)))
        ]


def move_series(peer: Peer, series: ListedSeries, to: str, calling: str = OUR_TITLE) -> None:
    """Have a peer send a series to the AE title `to` (C-MOVE), whose address the peer must know.

    Raises:
        DataError: the peer refuses, or could not send all of it.
        UsageError: it does not know its title, or ours.
        FullscaleError: it is away.
    """
    offered = {(_STUDY_ROOT_MOVE, ImplicitVRLittleEndian)}
    with _associated(peer, calling, offered, MOVE_TIMEOUT_S) as association:
        named = {"StudyInstanceUID": series.study, "SeriesInstanceUID": series.series}
        query, model = _query("SERIES", named), _STUDY_ROOT_MOVE
        for status, _ in association.send_c_move(query, to, model):
            _require(peer, status, f"C-MOVE to {to}", f"is {to} known there, with our address and port?")


def _of_series(study: str) -> dict[str, str]:
    empty = dict.fromkeys(("SeriesInstanceUID", "Modality", "NumberOfSeriesRelatedInstances"), "")
    return {"StudyInstanceUID": study, **empty}


def _query(level: str, values: Mapping[str, str]) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = level
    for name, value in values.items():
        setattr(query, name, value or None)
    return query


def _find(peer: Peer, association: Association, level: str, values: Mapping[str, str]) -> list[Dataset]:
    found = []
    answers = association.send_c_find(_query(level, values), _STUDY_ROOT_FIND)
    for status, answer in answers:
        _require(peer, status, "C-FIND")
        if status.Status in _PENDING and answer is not None:
            found.append(answer)
    return found


def _count(value: Any) -> int | None:
    return None if value in (None, "") else int(value)


def _forms(path: Path) -> Iterator[tuple[str, str]]:
    """Yield SOP class and transfer syntax of each form in which a file can be sent."""
    head = quietly(path, read_dataset, path, True, ["SOPClassUID", "SOPInstanceUID"])
    kind = str(head.get("SOPClassUID") or "")
    if not kind or not head.get("SOPInstanceUID"):
        raise DataError(f"{path}: is no DICOM file that can be sent: it has no SOP class or no SOP instance UID")
    yield kind, str(head.file_meta.TransferSyntaxUID)
    for syntax in _PLAIN:
        yield kind, str(syntax)
        if is_label_map(head):
            yield BINARY_STORAGE, str(syntax)


def _store_one(peer: Peer, association: Association, path: Path) -> str:
    dataset = quietly(path, read_dataset, path, False)
    kind, syntax = str(dataset.SOPClassUID), dataset.file_meta.TransferSyntaxUID
    taken = {
        (str(context.abstract_syntax), str(context.transfer_syntax[0])) for context in association.accepted_contexts
    }
    form = "as it is"
    if (kind, str(syntax)) not in taken and not _takes(taken, kind, plain=UID(syntax) in _PLAIN):
        if _takes(taken, kind):
            form = "uncompressed"
            quietly(path, lambda: dataset.decompress(generate_instance_uid=False))
        elif is_label_map(dataset) and _takes(taken, BINARY_STORAGE):
            form, dataset = "binary", quietly(path, as_binary, dataset)
        else:
            what = UID(kind).name if UID(kind).name != kind else f"the SOP class {kind}"
            raise DataError(f"{path.name}: {peer} does not take {what} ({UID(syntax).name})")
    if not association.is_established:
        raise FullscaleError(f"{peer} broke the association off; send again")
    try:
        status = association.send_c_store(dataset)
    except (RuntimeError, ValueError, AttributeError) as error:
        if not association.is_established:
            raise FullscaleError(f"{peer} broke the association off; send again") from error
        raise DataError(f"{path.name}: cannot be sent: {one_line(error)}") from error
    _require(peer, status, "C-STORE")
    return form


def _takes(taken: set[tuple[str, str]], kind: str, plain: bool = True) -> bool:
    return plain and any((kind, str(syntax)) in taken for syntax in _PLAIN)


def _require(peer: Peer, status: Dataset, what: str, hint: str = "") -> None:
    """Raise for a status that is no success, warning, or sign that more is to come."""
    if "Status" not in status:
        raise FullscaleError(f"{peer} gave no answer to {what} within its time, or broke off; ask again")
    code = int(status.Status)
    if code == 0 or code in _PENDING or code == 0x0001 or 0xB000 <= code < 0xC000:
        return
    comment = f" ({one_line(Exception(str(status.ErrorComment)))})" if status.get("ErrorComment") else ""
    if what == "C-STORE" and code in _FULL:
        raise FullscaleError(f"{peer} has no room: it answers {what} with {code:04X}{comment}; send again later")
    kind = ": it does not take this kind of object" if code == _NOT_TAKEN else ""
    raise DataError(f"{peer} refuses: it answers {what} with {code:04X}{kind}{comment}{f'; {hint}' if hint else ''}")


@contextmanager
def _associated(
    peer: Peer, calling: str, offered: Iterable[tuple[str, str]], timeout_s: float = TIMEOUT_S
) -> Iterator[Association]:
    """Speak to a peer within a block."""
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.connection_timeout = TIMEOUT_S
    entity.dimse_timeout = entity.network_timeout = timeout_s
    for kind, syntax in sorted(offered):
        entity.add_requested_context(kind, [syntax])
    if len(entity.requested_contexts) > 128:
        raise UsageError("the files are of too many kinds for one association: send them in parts")
    try:
        association = entity.associate(peer.host, peer.port, ae_title=peer.title)
    except OSError as error:  # the name of the host is unknown
        raise _away(peer, error) from error
    if not association.is_established:
        raise _refusal(peer, calling, association)
    try:
        yield association
    except BaseException:
        association.abort()
        raise
    association.release()


def _refusal(peer: Peer, calling: str, association: Association) -> FullscaleError:
    """Say why there is no association."""
    if association.is_rejected:
        answer = association.acceptor.primitive
        reason = (None, None) if answer is None else (answer.result_source, answer.diagnostic)
        if reason == (1, _CALLED_UNKNOWN):
            return UsageError(f"{peer} does not go by the AE title {peer.title!r}: ask for its own")
        if reason == (1, _CALLING_UNKNOWN):
            return UsageError(f"{peer} does not know our AE title {calling!r}: have it registered there")
        if answer is None or answer.result == 1:
            return UsageError(f"{peer} refuses the association: ask whether it knows our AE title {calling!r}")
        return FullscaleError(f"{peer} takes no association now: it is busy; try again later")
    try:
        with socket.create_connection((peer.host, peer.port), TIMEOUT_S):
            pass
    except OSError as error:
        return _away(peer, error)
    return DataError(f"{peer} listens, but accepts nothing of what it is offered: is it a DICOM peer, for these files?")


def _away(peer: Peer, error: OSError) -> FullscaleError:
    return FullscaleError(f"{peer} cannot be reached ({error.strerror or error}): check host and port")
