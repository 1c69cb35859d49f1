"""Pixels of a DICOM image, decoded and brought to their unit (HU for CT)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from fullscale.data.nifti import smallest_integer_type
from fullscale.errors import DataError


def read_plane(path: Path, size: tuple[int, int], modality: str) -> npt.NDArray[Any]:
    """Read one slice `[row, column]` with its rescale slope and intercept applied."""
    dataset = pydicom.dcmread(path)
    if "ModalityLUTSequence" in dataset:
        raise DataError("maps its values by a table (ModalityLUTSequence), expected rescale slope and intercept")
    pixels = dataset.pixel_array
    if pixels.shape != size:
        raise DataError(f"holds pixels of shape {pixels.shape}, its header says {size}")
    slope, intercept = _rescale(dataset, modality)
    if pixels.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer():
        values: npt.NDArray[Any] = pixels.astype(np.int64) * int(slope) + int(intercept)
        return values.astype(np.result_type(np.int16, smallest_integer_type(values)))
    scaled: npt.NDArray[Any] = (pixels.astype(np.float64) * slope + intercept).astype(np.float32)
    return scaled


def _rescale(dataset: Any, modality: str) -> tuple[float, float]:
    stored = [dataset.get(name) for name in ("RescaleSlope", "RescaleIntercept")]
    if modality == "CT" and None in stored:
        raise DataError("is CT without RescaleSlope and RescaleIntercept: its HU are unknown")
    slope, intercept = (default if v is None else float(v) for v, default in zip(stored, (1.0, 0.0), strict=True))
    if slope == 0 or not np.isfinite([slope, intercept]).all():
        raise DataError(f"has rescale slope {slope} and intercept {intercept}, expected numbers other than slope 0")
    return slope, intercept
