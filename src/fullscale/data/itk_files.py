"""NRRD and MetaImage files through SimpleITK, whose LPS+ is converted here; what it does not check is checked here.

SimpleITK fills what is missing of a short body, and does not compare the checksum of a compressed MetaImage.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import SimpleITK as sitk

from fullscale.data.bounds import MOST_TRAILING, require_room
from fullscale.data.nifti import three_dimensions
from fullscale.errors import DataError, GeometryError
from fullscale.geometry.volume import Volume

META_SUFFIXES = (".mha", ".mhd")

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_METAIMAGE_PLACE = (
    ("TransformMatrix", "Rotation", "Orientation"),
    ("Offset", "Position", "Origin"),
    ("ElementSpacing", "ElementSize"),
)
_LONGEST_HEADER = 1 << 20
_CHUNK = 1 << 20
_BYTES_OF_TYPE = {
    sitk.sitkInt8: 1,
    sitk.sitkUInt8: 1,
    sitk.sitkInt16: 2,
    sitk.sitkUInt16: 2,
    sitk.sitkInt32: 4,
    sitk.sitkUInt32: 4,
    sitk.sitkFloat32: 4,
}
_ZLIB_OR_GZIP = 47
"""Window bits with which zlib reads either, as MetaIO does."""


@dataclass(frozen=True)
class _Body:
    """The voxels of a file.

    Attributes:
        path: where they are, the file itself or one beside it.
        start: their first byte; negative where they are the last bytes.
        compression: "zlib", "gzip", or "" for plain bytes.
    """

    path: Path
    start: int
    compression: str


def read_itk(path: Path) -> Volume:
    """Read the one 3D volume of a NRRD or MetaImage file; see `read_volume`."""
    keys = _meta_keys(path) if path.suffix.lower() in META_SUFFIXES else _nrrd_keys(path)
    body = _meta_body(path, keys) if path.suffix.lower() in META_SUFFIXES else _nrrd_body(path, keys)
    if body is not None and not body.path.is_file():
        raise DataError(f"its voxels are in {body.path.name}, which is not beside it")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    if reader.GetNumberOfComponents() > 1:
        raise DataError(f"holds {reader.GetNumberOfComponents()} values a voxel, expected one; split it")
    shape = three_dimensions(reader.GetSize())
    _require_place(path, keys, reader)
    needed = math.prod(reader.GetSize()) * _BYTES_OF_TYPE.get(reader.GetPixelID(), 8)
    _require_whole(body, needed)
    image = reader.Execute()
    while image.GetDimension() > 3:
        size = image.GetSize()
        image = sitk.Extract(image, (*size[:-1], 0), (0,) * len(size))
    array = sitk.GetArrayFromImage(image).T
    if array.dtype.kind not in "iuf" or array.shape != shape:
        raise DataError(f"holds voxels of type {image.GetPixelIDTypeAsString()}, expected plain numbers")
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    lps[:3, 3] = image.GetOrigin()
    return Volume(array, _LPS_TO_RAS @ lps)


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


def _require_whole(body: _Body | None, needed: int) -> None:
    """Refuse a body that is shorter than its header says, damaged, or larger than it can be.

    Raises:
        DataError: it is.
    """
    if body is None:  # several files, or text: SimpleITK's own errors have to do
        require_room(needed, needed, "its header")
        return
    stored = body.path.stat().st_size - max(body.start, 0)
    require_room(needed, stored, "its header")
    if not body.compression:
        if stored < needed:
            raise DataError(f"cannot be read: holds {stored} of {needed} bytes of voxels; is it cut short?")
        return
    with body.path.open("rb") as stream:
        stream.seek(body.start)
        found = 0
        for length in _unpacked(stream, body.compression):
            found += length
            if found > needed + MOST_TRAILING:
                raise DataError(f"holds more than the {needed} bytes of voxels that its header states")
    if found < needed:
        raise DataError(f"cannot be read: holds {found} of {needed} bytes of voxels; is it cut short?")


def _meta_body(path: Path, keys: dict[str, str]) -> _Body | None:
    where, ascii_body = keys.get("ElementDataFile", ""), keys.get("BinaryData", "True").lower() == "false"
    if not where or ascii_body or where.upper().startswith("LIST") or "%" in where or " " in where:
        return None
    compression = "zlib" if keys.get("CompressedData", "").lower().startswith("t") else ""
    if where.upper() == "LOCAL":
        return _Body(path, int(keys["<body>"]), compression)
    start = int(keys.get("HeaderSize", "0") or 0)
    return None if compression and start < 0 else _Body(path.parent / where, start, compression)


def _nrrd_body(path: Path, keys: dict[str, str]) -> _Body | None:
    compression = {"raw": "", "gzip": "gzip", "gz": "gzip"}.get(keys.get("encoding", "").lower())
    skips = [keys.get(name, "0") for name in ("lineskip", "byteskip")]
    where = keys.get("datafile")
    if compression is None or any(skip not in ("0", "") for skip in skips):
        return None
    if where is None:
        return _Body(path, int(keys["<body>"]), compression)
    return None if where.upper().startswith("LIST") or "%" in where else _Body(path.parent / where, 0, compression)


def _unpacked(stream: BinaryIO, compression: str) -> Iterator[int]:
    """Unpack a body piece by piece to its checksum, which zlib compares; yield the lengths of the pieces.

    Raises:
        DataError: it ends before its checksum.
        zlib.error, OSError: it is damaged.
    """
    if compression == "gzip":
        with gzip.GzipFile(fileobj=stream) as unpacked:
            while piece := unpacked.read(_CHUNK):
                yield len(piece)
        return
    decompressor = zlib.decompressobj(_ZLIB_OR_GZIP)
    while not decompressor.eof:
        packed = decompressor.unconsumed_tail or stream.read(_CHUNK)
        if not packed:
            raise DataError("cannot be read: its compressed voxels end before their checksum; is it cut short?")
        yield len(decompressor.decompress(packed, _CHUNK))


def save_itk(path: Path, volume: Volume, description: str | None) -> None:
    """Write a NRRD or MetaImage file; see `write_volume`."""
    lps = _LPS_TO_RAS @ volume.affine
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.T))
    image.SetSpacing(volume.spacing_mm)
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / np.asarray(volume.spacing_mm)).ravel().tolist())
    if description is not None:
        image.SetMetaData("Comment", description)
    sitk.WriteImage(image, str(path), True)
