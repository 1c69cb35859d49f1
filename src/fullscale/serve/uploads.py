"""Uploads: a body in parts is written to disk as it comes, within bounds of bytes, time and number.

No name that a client sends becomes a path: of a file name only the suffix is kept, if it is one that is read here.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from fastapi import HTTPException, Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from fullscale.data.bounds import human_size
from fullscale.data.dicom.store import zip_files
from fullscale.data.volume_files import SUFFIXES, volume_suffix
from fullscale.errors import DataError

ZIP, DICOM = ".zip", ".dcm"
IN_TWO_FILES = (".nhdr", ".mhd")
TAKEN = (*(suffix for suffix in SUFFIXES if suffix not in IN_TWO_FILES), ZIP, DICOM)
"""Suffixes of files that can be uploaded."""
MOST_FILES = 5000
MOST_FIELDS = 64
LONGEST_FIELD = 64 << 10
SPARE = 256 << 20
"""Bytes of the disk that uploads leave free."""


@dataclass(frozen=True)
class UploadLimits:
    """What one request may send.

    Attributes:
        largest: bytes of its body.
        total_s: seconds in all.
        idle_s: seconds without a byte.
    """

    largest: int
    total_s: float
    idle_s: float


@dataclass
class Upload:
    """What was sent.

    Attributes:
        fields: text of each field that is no file.
        files: name of the field and path of each file, in their order.
        size: bytes of the body.
    """

    fields: dict[str, str] = field(default_factory=dict)
    files: list[tuple[str, Path]] = field(default_factory=list)
    size: int = 0


async def receive(request: Request, folder: Path, limits: UploadLimits) -> Upload:
    """Write the files of a request's `multipart/form-data` into a folder, as `0000.nii.gz` and so on.

    Raises:
        HTTPException: 400 it is no such body, or only half of it came; 408 it took too long; 413 it is too large; 415
            a file is of a kind that is not read here; 507 the disk is full.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise HTTPException(415, "expected a body of multipart/form-data")
    stated = request.headers.get("content-length", "0")
    if stated.isdigit() and int(stated) > limits.largest:
        raise _too_large(limits)
    if shutil.disk_usage(folder).free < SPARE + (int(stated) if stated.isdigit() else 0):
        raise HTTPException(507, "there is no room on the disk of the service for this upload")
    parts = _Parts(folder)
    try:
        parser = MultipartParser(options[b"boundary"], parts.callbacks())  # type: ignore[arg-type]
        async with aclosing(_bounded(request, limits)) as body:
            async for chunk in body:
                parts.upload.size += len(chunk)
                await asyncio.to_thread(parser.write, chunk)
    except FormParserError as error:
        raise HTTPException(400, "the body is no well-formed multipart/form-data") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the client went away in the middle of the upload") from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise HTTPException(507 if full else 500, "the disk of the service does not take this upload") from error
    finally:
        parts.close()
    if not parts.whole:
        raise HTTPException(400, "the body ends before its last boundary: only a part of the upload came")
    return parts.upload


async def _bounded(request: Request, limits: UploadLimits) -> AsyncGenerator[bytes, None]:
    """Yield the body as it comes, until it is too large or takes too long."""
    deadline, size = time.monotonic() + limits.total_s, 0
    stream = request.stream().__aiter__()
    while True:
        left = min(limits.idle_s, deadline - time.monotonic())
        try:
            chunk = await asyncio.wait_for(anext(stream), max(0.0, left))
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise HTTPException(408, _late(limits), headers={"Connection": "close"}) from error
        size += len(chunk)
        if size > limits.largest:
            raise _too_large(limits)
        yield chunk


def _late(limits: UploadLimits) -> str:
    return f"the upload took too long: {limits.total_s:.0f} s in all and {limits.idle_s:.0f} s of silence are allowed"


def _too_large(limits: UploadLimits) -> HTTPException:
    return HTTPException(
        413,
        f"the upload is larger than {human_size(limits.largest)}, the most that this service takes",
        headers={"Connection": "close"},
    )


def require_zips(upload: Upload) -> None:
    """Look into the zips of an upload, without unpacking them.

    Raises:
        HTTPException: 422 one is damaged, unpacks to more than the bounds, or holds a path that leads out of it.
    """
    for _, path in upload.files:
        if path.suffix == ZIP:
            try:
                zip_files(path)
            except DataError as error:
                raise HTTPException(422, str(error)) from error


class _Parts:
    """Takes a body apart: what the parser calls as it goes along."""

    def __init__(self, folder: Path) -> None:
        self.upload, self.whole = Upload(), False
        self._folder = folder
        self._name, self._value = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._field = ""
        self._text = bytearray()
        self._file: IO[bytes] | None = None

    def callbacks(self) -> dict[str, object]:
        """Return what the parser calls, by its names."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._last,
        }

    def close(self) -> None:
        """Close the file that was being written."""
        if self._file is not None:
            self._file.close()

    def _begin(self) -> None:
        self._headers, self._field, self._text = {}, "", bytearray()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name, self._value = b"", b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"name" not in options:
            raise HTTPException(400, "a part of the body has no name")
        self._field = options[b"name"].decode("utf-8", "replace")
        if b"filename" in options:
            suffix = _suffix(options[b"filename"].decode("utf-8", "replace"))
            if len(self.upload.files) >= MOST_FILES:
                raise HTTPException(413, f"more than {MOST_FILES} files in one upload; send a zip")
            path = self._folder / f"{len(self.upload.files):04d}{suffix}"
            self._file = path.open("xb")
            self.upload.files.append((self._field, path))
        elif len(self.upload.fields) >= MOST_FIELDS:
            raise HTTPException(413, f"more than {MOST_FIELDS} fields in one upload")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > LONGEST_FIELD:
            raise HTTPException(413, f"a field of the upload is longer than {LONGEST_FIELD} bytes")

    def _end(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        else:
            self.upload.fields[self._field] = self._text.decode("utf-8", "replace")

    def _last(self) -> None:
        self.whole = True


def _suffix(name: str) -> str:
    """Return the suffix under which a file is kept; without one, DICOM is meant."""
    last = name.replace("\\", "/").rpartition("/")[2]
    suffix = volume_suffix(last) or Path(last).suffix.lower()
    if not suffix or suffix.lstrip(".").isdigit():  # as DICOM files are often called
        return DICOM
    if suffix not in TAKEN:
        pair = "; pack header and voxels in one file, such as .nrrd or .mha" if suffix in IN_TWO_FILES else ""
        raise HTTPException(415, f"a file of that kind is not read here; expected one of {', '.join(TAKEN)}{pair}")
    return suffix
