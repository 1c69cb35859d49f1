"""Whatever a caller has for a scan, as a volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fullscale.data.read import on_one_grid, read_channels, read_image
from fullscale.errors import UsageError
from fullscale.geometry.volume import Volume

Scan = str | Path | Volume | npt.NDArray[Any] | Tensor
"""A path, a volume, or an array `[X, Y, Z]` of NumPy or torch."""


Scans = Scan | Mapping[str, Scan]
"""A scan; or, where a model takes several channels, each of them by its name."""


def as_channels(
    scan: Scans, channels: Sequence[str], spacing_mm: Sequence[float] | None = None, resample: bool = False
) -> dict[str, Volume]:
    """Read or wrap the channels that a model takes.

    Args:
        scan: one scan for a model of one channel; else a mapping of the names, in any order, or an array
            `[C, X, Y, Z]` in the order of the names.
        channels: names that the model knows, in its order.
        spacing_mm: of an array, the distance between voxel centres along X, Y and Z; for an array only.
        resample: bring channels on other grids onto that of the first.

    Raises:
        DataError: a path cannot be read.
        GeometryError: a channel lies on another grid than the first.
        UsageError: a channel is missing, or one is not known; see `as_volume`.
    """
    if len(channels) > 1 and isinstance(scan, np.ndarray | Tensor) and scan.ndim == 4 and len(scan) == len(channels):
        scan = dict(zip(channels, scan, strict=True))
    if not isinstance(scan, Mapping):
        if len(channels) > 1:
            raise UsageError(
                f"the model takes {len(channels)} channels ({', '.join(channels)}): give each by its name, or an array "
                "[C, X, Y, Z] in this order"
            )
        scan = {channels[0]: scan}
    if set(scan) != set(channels):
        raise UsageError(f"the channels {', '.join(scan)} are given, the model takes {', '.join(channels)}")
    files = {name: Path(file) for name in channels if isinstance(file := scan[name], str | Path)}
    if len(files) == len(channels) and spacing_mm is None:
        return read_channels(files, resample=resample)  # which may be one file
    return on_one_grid({name: as_volume(scan[name], spacing_mm) for name in channels}, resample)


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
