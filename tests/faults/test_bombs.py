"""Small files that claim terabytes or unpack to gigabytes: refused in a line, and reading them takes little memory."""

import gzip
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
import pytest
import torch

from tests.bombs import grown_and_said, meta_header, nifti_header, nrrd_header, png, tiff, zeros
from tests.dicom_slices import slice_hu, slice_position, write_series, write_slice
from tests.faults.scale import LONG, record

pytestmark = pytest.mark.faults

TERABYTES = (32767, 32767, 4096)
"""4 TiB of uint8."""
GIGABYTES = (2048, 2048, 1536)
"""6 GiB of uint8."""
COUNT = int(np.prod(GIGABYTES))
DEFLATED_MIB = 4 << 10 if LONG else 256
MOST_GROWTH = 160 << 20
"""What reading may take, libraries that are loaded for it included."""


def zip_of_zeros(path: Path, method: int, gib: int) -> None:
    """Write a zip whose one member unpacks to zeros."""
    chunk = bytes(1 << 20)
    with (
        zipfile.ZipFile(path, "w", method, compresslevel=9) as archive,
        archive.open("a.dcm", "w", force_zip64=True) as member,
    ):
        for _ in range(gib << 10):
            member.write(chunk)


def small_claim_in_a_zip(path: Path) -> None:
    """Write a zip whose directory claims 3 GiB for a small member."""
    write_slice(path.with_suffix(".dcm"), slice_hu(0), slice_position(0))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path.with_suffix(".dcm"), "a.dcm")
    size = path.with_suffix(".dcm").stat().st_size
    path.with_suffix(".dcm").unlink()
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", size), struct.pack("<I", 3 << 30)))


def deflated_dicom(path: Path) -> None:
    """Write a DICOM file whose deflated data set unpacks to gigabytes of pixels."""
    write_slice(path, slice_hu(0), slice_position(0))
    dataset = pydicom.dcmread(path)
    dataset.Rows = dataset.Columns = 46341
    del dataset.PixelData
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    whole = path.read_bytes()
    start = 132 + 12 + struct.unpack("<I", whole[140:144])[0]  # behind the meta header
    pixels = b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<I", (DEFLATED_MIB - 1) << 20)
    packer, chunk = zlib.compressobj(9, zlib.DEFLATED, -15), bytes(1 << 20)
    pieces = [packer.compress(zlib.decompress(whole[start:], -15) + pixels)]
    pieces += [packer.compress(chunk) for _ in range(DEFLATED_MIB - 1)]
    path.write_bytes(whole[:start] + b"".join(pieces) + packer.flush())


def packed_weights(path: Path) -> None:
    """Write weights whose archive was compressed, so that a small file holds gigabytes of zeros."""
    torch.save({"weight": torch.zeros(4)}, path)
    chunk = bytes(1 << 20)
    with zipfile.ZipFile(path) as plain:
        members = {info.filename: plain.read(info) for info in plain.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(content)
                for _ in range((3 << 10) if name.endswith("data/0") else 0):
                    member.write(chunk)


def claiming_safetensors(path: Path) -> None:
    """Write the header of a safetensors file that claims 4 TiB."""
    header = b'{"weight":{"dtype":"F32","shape":[1048576,1048576],"data_offsets":[0,4398046511104]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def claim_rows(folder: Path) -> None:
    """Write a series whose headers claim more than they hold."""
    for file in write_series(folder).iterdir():
        dataset = pydicom.dcmread(file)
        dataset.Rows = dataset.Columns = 65535
        dataset.save_as(file)


class Bomb(NamedTuple):
    """What a small file pretends.

    Attributes:
        what: it is, for the table.
        file: its name.
        write: makes it.
        kind: of `READERS`.
        long: whether it belongs to the long form alone, since writing it takes seconds.
    """

    what: str
    file: str
    write: Callable[[Path], object]
    kind: str = "scan"
    long: bool = False


def of(content: Callable[[], bytes]) -> Callable[[Path], object]:
    """Write the bytes that a function returns."""
    return lambda path: path.write_bytes(content())


BOMBS = [
    Bomb("NIfTI that claims 4 TiB", "a.nii", of(lambda: nifti_header(TERABYTES))),
    Bomb("compressed NIfTI that claims 4 TiB", "a.nii.gz", of(lambda: gzip.compress(nifti_header(TERABYTES)))),
    Bomb("NRRD that claims 4 TiB", "a.nrrd", of(lambda: nrrd_header(TERABYTES, "raw"))),
    Bomb("MetaImage that claims 4 TiB", "a.mha", of(lambda: meta_header(TERABYTES, b"", compressed=False))),
    Bomb("DICOM that claims 65535 x 65535", "series", claim_rows),
    Bomb("zip that claims 3 GiB", "claim.zip", small_claim_in_a_zip),
    Bomb("safetensors that claims 4 TiB", "a.safetensors", claiming_safetensors, "weights"),
    Bomb("NIfTI of 6 GiB of zeros", "b.nii.gz", of(lambda: gzip.compress(nifti_header(GIGABYTES)) + zeros(COUNT, 31))),
    Bomb("NRRD of 6 GiB of zeros", "b.nrrd", of(lambda: nrrd_header(GIGABYTES, "gzip") + zeros(COUNT, 31))),
    Bomb("MetaImage of 6 GiB of zeros", "b.mha", of(lambda: meta_header(GIGABYTES, zeros(COUNT, 15)))),
    Bomb("PNG that claims 2147483647 x 2147483647", "a.png", of(lambda: png(2**31 - 1, 2**31 - 1, 8, False, False))),
    Bomb("PNG of 6 GiB of zeros", "b.png", of(lambda: png(1 << 16, 3 << 15, 8, False, True))),
    Bomb("PNG of 16 bits and colours, 6 GiB of zeros", "c.png", of(lambda: png(1 << 15, 1 << 15, 16, True, True))),
    Bomb("TIFF that claims 4 TiB", "a.tif", of(lambda: tiff(1 << 21, 1, 8, b"", 1))),
    Bomb("TIFF of 6 GiB of zeros", "b.tif", of(lambda: tiff(77_824, 1, 8, zeros(COUNT, 15), 8))),
    Bomb("TIFF of 32 bits, 4 GiB of zeros", "c.tif", of(lambda: tiff(1 << 15, 1, 32, zeros(1 << 32, 15), 8))),
    Bomb(
        "TIFF of 100,000 pages that share their pixels", "d.tif", of(lambda: tiff(256, 100_000, 8, bytes(1 << 16), 1))
    ),
    Bomb("zip of 6 GiB of zeros", "a.zip", lambda path: zip_of_zeros(path, zipfile.ZIP_DEFLATED, 6), long=True),
    Bomb("zip (bzip2) of 6 GiB of zeros", "b.zip", lambda path: zip_of_zeros(path, zipfile.ZIP_BZIP2, 6), long=True),
    Bomb("deflated DICOM of 4 GiB of zeros", "a.dcm", deflated_dicom),
    Bomb("weights of 3 GiB of zeros", "a.pth", packed_weights, "weights", long=True),
    Bomb("checkpoint of 3 GiB of zeros", "a.ckpt", packed_weights, "checkpoint", long=True),
]


@pytest.mark.parametrize("bomb", [bomb for bomb in BOMBS if LONG or not bomb.long], ids=lambda bomb: bomb.what)
def test_a_bomb_is_refused_in_a_line_and_takes_little_memory(bomb: Bomb, tmp_path: Path) -> None:
    path = tmp_path / bomb.file
    bomb.write(path)
    grown, said = grown_and_said(path, bomb.kind)
    assert said
    assert "\n" not in said
    assert bomb.file in said
    assert grown < MOST_GROWTH
    size = sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path]))
    record(f"bomb {bomb.what}", {"bytes": size, "peak": grown})
