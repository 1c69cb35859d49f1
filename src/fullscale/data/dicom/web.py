"""Series of a DICOMweb server: found by QIDO-RS page by page, fetched by WADO-RS one at a time. Home of its client.

A name and a password are taken from FULLSCALE_DICOMWEB_USER and FULLSCALE_DICOMWEB_PASSWORD, a token from
FULLSCALE_DICOMWEB_TOKEN, else what ~/.netrc has for the host; no URL, message or file holds them.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

from fullscale.data.identity import digest_of
from fullscale.errors import DataError, FullscaleError, OutputError, UsageError
from fullscale.extras import needs
from fullscale.text import one_line

Value = TypeVar("Value")

USER, PASSWORD, TOKEN = (f"FULLSCALE_DICOMWEB_{name}" for name in ("USER", "PASSWORD", "TOKEN"))
"""Variables of the environment that hold credentials."""
PAGE = 100
"""Answers that are asked for at a time."""
PATIENCE_S = 120.0
"""How long a server that has answered before may be away: it is started again, or the network is."""
FIRST_S = 4.0
"""How long one may take to be there at all."""
TIMEOUT_S = (10.0, 120.0)
"""Of a connection, and of each answer."""
LARGEST_BYTES = 16 << 30
"""A series that is larger is refused: it would fill the disk of temporary files."""

NO_IMAGES = (
    "SR",
    "SEG",
    "PR",
    "KO",
    "RTSTRUCT",
    "RTPLAN",
    "RTDOSE",
    "RTRECORD",
    "REG",
    "DOC",
    "AU",
    "ECG",
    "FID",
    "PLAN",
)
"""Modalities whose series hold no scan, and are not fetched."""

_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"
_MODALITY, _DESCRIPTION, _INSTANCES = "00080060", "0008103E", "00201209"
_AWAY = (408, 425, 429, 500, 502, 503, 504)
_UID = re.compile(r"[0-9.]{1,64}")
_BELOW = re.compile(r"/(studies|series|instances)(/|$)")
_RESOURCE = re.compile(
    r"(?P<base>.*?)(?:/studies(?:/(?P<study>[^/]+))?)?(?:/(?P<all>series)(?:/(?P<series>[^/]+))?)?/?", re.DOTALL
)


@dataclass(frozen=True)
class RemoteSeries:
    """A series on a server.

    Attributes:
        server: URL of its DICOMweb service.
        study: UID of the study.
        series: UID of the series.
        modality: as the server says it; empty where it does not.
        description: likewise.
        instances: how many files it has; None where the server does not say it.
        chosen: whether it was named itself, so that it is no question whether it is a scan.
    """

    server: str
    study: str
    series: str
    modality: str = ""
    description: str = ""
    instances: int | None = None
    chosen: bool = False

    @property
    def place(self) -> str:
        """Where it lies on its server."""
        return f"studies/{self.study}/series/{self.series}"

    def content(self, earlier: Mapping[str, Any]) -> dict[str, str]:
        """Say what the series holds, as `content_of` does of files, by the UIDs of its files: no file is fetched.

        Raises:
            DataError: it is not there any more.
            FullscaleError: the server is away.
        """
        seen = digest_of(self.server, self.place, str(self.instances))
        known = earlier.get("content")
        if self.instances is not None and seen == earlier.get("seen") and isinstance(known, str):
            return {"seen": seen, "content": known}
        return {"seen": seen, "content": digest_of(*sorted(self._uids()))}

    def fetch(self, folder: Path) -> None:
        """Write every file of the series into an empty folder; what breaks off is begun again.

        Raises:
            DataError: the series is not there, the server refuses it or sends it incomplete, or it is too large.
            OutputError: the disk is full.
            FullscaleError: the server is away.
        """
        wanted = set(self._uids())

        def get() -> None:
            for file in folder.iterdir():
                file.unlink()
            got = set(self._receive(folder))
            if wanted - got:
                raise _Incomplete(f"sent {len(got)} of {len(wanted)} files")

        _patiently(self.server, get, self.place)

    def _receive(self, folder: Path) -> Iterator[str]:
        """Write the files as they come, and give the UID of each."""
        left = LARGEST_BYTES
        found = client_of(self.server).iter_series(self.study, self.series, media_types=(("application/dicom", "*"),))
        for number, dataset in enumerate(found):
            file = folder / f"{number}.dcm"
            try:
                dataset.save_as(file, enforce_file_format=True)
            except OSError as error:
                raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
            left -= file.stat().st_size
            if left < 0:
                raise DataError(f"{self.place}: is larger than {LARGEST_BYTES >> 30} GB, which no scan is")
            yield str(dataset.get("SOPInstanceUID", ""))

    def _uids(self) -> list[str]:
        search = client_of(self.server).search_for_instances
        found = [_text(one, _INSTANCE) for one in _pages(self.server, search, {}, self.study, self.series)]
        if not found:
            raise DataError(f"{self.place}: is not on the server")
        return found


@dataclass(frozen=True)
class Query:
    """What is asked of a server: everything, a study, a series, or what matches.

    Attributes:
        server: URL of its DICOMweb service, without the resource.
        study: UID of a study; None for those that match.
        series: UID of a series of it; None for all of them.
        of_series: whether the filters are of series, not of studies.
        filters: attributes and values, as QIDO-RS takes them.
    """

    server: str
    study: str | None = None
    series: str | None = None
    of_series: bool = False
    filters: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Query:
        """Read a URL such as `https://HOST/dicom-web/studies?ModalitiesInStudy=CT`.

        Raises:
            UsageError: it is none of a DICOMweb service, of a study or of a series; or it holds a password.
        """
        try:
            parts = urlsplit(text)
            host = parts.hostname
            address = f"{parts.scheme}://{parts.netloc}"
        except ValueError as error:
            raise UsageError(f"a source is no URL: {error}") from error
        if parts.username or parts.password:
            raise UsageError(f"the URL of {host} holds a password: give it by {USER} and {PASSWORD}, or by ~/.netrc")
        found = _RESOURCE.fullmatch(parts.path)
        uids = [] if found is None else [uid for uid in (found["study"], found["series"]) if uid is not None]
        if not host or found is None or _BELOW.search(found["base"]) or not all(map(_UID.fullmatch, uids)):
            raise UsageError(
                f"{text}: expected https://HOST/dicom-web, or in it /studies?ModalitiesInStudy=CT, /studies/UID or "
                "/studies/UID/series/UID"
            )
        if found["series"] and not found["study"]:
            raise UsageError(f"{text}: names a series without its study: give .../studies/UID/series/UID")
        filters = dict(parse_qsl(parts.query, keep_blank_values=True))
        for name in ("limit", "offset"):
            if not filters.get(name, "1").isdecimal():
                raise UsageError(f"{text}: {name}={filters[name]} is no number")
        if found["series"] and filters:
            raise UsageError(f"{text}: a series that is named cannot be filtered too; leave out ?{parts.query}")
        return cls(address + found["base"], found["study"], found["series"], bool(found["all"]), filters)

    def __str__(self) -> str:
        study = f"/studies/{self.study}" if self.study else ""
        of_series = f"/series/{self.series}" if self.series else "/series"
        resource = study + of_series if self.of_series else study or "/studies"
        return self.server + resource + (f"?{urlencode(self.filters)}" if self.filters else "")

    def find(self, wanted: str | None = None) -> Iterator[RemoteSeries]:
        """Find the series, page by page, each once.

        Args:
            wanted: UID or description of the series that are meant, if not all.

        Raises:
            DataError: the server refuses the query.
            UsageError: it wants credentials.
            FullscaleError: it does not answer.
        """
        known: set[str] = set()
        for series in self._all():
            is_wanted = wanted is None or wanted in (series.series, series.description)
            if series.series not in known and is_wanted:
                known.add(series.series)
                yield series

    def _all(self) -> Iterator[RemoteSeries]:
        client = client_of(self.server)
        if self.of_series or self.study:
            named = {_SERIES: self.series} if self.series else {}
            yield from self._series(self.study, {**self.filters, **named})
            return
        for study in _pages(self.server, client.search_for_studies, self.filters):
            yield from self._series(_text(study, _STUDY), {})

    def _series(self, study: str | None, filters: Mapping[str, str]) -> Iterator[RemoteSeries]:
        fields = {"includefield": f"{_DESCRIPTION},{_INSTANCES},{_MODALITY}"}
        search = client_of(self.server).search_for_series
        for one in _pages(self.server, search, {**filters, **fields}, study):
            count = _text(one, _INSTANCES)
            yield RemoteSeries(
                self.server,
                _text(one, _STUDY) or study or "",
                _text(one, _SERIES),
                _text(one, _MODALITY),
                _text(one, _DESCRIPTION),
                int(count) if count.isdecimal() else None,
                chosen=self.series is not None,
            )


def is_url(text: str) -> bool:
    """Tell a URL from a path."""
    return text.lower().startswith(("http://", "https://"))


class _Incomplete(Exception):
    """A series of which files are missing."""


def _pages(
    server: str, search: Callable[..., list[dict[str, Any]]], filters: Mapping[str, str], *of: str | None
) -> Iterator[dict[str, Any]]:
    """Ask for a page after the other, until one brings nothing new: servers may send fewer answers than asked for."""
    asked = dict(filters)
    left, offset, known = int(asked.pop("limit", "0") or 0) or None, int(asked.pop("offset", "0") or 0), set[str]()
    while True:
        limit = PAGE if left is None else min(PAGE, left - len(known))
        ask = partial(search, *of, limit=limit, offset=offset, additional_params=asked)
        page = _patiently(server, ask, f"the query {urlencode(asked)}".rstrip())
        offset += len(page)
        new = [one for one in page if _identity(one) not in known]
        known |= {_identity(one) for one in new}
        yield from new if left is None else new[: max(0, left - len(known) + len(new))]
        if not new or (left is not None and len(known) >= left):
            return


def _identity(answer: Mapping[str, Any]) -> str:
    return " ".join(_text(answer, tag) for tag in (_STUDY, _SERIES, _INSTANCE))


def _text(answer: Mapping[str, Any], tag: str) -> str:
    """Return the first value of an attribute of the DICOM JSON model; empty where it has none."""
    values = answer.get(tag, {}).get("Value") or [""]
    return str(values[0]).strip()


def client_of(server: str) -> Any:
    """Return the connection of this process to a server."""
    return _connect(server, *(os.environ.get(name, "") for name in (TOKEN, USER, PASSWORD)))


@cache
def _connect(server: str, token: str, user: str, password: str) -> Any:
    with needs("dicomweb", "DICOMweb servers"):
        import requests
        from dicomweb_client.web import DICOMwebClient

    def with_token(request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    session = requests.Session()
    if token or user:
        session.auth = with_token if token else (user, password)
    try:
        client = DICOMwebClient(server, session=session, timeout=TIMEOUT_S, permissive_uid=True)
    except ValueError as error:
        raise UsageError(f"{server}: {one_line(error)}") from error
    client.set_http_retry_params(retry=False)
    return client


_answered: set[str] = set()
"""Servers that have answered this process."""


def _patiently(server: str, ask: Callable[[], Value], what: str) -> Value:
    """Ask a server, again and again while it is away.

    Raises:
        DataError: it answers, but not to this.
        UsageError: it wants credentials, or its certificate is not trusted.
        FullscaleError: it is away for too long.
    """
    began, pause = time.monotonic(), 0.5
    while True:
        try:
            value = ask()
        except Exception as error:
            problem = problem_of(server, error, what)
        else:
            _answered.add(server)
            return value
        patience = PATIENCE_S if server in _answered else FIRST_S
        if time.monotonic() - began > patience:
            if server in _answered and _is_there(server):
                raise DataError(f"{what}: {server} {problem}, again and again for {patience:.0f} s")
            raise FullscaleError(f"{server} {problem}; look after it, and repeat the command to go on")
        time.sleep(pause)
        pause = min(2 * pause, 10.0)


def problem_of(server: str, error: Exception, what: str) -> str:
    """Say what is wrong where it may pass.

    Raises:
        DataError: the server does not have what is asked for, or does not understand it.
        UsageError: it wants credentials, or its certificate is not trusted.
        Exception: it is no fault of the server.
    """
    import requests
    from pydicom.errors import InvalidDicomError

    match error:
        case requests.HTTPError() if error.response is not None:
            status = error.response.status_code
            if status in (401, 403):
                raise UsageError(
                    f"{server} refuses access ({status}): give {USER} and {PASSWORD}, {TOKEN}, or an entry in ~/.netrc"
                ) from None
            if status not in _AWAY:
                reason = f"answers {status} {error.response.reason or ''}".rstrip()
                raise DataError(f"{what}: {server} {reason}") from None
            return f"answers {status}"
        case requests.exceptions.SSLError():
            raise UsageError(
                f"{server}: its certificate is not trusted; name the file of its authority in REQUESTS_CA_BUNDLE"
            ) from None
        case requests.Timeout():
            return "takes too long to answer"
        case _Incomplete():
            return str(error)
        case requests.exceptions.JSONDecodeError():
            raise DataError(f"{what}: {server} is no DICOMweb service: it answers what is no JSON") from None
        case requests.ConnectionError() | requests.exceptions.ChunkedEncodingError():
            return "cannot be reached, or broke off"
        case InvalidDicomError() | EOFError():
            return "sent what is no whole DICOM file"
        case ValueError() if not isinstance(error, requests.RequestException):  # an answer that broke off in its head
            return f"sent what is no answer ({one_line(error)})"
        case requests.RequestException():
            raise DataError(f"{what}: {server}: {one_line(error)}") from None
    raise error


def _is_there(server: str) -> bool:
    """Tell whether a server answers at all."""
    try:
        client_of(server).search_for_studies(limit=1)
    except Exception:
        return False
    return True
