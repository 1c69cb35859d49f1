"""The PNG masks of CHAOS, one for each DICOM slice."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fullscale.data.dicom.series import DicomHeader
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume
from fullscale.text import one_line


def read_png_stack(folder: str | Path, like: Volume) -> Volume:
    """Read the PNG masks of CHAOS: the i-th PNG by name belongs to the i-th DICOM file by name.

    Args:
        folder: one black and white PNG for each slice.
        like: the volume, or the grid, that was read from those DICOM files.

    Returns:
        A mask of 0 and 1, uint8, on the grid of `like`.

    Raises:
        DataError: the counts differ, or a PNG is unreadable, of another size, or holds more than 0 and 255 (or 0, 1).
    """
    folder = Path(folder)
    if not isinstance(like.header, DicomHeader):
        raise DataError(f"{folder}: PNG masks belong to a DICOM series, but the image was not read from one")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of PNG masks")
    masks = png_masks(folder)
    files = like.header.files
    if len(masks) != len(files):
        raise DataError(f"{folder}: holds {len(masks)} PNG masks for {len(files)} DICOM slices, expected one for each")
    array = np.zeros(like.shape, np.uint8)
    slice_by_name = sorted(range(len(files)), key=lambda k: name_order(files[k]))
    for path, k in zip(sorted(masks, key=name_order), slice_by_name, strict=True):
        array[:, :, k] = _read_png(path, (like.shape[1], like.shape[0]))
    return like.with_array(array)


def png_masks(folder: Path) -> list[Path]:
    """List the PNG files of a folder, hidden ones left out."""
    return [f for f in folder.iterdir() if f.suffix.lower() == ".png" and not f.name.startswith(".")]


def name_order(path: Path) -> list[Any]:
    """Order names as people count: `slice_2` before `slice_10`."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", path.name)]


def _read_png(path: Path, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Read one mask of `size` (rows, columns) as `[column, row]`."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image)
    except Exception as error:
        raise DataError(f"{path}: cannot be read as PNG ({one_line(error)})") from error
    if pixels.shape != size:
        raise DataError(f"{path}: has shape {pixels.shape}, its DICOM slice {size} (rows, columns)")
    inside: npt.NDArray[np.bool_] = pixels != 0
    values = np.unique(pixels[inside]).tolist()
    if values not in ([], [1], [255]):
        raise DataError(f"{path}: holds the values {values[:5]} besides 0, expected a mask of 0 and 255")
    return inside.T.astype(np.uint8)
