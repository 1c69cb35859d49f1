"""Whatever a caller has for a scan, as a volume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fullscale.data.read import read_image
from fullscale.errors import UsageError
from fullscale.geometry.volume import Volume

Scan = str | Path | Volume | npt.NDArray[Any] | Tensor
"""A path, a volume, or an array `[X, Y, Z]` of NumPy or torch."""


def as_volume(scan: Scan, spacing_mm: Sequence[float] | None = None) -> Volume:
    """Read or wrap a scan.

    Args:
        scan: a file, a DICOM folder, a volume, or an array `[X, Y, Z]` whose axes run to the patient's right, front and
            head.
        spacing_mm: of an array, the distance between voxel centres along X, Y and Z; for an array only.

    Raises:
        DataError: the path cannot be read.
        UsageError: an array comes without its spacing, or anything else with one; or it is no scan at all.
    """
    if isinstance(scan, Tensor):
        scan = scan.detach().cpu().numpy()
    if isinstance(scan, np.ndarray):
        return _placed(scan, spacing_mm)
    if spacing_mm is not None:
        raise UsageError("spacing_mm is for an array: a file or a Volume has its own spacing")
    if isinstance(scan, Volume):
        return scan
    if isinstance(scan, str | Path):
        return read_image(Path(scan))
    raise UsageError(f"a {type(scan).__name__} is no scan: expected a path, a Volume, or an array with spacing_mm")


def _placed(array: npt.NDArray[Any], spacing_mm: Sequence[float] | None) -> Volume:
    if array.ndim != 3 or array.dtype.kind not in "biuf":
        raise UsageError(f"an array of shape {list(array.shape)} and type {array.dtype}: expected numbers [X, Y, Z]")
    if spacing_mm is None:
        raise UsageError(
            "an array alone does not say how large its voxels are or how it lies: pass spacing_mm=(x, y, z) in mm for "
            "axes [X, Y, Z] that run to the patient's right, front and head, or a Volume with its affine"
        )
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all():
        raise UsageError(f"spacing_mm is {spacing_mm!r}: expected three numbers above 0, in mm along X, Y and Z")
    return Volume(array, np.diag([*spacing, 1.0]))
