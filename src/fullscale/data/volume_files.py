"""Volumes in files: one door for NIfTI, NRRD, MetaImage, and 2D images as volumes of one slice.

Inside, every affine is RAS+ mm and every array `[X, Y, Z]` in stored order, whatever the format's own convention.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.data.image_files import PICTURES, holds_colours, read_colours, read_grey, write_picture
from fullscale.data.nifti import HEADER_ERRORS, read_nifti, read_nifti_frames, save_nifti
from fullscale.errors import DataError, FullscaleError, OutputError
from fullscale.files import atomic_path
from fullscale.geometry.volume import Volume
from fullscale.text import one_line

NIFTI_SUFFIXES = (".nii.gz", ".nii")
SUFFIXES = (*NIFTI_SUFFIXES, ".nrrd", ".nhdr", ".mha", ".mhd", ".seg.nrrd", *PICTURES)
"""The file types of a volume, in lower case; an image is one of a slice."""

_PAIR_SUFFIXES = (".nhdr", ".mhd")
_STORED_TYPES = (np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)


def volume_suffix(path: str | Path) -> str | None:
    """Return the suffix of a volume file (`".nii.gz"`, lower case), or None where it is no volume file."""
    name = Path(path).name.lower()
    return max((suffix for suffix in SUFFIXES if name.endswith(suffix) and name != suffix), key=len, default=None)


def volume_stem(path: str | Path) -> str:
    """Return the file name without its volume suffix: `case_1` for `case_1.nii.gz`."""
    name = Path(path).name
    return name[: len(name) - len(volume_suffix(path) or "")]


def read_volume(path: str | Path) -> Volume:
    """Read one volume from a NIfTI, NRRD or MetaImage file, or from an image of grey values.

    Args:
        path: a file ending in one of `SUFFIXES`.

    Returns:
        Voxels `[X, Y, Z]` in stored order: the file's integers where it has no scaling, else float32 with slope and
        intercept applied; NaN and infinity are kept. The affine is RAS+ mm. `header` lets `write_volume` write a
        mask on the same NIfTI header; `notes` say which of a NIfTI's sform and qform is used where they disagree.

    Raises:
        DataError: the file is missing, empty, cut short, damaged, of another kind, not 3D, or larger than its bytes
            or this machine's memory allow.
        GeometryError: the file does not say where its voxels lie (a NIfTI whose qform and sform codes are both 0, a
            NRRD without `space`, a MetaImage without orientation, origin or spacing): no affine is invented. An image
            without the size of its pixels lies in pixels, see `Volume.unit`.
    """
    path = Path(path)
    suffix = _suffix_of_file(path)
    if suffix in PICTURES:
        return read_grey(path)
    with _naming(path, suffix):
        volume = read_nifti(path) if suffix in NIFTI_SUFFIXES else _read_itk(path)
        if volume.array.size == 0:
            raise DataError(f"has shape {volume.shape}, it holds no voxels")
        return volume


def read_frames(path: str | Path, frames: int) -> list[Volume]:
    """Read the channels that one file holds: along the fourth axis of a NIfTI, or the colours of an image.

    Raises:
        DataError: see `read_volume`; or there is another number of them, or the file is neither.
        GeometryError: see `read_volume`.
    """
    path = Path(path)
    suffix = _suffix_of_file(path)
    if suffix in PICTURES:
        colours = read_colours(path)
        if len(colours) != frames:
            raise DataError(f"{path}: has {len(colours)} colours, expected {frames} channels")
        return colours
    if suffix not in NIFTI_SUFFIXES:
        raise DataError(
            f"{path}: several channels in one file are read from NIfTI and from images only; write one file a channel"
        )
    with _naming(path, suffix):
        return read_nifti_frames(path, frames)


def read_every_frame(path: str | Path) -> list[Volume]:
    """Read all channels that one file holds, however many: one, those of a fourth axis, or the colours of an image.

    Raises:
        DataError: see `read_volume`.
        GeometryError: see `read_volume`.
    """
    path = Path(path)
    suffix = _suffix_of_file(path)
    if suffix in NIFTI_SUFFIXES:
        with _naming(path, suffix):
            return read_nifti_frames(path, None)
    return read_colours(path) if holds_colours(path) else [read_volume(path)]


@contextmanager
def _naming(path: Path, suffix: str) -> Iterator[None]:
    """Let whatever is wrong with a file name it."""
    _require_file(path)
    try:
        yield
    except FullscaleError as error:
        raise type(error)(f"{path}: {error}") from error
    except Exception as error:
        raise DataError(f"{path}: cannot be read ({one_line(error)}); is the file whole and a {suffix}?") from error


def write_volume(
    path: str | Path,
    volume: Volume,
    description: str | None = None,
    *,
    keep_type: bool = False,
    compress: bool = True,
) -> None:
    """Write a volume on its own grid, in the format of the suffix.

    NIfTI to NIfTI keeps the header that was read (qform and sform codes, units, description). Integers are stored as
    the smallest type that holds them, unscaled (slope 1). The file is written beside its place and renamed, so a
    half-written one is never seen and what was there before stays until then.

    Args:
        path: where to, ending in .nii.gz, .nii, .nrrd, .mha, .png or .tif; missing folders are made.
        volume: voxels `[X, Y, Z]`, affine RAS+ mm.
        description: what the header shall say of the file (`descrip` of NIfTI, cut at 79 letters; a comment in NRRD).
        keep_type: store voxels as the type that they are, for a reader that expects it.
        compress: NRRD and MetaImage; NIfTI is compressed where its name ends in .gz, pictures always.

    Raises:
        DataError: the suffix is none of these, or the voxels are no plain numbers.
        OutputError: writing failed (disk full, no permission).
    """
    path = Path(path)
    suffix = _require_suffix(path)
    if suffix in _PAIR_SUFFIXES:
        raise DataError(f"{path}: a {suffix} file is two files that cannot be replaced at once; write .mha or .nrrd")
    if not keep_type:
        volume = volume.with_array(_storable(volume.array, path))
    if suffix in PICTURES:
        write_picture(path, volume)
        return
    save = save_nifti if suffix in NIFTI_SUFFIXES else partial(_save_itk, compress=compress)
    with atomic_path(path) as temporary:
        try:
            save(temporary, volume, description)
        except (RuntimeError, *HEADER_ERRORS) as error:
            raise OutputError(f"cannot write {path}: {one_line(error)}") from error


def _read_itk(path: Path) -> Volume:
    from fullscale.data.itk_files import read_itk  # of an extra, which NIfTI does without

    return read_itk(path)


def _save_itk(path: Path, volume: Volume, description: str | None, compress: bool) -> None:
    from fullscale.data.itk_files import save_itk

    save_itk(path, volume, description, compress)


def _suffix_of_file(path: Path) -> str:
    """Return the suffix of a file that is to be read."""
    if volume_suffix(path) is None and not path.exists():
        raise DataError(f"{path}: no such file or folder")
    return _require_suffix(path)


def _require_suffix(path: Path) -> str:
    suffix = volume_suffix(path)
    if suffix is None:
        known = ", ".join(SUFFIXES)
        raise DataError(f"{path}: '{path.suffix}' is not a volume file; use one of {known}, or a DICOM folder")
    return suffix


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise DataError(f"{path}: is a folder, expected a file")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: is empty (0 bytes)")


def _storable(array: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    if array.dtype.kind not in "biuf" or array.size == 0:
        raise DataError(f"{path}: voxels of type {array.dtype} and shape {array.shape} cannot be stored")
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind == "f":
        return array.astype(np.float64 if array.dtype.itemsize >= 8 else np.float32, copy=False)
    return array.astype(smallest_integer_type(array), copy=False)


def smallest_integer_type(array: npt.NDArray[Any]) -> np.dtype[Any]:
    """Return the smallest integer type that holds every value of an array of integers or whole floats."""
    low, high = array.min(), array.max()
    fitting = (t for t in _STORED_TYPES if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
    return np.dtype(next(fitting, np.int64))
