"""What part of a scan a picture shows: the body, without the air around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_BODY_HU = -300.0
"""Fat is above it, and the air around the body far below."""

Frame = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Along each axis, the first voxel that is shown and the first one after it that is not."""

_LOW, _HIGH, _DARK = 1, 99, 0.08
"""Where values have no unit: darker than this share of the way between two percentiles is what surrounds the body."""
_THIN = 0.03
"""A slice holds body where its share of body is at least this part of that of the fullest slice: tables are thinner."""
_MARGIN = 0.04
_SAMPLES = 128
"""Voxels looked at along an axis: a frame needs no more."""


def body_frame(scan: npt.NDArray[Any], painted: npt.NDArray[Any], is_ct: bool) -> Frame:
    """Find the box around the body, and around all that is painted, with a margin.

    Args:
        scan: `[X, Y, Z]`, or `[X, Y, Z, 3]` of colours.
        painted: `[X, Y, Z]`, not 0 where something is drawn.
        is_ct: values are HU.

    Returns:
        The whole scan where nothing in it stands out from its surroundings.
    """
    steps = tuple(max(1, size // _SAMPLES) for size in painted.shape)
    grey = scan[:: steps[0], :: steps[1], :: steps[2]].astype(np.float32)
    grey = np.nan_to_num(grey.mean(axis=-1) if grey.ndim == 4 else grey)
    low, high = np.percentile(grey, (_LOW, _HIGH))
    low = min(low, 0)  # a scan without air has a dark tissue as its darkest
    body = grey > (_BODY_HU if is_ct else low + _DARK * (high - low))
    first, second, third = (_along(body, painted, axis, steps[axis]) for axis in range(3))
    return first, second, third


def joined(frames: Sequence[Frame]) -> Frame:
    """Return the smallest frame that holds all."""
    first, second, third = (
        (min(frame[axis][0] for frame in frames), max(frame[axis][1] for frame in frames)) for axis in range(3)
    )
    return first, second, third


def _along(body: npt.NDArray[np.bool_], painted: npt.NDArray[Any], axis: int, step: int) -> tuple[int, int]:
    others = tuple(other for other in range(3) if other != axis)
    size = painted.shape[axis]
    share = body.mean(axis=others)
    holding = np.flatnonzero(share >= _THIN * share.max()) if share.any() else np.arange(len(share))
    drawn = np.flatnonzero((painted != 0).any(axis=others))
    ends = [int(holding[0]) * step, int(holding[-1] + 1) * step]
    if len(drawn):
        ends += [int(drawn[0]), int(drawn[-1]) + 1]
    margin = round(_MARGIN * (max(ends) - min(ends)))
    return max(0, min(ends) - margin), min(size, max(ends) + margin)
