"""Pixels of DICOM slices, decoded and brought to their unit (HU for CT).

MONOCHROME1 says that low values are shown bright, not that they mean something else: values are the same either way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataelem import RawDataElement
from pydicom.pixels import get_decoder, iter_pixels

from fullscale.data.bounds import require_room
from fullscale.data.dicom.headers import Slice, quietly, read_dataset
from fullscale.data.dicom.jpeg_lossless import register
from fullscale.data.dicom.store import file_size
from fullscale.data.volume_files import smallest_integer_type
from fullscale.errors import DataError, UsageError


def read_planes(slices: Sequence[Slice]) -> npt.NDArray[Any]:
    """Read slices of one size, rescale slope and intercept applied slice by slice.

    Memory is that of the result, and one file more. It is `[column, row, slice]`: the smallest fitting integers, at
    least int16, where all values are whole, else float32.

    Raises:
        DataError: pixels cannot be decoded, or their unit is unknown.
    """
    register()
    places: dict[Path, list[int]] = {}
    for k, image in enumerate(slices):
        places.setdefault(image.path, []).append(k)
    shape = (len(slices), *slices[0].size)
    stored = sum(file_size(path) for path in places)
    require_room(math.prod(shape) * np.dtype(np.int16).itemsize, stored, f"the header of {slices[0].name}")
    array = np.zeros(shape, np.int16)
    for path, indices in places.items():
        planes = _planes_of(path, [slices[k] for k in indices])
        for k in indices:
            plane = quietly(path, next, planes)
            if plane.dtype != array.dtype:
                wider = np.promote_types(array.dtype, plane.dtype)
                array = array.astype(np.float32 if wider.kind == "f" else wider, copy=False)
            array[k] = plane
    return array.transpose(2, 1, 0)


def _planes_of(path: Path, slices: list[Slice]) -> Iterator[npt.NDArray[Any]]:
    """Read the planes `[row, column]` that one file holds."""
    dataset = read_dataset(path, stop_before_pixels=False)
    _require_decoder(dataset)
    stored = dataset.get_item("PixelData")
    if isinstance(stored, RawDataElement) and stored.VR is None and not stored.is_implicit_VR:
        raise DataError("cannot be read: its pixel data have no valid representation; is it damaged?")
    if "ModalityLUTSequence" in dataset:
        raise DataError("maps its values by a table (ModalityLUTSequence), expected rescale slope and intercept")
    if slices[0].frame is None:
        planes: Iterator[Any] = iter([dataset.pixel_array])
    else:
        planes = iter_pixels(dataset, indices=[s.frame for s in slices if s.frame is not None])
    for image, plane in zip(slices, planes, strict=True):
        if plane.shape != image.size:
            raise DataError(f"holds pixels of shape {plane.shape}, its header says {image.size}")
        yield _rescaled(_stored_bits(plane, dataset), image)


def _require_decoder(dataset: Any) -> None:
    """Refuse compressed pixels whose decoder comes with an extra that is not installed."""
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        lacks = syntax.is_encapsulated and not get_decoder(syntax).is_available
    except NotImplementedError:  # of what pydicom never decodes, decoding says more
        return
    if lacks:
        raise UsageError(f"its pixels are {syntax.name}, which need a decoder: pip install 'fullscale[dicom]'")


def _stored_bits(plane: npt.NDArray[Any], dataset: Any) -> npt.NDArray[Any]:
    """Clear the bits above those that hold the value, where old files keep overlays."""
    stored = int(dataset.get("BitsStored") or 0)
    spare = plane.dtype.itemsize * 8 - stored
    if plane.dtype.kind not in "iu" or not 0 < spare < plane.dtype.itemsize * 8:
        return plane
    shifted: npt.NDArray[Any] = (plane << spare) >> spare
    return shifted


def _rescaled(pixels: npt.NDArray[Any], image: Slice) -> npt.NDArray[Any]:
    slope, intercept = _rescale(image)
    if pixels.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer():
        values: npt.NDArray[Any] = pixels.astype(np.int64) * int(slope) + int(intercept)
        return values.astype(np.result_type(np.int16, smallest_integer_type(values)))
    scaled: npt.NDArray[Any] = (pixels.astype(np.float64) * slope + intercept).astype(np.float32)
    return scaled


def _rescale(image: Slice) -> tuple[float, float]:
    stored = [image.tags["RescaleSlope"], image.tags["RescaleIntercept"]]
    if image.modality == "CT" and None in stored:
        raise DataError("is CT without RescaleSlope and RescaleIntercept: its HU are unknown")
    slope, intercept = (default if v is None else float(v) for v, default in zip(stored, (1.0, 0.0), strict=True))
    if slope == 0 or not np.isfinite([slope, intercept]).all():
        raise DataError(f"has rescale slope {slope} and intercept {intercept}, expected numbers other than slope 0")
    return slope, intercept
