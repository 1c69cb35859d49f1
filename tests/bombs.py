"""Small files that claim to be, or become, very large ones; and what reading them costs."""

import subprocess
import sys
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np

READERS = {
    "scan": "import SimpleITK, nibabel, pydicom; from fullscale.data.read import read_image as read",
    "weights": "from fullscale.networks.state_dicts import read_state_dict as read",
    "checkpoint": "from fullscale.training.checkpoints import read_checkpoint as read",
}
"""What reads a file, by its kind; libraries that it would load then are loaded before."""
PEAK = """
import resource, sys
from pathlib import Path
from fullscale.errors import DataError
{imports}
said, before = "", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read(Path(sys.argv[1]))
except DataError as error:
    said = str(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, said)
"""


def grown_and_said(path: Path, kind: str = "scan") -> tuple[int, str]:
    """Read a file in a process of its own; return by how many bytes that grew, and how it refused the file."""
    code = PEAK.replace("{imports}", READERS[kind])
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=120, check=True)
    grown_kib, _, said = done.stdout.removesuffix("\n").partition(" ")
    return int(grown_kib) << 10, said


def refused(path: Path) -> str:
    """What is said when a scan is read by a process of its own, which may grow by no more than 64 MiB."""
    grown, said = grown_and_said(path)
    assert grown < 64 << 20
    assert "\n" not in said
    assert str(path) in said
    return said


def zeros(count: int, window_bits: int) -> bytes:
    """Compress zeros without holding them: after a full flush equal input gives equal output."""
    packer, chunk = zlib.compressobj(9, zlib.DEFLATED, window_bits), bytes(1 << 20)
    first, further = (packer.compress(chunk) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + further * ((count >> 20) - 1) + packer.flush()


def nifti_header(shape: tuple[int, ...]) -> bytes:
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.uint8)
    header.set_sform(np.eye(4), 1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    return header.binaryblock + bytes(4)


def meta_header(shape: tuple[int, ...], body: bytes, compressed: bool = True) -> bytes:
    size = " ".join(map(str, shape))
    lines = ["ObjectType = Image", "NDims = 3", "BinaryData = True", "BinaryDataByteOrderMSB = False"]
    lines += [f"CompressedData = {compressed}", *([f"CompressedDataSize = {len(body)}"] if compressed else [])]
    lines += ["TransformMatrix = 1 0 0 0 1 0 0 0 1", "Offset = 0 0 0", "ElementSpacing = 1 1 1", f"DimSize = {size}"]
    return "\n".join([*lines, "ElementType = MET_UCHAR", "ElementDataFile = LOCAL\n"]).encode() + body


def nrrd_header(shape: tuple[int, ...], encoding: str) -> bytes:
    size = " ".join(map(str, shape))
    lines = ["NRRD0004", "type: uint8", "dimension: 3", "space: left-posterior-superior", f"sizes: {size}"]
    lines += ["space directions: (1,0,0) (0,1,0) (0,0,1)", "endian: little", f"encoding: {encoding}"]
    return ("\n".join([*lines, "space origin: (0,0,0)"]) + "\n\n").encode()
