"""Damaged headers and bodies: read as another reader reads them, or refused in one line; no other error, and no hang.

The other reader of a volume file is a plain one, here, that knows offsets and lines of the format alone; that of DICOM
is GDCM. SimpleITK cannot serve: where it cannot unpack a volume file it returns memory that nobody wrote to.
"""

import gzip
import struct
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from fullscale.data.read import read_image
from fullscale.data.volume_files import write_volume
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume
from tests.dicom_slices import write_series
from tests.faults.scale import SCANS, SEED, record
from tests.volumes import make_volume, one_line_about

pytestmark = pytest.mark.faults

LONGEST_S = 30.0
HEADER = {"a.nii": 352, "a.nii.gz": 60, "a.nrrd": 330, "a.mha": 330}
"""Bytes that hold the header, about."""


def damage(content: bytes, header: int, random: np.random.Generator) -> bytes:
    """Change, cut, drop or repeat some bytes; every second time those of the header."""
    damaged = bytearray(content)
    end = min(header, len(content)) if random.random() < 0.5 else len(content)
    kind = random.integers(5)
    at = int(random.integers(end))
    if kind <= 1:
        for position in random.integers(0, end, int(random.integers(1, 5))):
            damaged[position] = int(random.integers(256))
    elif kind == 2:
        damaged[at] ^= 1 << int(random.integers(8))
    elif kind == 3:
        del damaged[at : at + int(random.integers(1, 40))]
    else:
        damaged = damaged[: at + 1] if random.random() < 0.5 else damaged[:at] + damaged[at // 2 : at] + damaged[at:]
    return bytes(damaged)


def plain_nifti(content: bytes) -> np.ndarray:
    """Read a NIfTI-1 by the offsets of its standard alone."""
    raw = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    order = "<" if raw[:4] == b"\x5c\x01\0\0" else ">"
    dims = struct.unpack(f"{order}8h", raw[40:56])
    (datatype,) = struct.unpack(f"{order}h", raw[70:72])
    offset, slope, inter = struct.unpack(f"{order}3f", raw[108:120])
    dtype = np.dtype({2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}[datatype])
    shape = [n for axis, n in enumerate(dims[1 : dims[0] + 1]) if axis < 3 or n != 1]
    values = np.frombuffer(raw, dtype.newbyteorder(order), int(np.prod(shape)), int(offset)).reshape(shape, order="F")
    return values if slope == 0 or not np.isfinite([slope, inter]).all() else values * float(slope) + float(inter)


def plain_nrrd(content: bytes) -> np.ndarray:
    """Read a NRRD by the lines of its header alone."""
    head, _, body = content.partition(b"\n\n")
    keys = dict(line.split(": ", 1) for line in head.decode("latin-1").splitlines() if ": " in line)
    raw = gzip.decompress(body) if keys["encoding"] == "gzip" else body
    dtype = {"short": "<i2", "int16": "<i2", "unsigned short": "<u2", "uint16": "<u2"}[keys["type"]]
    return np.frombuffer(raw, dtype).reshape([int(n) for n in keys["sizes"].split()], order="F")


def plain_meta(content: bytes) -> np.ndarray:
    """Read a MetaImage by the lines of its header alone."""
    head, _, body = content.partition(b"ElementDataFile = LOCAL\n")
    keys = dict(line.split(" = ", 1) for line in head.decode("latin-1").splitlines() if " = " in line)
    dtype = {"MET_SHORT": "<i2", "MET_USHORT": "<u2"}[keys["ElementType"]]
    return np.frombuffer(zlib.decompress(body), dtype).reshape([int(n) for n in keys["DimSize"].split()], order="F")


PLAIN = {"a.nii": plain_nifti, "a.nii.gz": plain_nifti, "a.nrrd": plain_nrrd, "a.mha": plain_meta}


def is_the_plain_reading(path: Path, volume: Volume, what: str) -> bool:
    """Compare with the plain reading of a file; False where that cannot make sense of it."""
    try:
        expected = PLAIN[path.name](path.read_bytes())
    except (KeyError, ValueError, struct.error, zlib.error, OSError):
        return False
    assert volume.shape == expected.shape, what
    with np.errstate(over="ignore", invalid="ignore"):
        np.testing.assert_allclose(
            volume.array.astype(np.float64), expected.astype(np.float32), rtol=1e-5, err_msg=what
        )
    return True


def is_gdcms_reading(folder: Path, volume: Volume, what: str) -> bool:
    """Compare with the series as GDCM reads it, slice by slice; False where it reads none."""
    try:
        image = sitk.ReadImage([str(folder / file.name) for file in volume.header.files])
    except RuntimeError:
        return False
    assert image.GetSize() == volume.shape, what
    np.testing.assert_allclose(volume.array, sitk.GetArrayFromImage(image).T, rtol=1e-5, err_msg=what)
    return True


def fuzz(tmp_path: Path, names: list[str], count: int, seed: int) -> Counter[str]:
    """Damage each file `count` times; return how many were read and refused."""
    outcomes: Counter[str] = Counter()
    for name in names:
        path = tmp_path / name
        number = list(HEADER).index(name)
        write_volume(path, make_volume(low=0, high=300))
        whole = path.read_bytes()
        for n in range(count):
            random = np.random.default_rng([seed, number, n])
            path.write_bytes(damage(whole, HEADER[name], random))
            outcomes[read_or_refused(path, f"{name} {n}", is_the_plain_reading)] += 1
    return outcomes


def fuzz_dicom(tmp_path: Path, count: int, seed: int) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    folder = write_series(tmp_path / "scan", slices=range(3))
    victim = sorted(folder.iterdir())[1]
    uid = pydicom.dcmread(victim).SOPInstanceUID.encode()
    whole = victim.read_bytes().replace(uid, b"1.2.3".ljust(len(uid), b"4"))  # the same bytes wherever tests run
    for n in range(count):
        random = np.random.default_rng([seed, 9, n])
        victim.write_bytes(damage(whole, len(whole) - 24, random))
        outcomes[read_or_refused(folder, f"dicom {n}", is_gdcms_reading)] += 1
    return outcomes


def read_or_refused(source: Path, what: str, compare: Callable[[Path, Volume, str], bool]) -> str:
    """Read what was damaged; return whether it was refused, read and compared, or read where no other reader does."""
    started, caught, volume = time.perf_counter(), None, None
    try:
        volume = read_image(source)
    except DataError as error:
        caught = error
    assert time.perf_counter() - started < LONGEST_S, what
    if volume is not None:
        return "read" if compare(source, volume, what) else "read alone"
    assert caught is not None
    assert one_line_about(caught, source), what
    assert len(str(caught)) < 900, what
    return "refused"


def fuzz_zip(tmp_path: Path, count: int, seed: int) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    folder, archive = write_series(tmp_path / "slices", slices=range(3)), tmp_path / "scan.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(folder.iterdir()):
            packed.write(file, file.name)
    whole = archive.read_bytes()
    for n in range(count):
        random = np.random.default_rng([seed, 10, n])
        archive.write_bytes(damage(whole, len(whole), random))
        outcomes[read_or_refused(archive, f"zip {n}", partial(is_the_packed_series, read_image(folder)))] += 1
    return outcomes


def is_the_packed_series(packed: Volume, source: Path, volume: Volume, what: str) -> bool:
    """Compare with what was packed: a member has a checksum, so that it is read whole or not at all."""
    del source
    assert volume.shape == packed.shape, what
    np.testing.assert_array_equal(volume.array, packed.array, err_msg=what)
    return True


@pytest.mark.parametrize("kind", [*HEADER, "dicom", "zip"])
def test_damaged_scans_are_read_as_another_reader_reads_them_or_refused(kind: str, tmp_path: Path):
    others = {"dicom": fuzz_dicom, "zip": fuzz_zip}
    outcomes = others[kind](tmp_path, SCANS, SEED) if kind in others else fuzz(tmp_path, [kind], SCANS, SEED)
    assert outcomes.total() == SCANS
    assert outcomes["refused"]
    record(f"scan {kind}", outcomes)
