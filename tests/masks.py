"""Masks of a small cube, on the disk and in summaries."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.data.volume_files import write_volume
from fullscale.geometry.volume import Volume
from fullscale.scoring.summary import Summary

AFFINE = np.diag([1.0, 1.0, 2.5, 1.0])
SHAPE = (12, 10, 8)
DIAGONAL = float(np.linalg.norm([12, 10, 20]))


def cube(start: int = 2, label: int = 1, size: int = 4) -> npt.NDArray[np.uint8]:
    array = np.zeros(SHAPE, dtype=np.uint8)
    array[start : start + size, 2:6, 2:6] = label
    return array


def write_mask(path: Path, array: npt.NDArray[Any] | None = None, affine: npt.NDArray[Any] = AFFINE) -> Path:
    write_volume(path, Volume(cube() if array is None else array, affine))
    return path


def write_shifted(path: Path) -> None:
    affine = AFFINE.copy()
    affine[0, 3] = 0.5
    write_mask(path, affine=affine)


def strict(summary: Summary) -> dict[str, Any]:
    """The summary as it stands in a file, read by a reader that refuses NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    content: dict[str, Any] = json.loads(json.dumps(summary.as_dict(), allow_nan=False), parse_constant=refuse)
    return content
