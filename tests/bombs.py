"""Small files that claim to be, or become, very large ones; and what reading them costs."""

import ast
import atexit
import struct
import subprocess
import sys
import zlib
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np

READERS = {
    "scan": "import SimpleITK, nibabel, pydicom, PIL, tifffile; from fullscale.data.read import read_image as read",
    "weights": "from fullscale.networks.state_dicts import read_state_dict as read",
    "checkpoint": "from fullscale.training.checkpoints import read_checkpoint as read",
}
"""What reads a file, by its kind; libraries that it would load then are loaded before."""
SERVER = """
import os, sys
from pathlib import Path
from fullscale.errors import DataError
{imports}

def peak_kib():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

def tell(path):
    said = ""
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = peak_kib()
    try:
        read(path)
    except DataError as error:
        said = str(error)
    print(peak_kib() - before, ascii(said), flush=True)

for line in sys.stdin:
    process = os.fork()
    if process == 0:
        tell(Path(line.removesuffix("\\n")))
        os._exit(0)
    if os.waitpid(process, 0)[1] != 0:
        print(0, ascii("the process that read it was ended"), flush=True)
"""
"""A process that has loaded a reader and reads each file in a copy of itself: loading takes seconds."""


@cache
def _server(kind: str) -> subprocess.Popen[str]:
    code = SERVER.replace("{imports}", READERS[kind])
    server = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(server.communicate)
    return server


def grown_and_said(path: Path, kind: str = "scan") -> tuple[int, str]:
    """Read a file in a process of its own; return by how many bytes that grew, and how it refused the file."""
    server = _server(kind)
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(f"{path}\n")
    server.stdin.flush()
    grown_kib, _, said = server.stdout.readline().partition(" ")
    return int(grown_kib) << 10, ast.literal_eval(said)


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


def png(width: int, height: int, bits: int, colours: bool, filled: bool) -> bytes:
    """Write a PNG of zeros by its standard; one that is not filled has no pixels behind its header."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    row = 1 + width * bits * (3 if colours else 1) // 8
    body = zeros(row * height, 15) if filled else zlib.compress(b"")
    header = struct.pack(">IIBBBBB", width, height, bits, 2 if colours else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def tiff(side: int, pages: int, bits: int, body: bytes, compression: int) -> bytes:
    """Write a TIFF of square grey pages by its standard, all of which share one strip of pixels."""
    fields = 10
    first = 8 + len(body)
    size = 2 + fields * 12 + 4
    directories = []
    for page in range(pages):
        entries = [(256, 4, side), (257, 4, side), (258, 3, bits), (259, 3, compression), (262, 3, 1), (273, 4, 8)]
        entries += [(277, 3, 1), (278, 4, side), (279, 4, len(body)), (339, 3, 1)]
        packed = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
        after = first + (page + 1) * size if page + 1 < pages else 0
        directories.append(struct.pack("<H", fields) + packed + struct.pack("<I", after))
    return b"II*\0" + struct.pack("<I", first) + body + b"".join(directories)


def nrrd_header(shape: tuple[int, ...], encoding: str) -> bytes:
    size = " ".join(map(str, shape))
    lines = ["NRRD0004", "type: uint8", "dimension: 3", "space: left-posterior-superior", f"sizes: {size}"]
    lines += ["space directions: (1,0,0) (0,1,0) (0,0,1)", "endian: little", f"encoding: {encoding}"]
    return ("\n".join([*lines, "space origin: (0,0,0)"]) + "\n\n").encode()
