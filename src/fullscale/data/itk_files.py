"""NRRD and MetaImage files: headers through SimpleITK, whose LPS+ is converted here, and voxels to their checksum.

SimpleITK 2.5 does not compare the checksum of a compressed MetaImage, and where it cannot unpack one it returns
memory that nothing was written to. So a body of one file, plain or compressed by zlib, is read here; text, lists of
files and other compressions are left to SimpleITK.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import tempfile
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from isal import igzip, isal_zlib

from fullscale.data.bounds import MOST_TRAILING, require_room
from fullscale.data.nifti import three_dimensions
from fullscale.errors import DataError, GeometryError
from fullscale.extras import needs
from fullscale.geometry.volume import Affine, Volume

with needs("itk", "NRRD and MetaImage files"):
    import SimpleITK as sitk

META_SUFFIXES = (".mha", ".mhd")

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_METAIMAGE_PLACE = (
    ("TransformMatrix", "Rotation", "Orientation"),
    ("Offset", "Position", "Origin"),
    ("ElementSpacing", "ElementSize"),
)
_LONGEST_HEADER = 1 << 20
_CHUNK = 1 << 20
_NUMBER_TYPES: dict[int, np.dtype[Any]] = {
    sitk.sitkInt8: np.dtype(np.int8),
    sitk.sitkUInt8: np.dtype(np.uint8),
    sitk.sitkInt16: np.dtype(np.int16),
    sitk.sitkUInt16: np.dtype(np.uint16),
    sitk.sitkInt32: np.dtype(np.int32),
    sitk.sitkUInt32: np.dtype(np.uint32),
    sitk.sitkInt64: np.dtype(np.int64),
    sitk.sitkUInt64: np.dtype(np.uint64),
    sitk.sitkFloat32: np.dtype(np.float32),
    sitk.sitkFloat64: np.dtype(np.float64),
    sitk.sitkVectorUInt8: np.dtype(np.uint8),
    sitk.sitkVectorInt16: np.dtype(np.int16),
    sitk.sitkVectorUInt16: np.dtype(np.uint16),
}
_ONE_AT_A_TIME = threading.Lock()
_ZLIB_OR_GZIP = 47
"""Window bits with which zlib reads either, as MetaIO does."""


@dataclass(frozen=True)
class _Body:
    """The voxels of a file.

    Attributes:
        path: where they are, the file itself or one beside it.
        start: their first byte; negative where they are the last bytes.
        compression: "zlib", "gzip", or "" for plain bytes.
        big_endian: whether the first byte of a number is the highest.
    """

    path: Path
    start: int
    compression: str
    big_endian: bool


def read_itk(path: Path) -> Volume:
    """Read the one 3D volume of a NRRD or MetaImage file; see `read_volume`."""
    reader, body = _open(path)
    if reader.GetNumberOfComponents() > 1:
        raise DataError(f"holds {reader.GetNumberOfComponents()} values a voxel, expected one; split it")
    shape, dtype = three_dimensions(reader.GetSize()), _number_type(reader)
    if body is None:
        require_room(math.prod(shape) * dtype.itemsize, path.stat().st_size, "its header")
        with _no_lines_of_its_own():
            array = sitk.GetArrayFromImage(reader.Execute()).T
    else:
        array = _unpack(body, math.prod(shape), dtype)
    array = array.reshape(shape, order="F")
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    return Volume(array, _affine(reader))


def read_layers(path: Path) -> tuple[npt.NDArray[Any], Affine]:
    """Read a volume with one or several values a voxel.

    Returns:
        Voxels `[layer, X, Y, Z]`, and the affine, RAS+ mm.

    Raises:
        DataError, GeometryError: as `read_volume`.
    """
    reader, body = _open(path)
    if body is None:
        raise DataError("holds layers as text or in several files; save them as one compressed file")
    shape = (reader.GetNumberOfComponents(), *three_dimensions(reader.GetSize()))
    return _unpack(body, math.prod(shape), _number_type(reader)).reshape(shape, order="F"), _affine(reader)


def _open(path: Path) -> tuple[Any, _Body | None]:
    """Read the header of a file, which must say where its voxels lie, and find its body."""
    keys = _meta_keys(path) if path.suffix.lower() in META_SUFFIXES else _nrrd_keys(path)
    body = _meta_body(path, keys) if path.suffix.lower() in META_SUFFIXES else _nrrd_body(path, keys)
    if body is not None and not body.path.is_file():
        raise DataError(f"its voxels are in {body.path.name}, which is not beside it")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with _no_lines_of_its_own():
        reader.ReadImageInformation()
    if reader.GetNumberOfComponents() == 1:
        three_dimensions(reader.GetSize())
    _require_place(path, keys, reader)
    return reader, body


@contextlib.contextmanager
def _no_lines_of_its_own() -> Iterator[None]:
    """Keep what MetaIO and NrrdIO print from the user; they know no other way than file descriptor 2.

    What is wrong with a file is raised besides.
    """
    with _ONE_AT_A_TIME, tempfile.TemporaryFile() as printed:
        try:
            before = os.dup(2)
        except OSError:  # there is none
            yield
            return
        os.dup2(printed.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)


def _number_type(reader: Any) -> np.dtype[Any]:
    dtype = _NUMBER_TYPES.get(reader.GetPixelID())
    if dtype is None:
        raise DataError(f"holds voxels of type {sitk.GetPixelIDValueAsString(reader.GetPixelID())}, expected numbers")
    return dtype


def _affine(reader: Any) -> Affine:
    """Return voxel index to RAS+ mm, of the first three axes."""
    axes = reader.GetDimension()
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(reader.GetDirection(), (axes, axes))[:3, :3] * np.asarray(reader.GetSpacing())[:3]
    lps[:3, 3] = reader.GetOrigin()[:3]
    return _LPS_TO_RAS @ lps


def _meta_keys(path: Path) -> dict[str, str]:
    """Read the header of a MetaImage; the place of a body behind it is kept as `<body>`."""
    with path.open("rb") as stream:
        header = stream.read(_LONGEST_HEADER)
    before, mark, after = header.partition(b"ElementDataFile")
    line = after.partition(b"\n")[0]
    pairs = [text.partition("=") for text in (before + mark + line).decode("latin-1").splitlines()]
    keys = {name.strip(): value.strip() for name, _, value in pairs}
    return keys | {"<body>": str(len(before) + len(mark) + len(line) + 1)}


def _nrrd_keys(path: Path) -> dict[str, str]:
    """Read the header of a NRRD, names in lower case and without spaces; the place of its body is kept as `<body>`."""
    with path.open("rb") as stream:
        header = stream.read(_LONGEST_HEADER)
    end = re.search(rb"\r?\n\r?\n", header)
    text = header[: end.start() if end else len(header)].decode("latin-1")
    pairs = [line.partition(":") for line in text.splitlines() if not line.startswith("#") and ":=" not in line]
    keys = {name.replace(" ", "").lower(): value.strip() for name, colon, value in pairs if colon}
    return keys | {"<body>": str(end.end() if end else len(header))}


def _require_place(path: Path, keys: dict[str, str], reader: Any) -> None:
    if path.suffix.lower() in META_SUFFIXES:
        missing = [names[0] for names in _METAIMAGE_PLACE if not keys.keys() & set(names)]
    else:
        known = reader.HasMetaDataKey("NRRD_space") and reader.GetMetaData("NRRD_space") == "left-posterior-superior"
        missing = [] if known else ["space"]  # ITK has turned the spaces that it knows
    if missing:
        raise GeometryError(
            f"does not say where its voxels lie (no {', '.join(missing)} in its header); "
            "write it again with its geometry, no affine is invented"
        )


def _unpack(body: _Body, count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Read the voxels of a body, to its checksum where it has one.

    Raises:
        DataError: it is shorter than its header says, longer than it can be, damaged, or claims too much.
        OSError: it cannot be read.
    """
    dtype = dtype.newbyteorder(">" if body.big_endian else "<")
    needed, stored = count * dtype.itemsize, body.path.stat().st_size - max(body.start, 0)
    require_room(needed, stored, "its header")
    if not body.compression and stored < needed:
        raise DataError(f"cannot be read: holds {stored} of {needed} bytes of voxels; is it cut short?")
    voxels, found = bytearray(needed), 0
    with body.path.open("rb") as stream:
        stream.seek(body.start if body.start >= 0 else stored - needed)
        for piece in _pieces(stream, body.compression):
            voxels[found : found + len(piece)] = piece[: max(needed - found, 0)]
            found += len(piece)
            if found > needed + MOST_TRAILING and body.compression:
                raise DataError(f"holds more than the {needed} bytes of voxels that its header states")
            if found >= needed and not body.compression:
                break
    if found < needed:
        raise DataError(f"cannot be read: holds {found} of {needed} bytes of voxels; is it cut short?")
    return np.frombuffer(voxels, dtype, count).astype(dtype.newbyteorder("="), copy=False)


def _meta_body(path: Path, keys: dict[str, str]) -> _Body | None:
    where, ascii_body = keys.get("ElementDataFile", ""), keys.get("BinaryData", "True").lower() == "false"
    scaled = any(name.startswith("ElementToIntensity") for name in keys)
    if not where or ascii_body or scaled or where.upper().startswith("LIST") or "%" in where or " " in where:
        return None
    compression = "zlib" if keys.get("CompressedData", "").lower().startswith("t") else ""
    big_endian = any(
        keys.get(name, "").lower().startswith(("t", "1")) for name in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
    )
    if where.upper() == "LOCAL":
        return _Body(path, int(keys["<body>"]), compression, big_endian)
    start = int(keys.get("HeaderSize", "0") or 0)
    return None if compression and start < 0 else _Body(path.parent / where, start, compression, big_endian)


def _nrrd_body(path: Path, keys: dict[str, str]) -> _Body | None:
    compression = {"raw": "", "gzip": "gzip", "gz": "gzip"}.get(keys.get("encoding", "").lower())
    skips = [keys.get(name, "0") for name in ("lineskip", "byteskip")]
    where, big_endian = keys.get("datafile"), keys.get("endian", "little").lower() == "big"
    if compression is None or any(skip not in ("0", "") for skip in skips):
        return None
    if where is None:
        return _Body(path, int(keys["<body>"]), compression, big_endian)
    if where.upper().startswith("LIST") or "%" in where:
        return None
    return _Body(path.parent / where, 0, compression, big_endian)


def _pieces(stream: BinaryIO, compression: str) -> Iterator[bytes]:
    """Read a body piece by piece, and unpack it to its checksum.

    Raises:
        DataError: it is damaged, or ends before its checksum.
    """
    try:
        yield from _unpacked(stream, compression)
    except (zlib.error, isal_zlib.error, igzip.BadGzipFile, EOFError) as error:  # type: ignore[misc]
        raise DataError(f"cannot be read: its compressed voxels are damaged ({error})") from error


def _unpacked(stream: BinaryIO, compression: str) -> Iterator[bytes]:
    if compression != "zlib":
        with igzip.IGzipFile(fileobj=stream) if compression == "gzip" else contextlib.nullcontext(stream) as unpacked:
            while piece := unpacked.read(_CHUNK):
                yield piece
        return
    decompressor = zlib.decompressobj(_ZLIB_OR_GZIP)
    while not decompressor.eof:
        packed = decompressor.unconsumed_tail or stream.read(_CHUNK)
        if not packed:
            raise DataError("cannot be read: its compressed voxels end before their checksum; is it cut short?")
        yield decompressor.decompress(packed, _CHUNK)


def save_itk(path: Path, volume: Volume, description: str | None, compress: bool = True) -> None:
    """Write a NRRD or MetaImage file; see `write_volume`."""
    lps = _LPS_TO_RAS @ volume.affine
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.T))
    image.SetSpacing(volume.spacing_mm)
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / np.asarray(volume.spacing_mm)).ravel().tolist())
    if description is not None:
        image.SetMetaData("Comment", description)
    sitk.WriteImage(image, str(path), compress)
