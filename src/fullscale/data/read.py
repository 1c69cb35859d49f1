"""One door for every scan and every mask: a volume file, a DICOM folder, or the PNG masks of CHAOS."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fullscale.data.dicom.headers import is_dicom_file, is_seg
from fullscale.data.dicom.seg import read_seg
from fullscale.data.dicom.series import DicomHeader, read_series, read_series_grid
from fullscale.data.dicom.stack import DicomReadOptions
from fullscale.data.dicom.store import is_zip
from fullscale.data.volume_files import read_volume, smallest_integer_type, volume_stem, volume_suffix
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume
from fullscale.text import one_line

SEG_SUFFIXES = (".dcm", ".dicom")
"""The file types of a DICOM SEG among label maps, in lower case."""


def read_image(path: str | Path, options: DicomReadOptions | None = None) -> Volume:
    """Read a scan from a volume file, or from a DICOM study: a folder or a zip.

    Args:
        path: a volume file, a folder of DICOM slices or of series, a zip of them, or one DICOM file.
        options: which series, and which remedies; they concern DICOM alone.

    Returns:
        Voxels `[X, Y, Z]`, CT in HU; affine RAS+ mm.

    Raises:
        DataError: the path is missing or cannot be read; see `read_volume` and `read_series`.
    """
    path = Path(path)
    return read_series(path, options) if _is_study(path) else read_volume(path)


def read_label(path: str | Path, image_path: str | Path) -> Volume:
    """Read a label map from a volume file, from a DICOM SEG, or from a folder of PNG masks beside a DICOM folder.

    Args:
        path: the label map.
        image_path: the scan it belongs to, or a mask on its grid; a PNG folder and a DICOM SEG, which may store a few
            slices only, take their grid from there. A DICOM SEG that is its own image lies on its own grid.

    Returns:
        Integers `[X, Y, Z]`, 0 for background, whatever number type the file has. That it lies on the scan's grid is
        not checked here.

    Raises:
        DataError: the path is missing or cannot be read, or holds values that are no whole numbers.
    """
    path = Path(path)
    if path.is_dir():
        return read_png_stack(path, read_series_grid(image_path))
    if path.suffix.lower() in SEG_SUFFIXES:
        return read_seg(path, None if path == Path(image_path) else _read_grid(Path(image_path)))
    label = read_volume(path)
    if label.array.dtype.kind in "iu":
        return label
    broken = label.array != np.rint(label.array)
    broken |= ~np.isfinite(label.array)
    if broken.any():
        values = ", ".join(f"{v:.6g}" for v in np.unique(label.array[broken])[:5])
        raise DataError(f"{path}: labels are whole numbers, found {values} in {int(broken.sum())} voxels")
    return label.with_array(label.array.astype(smallest_integer_type(label.array)))


def label_name(path: str | Path) -> str | None:
    """Return the name of the case that a file may be the label map of: `case_1` for `case_1.nii.gz` or a SEG `.dcm`."""
    path = Path(path)
    if volume_suffix(path):
        return volume_stem(path)
    return path.stem if path.suffix.lower() in SEG_SUFFIXES and is_seg(path) else None


def _read_grid(image: Path) -> Volume:
    return read_series_grid(image) if _is_study(image) else read_volume(image)


def _is_study(path: Path) -> bool:
    """Tell a DICOM study, be it a folder, a zip or one multi-frame file, from a volume file."""
    return path.is_dir() or is_zip(path) or (volume_suffix(path) is None and is_dicom_file(path))


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
    masks = [f for f in folder.iterdir() if f.suffix.lower() == ".png" and not f.name.startswith(".")]
    files = like.header.files
    if len(masks) != len(files):
        raise DataError(f"{folder}: holds {len(masks)} PNG masks for {len(files)} DICOM slices, expected one for each")
    array = np.zeros(like.shape, np.uint8)
    slice_by_name = sorted(range(len(files)), key=lambda k: _name_order(files[k]))
    for path, k in zip(sorted(masks, key=_name_order), slice_by_name, strict=True):
        array[:, :, k] = _read_png(path, (like.shape[1], like.shape[0]))
    return like.with_array(array)


def _name_order(path: Path) -> list[Any]:
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
