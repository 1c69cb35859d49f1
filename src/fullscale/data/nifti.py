"""NIfTI files through nibabel: one 3D volume, its place, and a mask written on its header."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip
from nibabel.arrayproxy import ArrayProxy
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError

from fullscale.data.bounds import MOST_TRAILING, require_room
from fullscale.errors import DataError, GeometryError
from fullscale.geometry.volume import Affine, Volume, describe_mismatch

HEADER_ERRORS = (ValueError, HeaderDataError)
"""What nibabel raises for a header that it cannot use."""

_HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_MAGIC = {348: b"n+1", 540: b"n+2"}
_LONGEST_HEADER = 64 << 20
"""Where voxels may begin: extensions hold text, not scans."""
_ROUNDED_QUATERNION = 1e-3
"""How far beyond 1 the squared length of (b, c, d) may be by rounding; NIfTI's own library has no limit at all."""
_TOLD_QUATERNION = 1e-5


def read_nifti(path: Path) -> Volume:
    """Read the one 3D volume of a file; see `read_volume`."""
    header, array, notes = _read(path, three_dimensions)
    return Volume(array, header.get_best_affine(), header, notes)


def read_nifti_frames(path: Path, frames: int | None) -> list[Volume]:
    """Read the volumes that lie along the fourth axis of a file.

    Args:
        path: of the file.
        frames: how many there must be; None where any number will do, one too.

    Raises:
        DataError: there is another number of them.
    """

    def four_dimensions(shape: tuple[int, ...]) -> tuple[int, ...]:
        if frames is None:
            return shape if len(shape) == 4 and shape[3] > 1 else (*three_dimensions(shape), 1)
        if len(shape) != 4 or shape[3] != frames:
            raise DataError(f"has shape {shape}, expected {frames} channels along a fourth axis")
        return shape

    header, array, notes = _read(path, four_dimensions)
    header.set_data_shape(array.shape[:3])
    return [Volume(array[..., k], header.get_best_affine(), header, notes) for k in range(array.shape[3])]


def _read(
    path: Path, choose_shape: Callable[[tuple[int, ...]], tuple[int, ...]]
) -> tuple[Any, npt.NDArray[Any], tuple[str, ...]]:
    with _uncompressed(path) as stream, LoggingOutputSuppressor():
        header = _read_header(stream)
        notes = _mend_place(header)
        shape = choose_shape(header.get_data_shape())
        array = _voxels(stream, header, path.stat().st_size).reshape(shape, order="F")
        _read_to_the_end(stream)
        return header, array, tuple(notes)


@contextlib.contextmanager
def _uncompressed(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, through gzip where its first bytes say so, whatever its name."""
    with path.open("rb") as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not compressed:
            yield raw
            return
        with igzip.IGzipFile(fileobj=raw) as stream:  # twice as fast as zlib
            yield cast(BinaryIO, stream)


def _read_header(stream: BinaryIO) -> Any:
    start = stream.read(4)
    sizes = (int.from_bytes(start, "little"), int.from_bytes(start, "big"))
    size = next((size for size in sizes if size in _HEADERS), None)
    if size is None:
        raise DataError(f"is not a NIfTI file (it begins with {start!r}, not with a header size of 348 or 540)")
    unchecked = _HEADERS[size](start + stream.read(size - 4), check=False)
    magic = unchecked["magic"].item()
    if magic in (b"ni1", b"ni2"):
        raise DataError("is the header of a pair (.hdr and .img), expected one file; convert it to .nii.gz")
    if magic != _MAGIC[size]:
        raise DataError(f"is not a NIfTI file (its magic is {magic!r}, not {_MAGIC[size]!r})")
    if int(unchecked["sform_code"]) <= 0 and not (np.abs(unchecked["pixdim"][1:4]) > 0).all():
        raise GeometryError(f"states voxels of {unchecked['pixdim'][1:4].tolist()} mm; no size is invented")
    offset = float(unchecked["vox_offset"])
    if not 0 <= offset <= _LONGEST_HEADER:
        raise DataError(f"states that its voxels begin at byte {offset:g}, expected one behind its header")
    stream.seek(0)
    return _HEADERS[size].from_fileobj(stream)


def _voxels(stream: BinaryIO, header: Any, stored: int) -> npt.NDArray[Any]:
    """Read integers as they are where they have no scaling, else float32."""
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise DataError(f"holds voxels of type {header.get_value_label('datatype')}, expected plain numbers")
    proxy = ArrayProxy(stream, header)
    plain = dtype.kind in "iu" and (proxy.slope, proxy.inter) == (1.0, 0.0)
    count = math.prod(header.get_data_shape())
    require_room(count * (dtype.itemsize + (0 if plain else 4)), stored, "its header")
    if plain:
        unscaled = proxy.get_unscaled()
        unscaled = np.array(unscaled, order="F") if isinstance(unscaled, np.memmap) else np.asfortranarray(unscaled)
        return unscaled.astype(unscaled.dtype.newbyteorder("="), copy=False)
    return np.array(np.asarray(proxy, dtype=np.float32), order="F")


def _read_to_the_end(stream: BinaryIO) -> None:
    """Read what follows the voxels: a compressed file is only known to be whole once its checksum is reached."""
    rest = 0
    while chunk := stream.read(1 << 20):
        rest += len(chunk)
        if rest > MOST_TRAILING:
            raise DataError(f"goes on for more than {MOST_TRAILING >> 20} MiB behind the voxels that its header states")


def _mend_place(header: Any) -> list[str]:
    """Make a header say in one way where its voxels lie, and tell what else it said.

    The sform counts where both are there, as in nibabel and FSL; the qform where the sform is flat.

    Raises:
        GeometryError: neither counts, or the unit is not mm.
    """
    codes = {name: int(header[f"{name}_code"]) for name in ("qform", "sform")}
    if not any(code > 0 for code in codes.values()):
        raise GeometryError(
            "does not say where its voxels lie (qform_code and sform_code are both 0); "
            "write it again with its affine and a code, no affine is invented"
        )
    unit = header.get_xyzt_units()[0]
    if unit not in ("mm", "unknown"):
        raise GeometryError(f"stores positions in {unit}, expected mm; write it again in mm")
    notes = _mend_quaternion(header) if codes["qform"] > 0 else []
    if codes["sform"] > 0 and codes["qform"] > 0:
        notes += _choose_form(header, codes)
    return notes


def _mend_quaternion(header: Any) -> list[str]:
    """Bring a quaternion that rounding made longer than 1 back to 1, as NIfTI's own library does."""
    names = ("quatern_b", "quatern_c", "quatern_d")
    squared = sum(float(header[name]) ** 2 for name in names)
    if not 1 + 1e-7 < squared <= 1 + _ROUNDED_QUATERNION:
        return []
    for name in names:
        header[name] = float(header[name]) / math.sqrt(squared)
    if squared <= 1 + _TOLD_QUATERNION * 1.5:
        return []
    return [f"its quaternion has a squared length of {squared:.6g}, taken as rounding of 1"]


def _choose_form(header: Any, codes: dict[str, int]) -> list[str]:
    """Say which of sform and qform is used, where they do not agree; a flat sform is taken out of the header."""
    sform = header.get_sform()
    flat = not np.isfinite(sform).all() or abs(np.linalg.det(sform[:3, :3])) < 1e-12
    try:
        qform = header.get_qform()
    except HEADER_ERRORS:
        return [] if flat else [f"sform (code {codes['sform']}) is used; the qform is no rotation"]
    if flat:
        header["sform_code"] = 0
        return [f"the sform (code {codes['sform']}) is flat or not finite; the qform (code {codes['qform']}) is used"]
    try:
        nothing = np.broadcast_to(np.uint8(0), three_dimensions(header.get_data_shape()))
        mismatch = describe_mismatch(Volume(nothing, sform), Volume(nothing, qform))
    except GeometryError:
        return [f"sform (code {codes['sform']}) is used; the qform (code {codes['qform']}) is flat"]
    if mismatch is None:
        return []
    return [
        f"sform (code {codes['sform']}) is used, qform (code {codes['qform']}) would place it otherwise: {mismatch}"
    ]


def three_dimensions(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without single axes beyond the third.

    Raises:
        DataError: more than one or fewer than three dimensions are left.
    """
    squeezed = shape
    while len(squeezed) > 3 and squeezed[-1] == 1:
        squeezed = squeezed[:-1]
    if len(squeezed) != 3:
        remedy = "split it, one file a channel or time point" if len(squeezed) > 3 else "give a whole scan"
        raise DataError(f"shape {shape} has {len(squeezed)} dimensions, expected one 3D scan; {remedy}")
    return squeezed


def stored_step(volume: Volume) -> float | None:
    """Return the step between the values that a volume's file can hold, where it holds scaled integers; else None."""
    header = volume.header
    if not isinstance(header, nib.Nifti1Header) or header.get_data_dtype().kind not in "iu":
        return None
    slope, _ = header.get_slope_inter()
    return None if slope is None else abs(float(slope))


def save_nifti(path: Path, volume: Volume, description: str | None) -> None:
    """Write a volume, on the NIfTI header it was read with where it has one; see `write_volume`."""
    header = volume.header if isinstance(volume.header, nib.Nifti1Header) else None
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    image = kind(volume.array, volume.affine, header)
    image.set_data_dtype(volume.array.dtype)
    image.header["cal_min"] = image.header["cal_max"] = 0
    if header is None or not np.allclose(header.get_best_affine(), volume.affine, rtol=0, atol=1e-6):
        image.set_sform(volume.affine, code=1)
        image.set_qform(volume.affine, code=int(_is_orthogonal(volume.affine)))
    if header is None:
        image.header.set_xyzt_units("mm")
    if description is not None:
        image.header["descrip"] = description.encode("ascii", "replace")[:79]
    nib.save(image, path)


def _is_orthogonal(affine: Affine) -> bool:
    """Tell whether a quaternion (qform) can express an affine: its axes are at right angles."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.allclose(axes.T @ axes, np.eye(3), atol=1e-6))
