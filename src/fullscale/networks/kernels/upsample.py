"""Linear up-sampling of maps that are channels last, on a CPU: one matrix product an axis.

Letters: B batch, C channels, `...` size of a map: H W, or D H W in a volume; k the factor of an axis, N its low size.

Of a volume, torch's own copies such a map into another order, and its result is copied back by whatever convolves it;
its gradient does the same again. Of an image torch's own is quick where the factor is small. Here each axis is brought
up by its matrix `[kN, N]`, the innermost first, while the map is small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fullscale.networks.kernels.forms import eager_on_cpu
from fullscale.networks.kernels.taps import interpolation

LEAST_FACTOR, LARGEST_SIDE = 4, 32
"""Of an image: where k is smaller, or N larger, torch's own is quicker than a matrix of which nearly all is 0."""


def matrices_apply(x: Tensor, factors: Sequence[int]) -> bool:
    """Whether a map `[B, C, ...]` is brought up by matrices: eagerly on a CPU, where they are quicker."""
    return eager_on_cpu(x) and matrices_suit(x.shape[2:], factors)


def matrices_suit(sides: Sequence[int], factors: Sequence[int]) -> bool:
    """Whether matrices are quicker than torch's own on a CPU: for volumes, and for coarse maps."""
    return len(sides) == 3 or (min(factors) >= LEAST_FACTOR and max(sides) <= LARGEST_SIDE)


def multiply_accumulates(sides: Sequence[int], factors: Sequence[int]) -> int:
    """Multiply-accumulates of the matrices that bring a channel up; torch's own are not counted as such."""
    if not matrices_suit(sides, factors):
        return 0
    made, macs = list(sides), 0
    for axis in reversed(range(len(sides))):
        made[axis] *= factors[axis]
        macs += math.prod(made) * sides[axis] if factors[axis] > 1 else 0
    return macs


def upsample_by_matrices(x: Tensor, factors: Sequence[int]) -> Tensor:
    """Take `[B, C, ...]` to so many times its size along each axis, channels last in memory.

    Equal to `F.interpolate(mode="bilinear" or "trilinear", align_corners=False)`. Maps in bf16 are brought up in
    float32.
    """
    exact = torch.float32 if x.dtype == torch.bfloat16 else x.dtype
    pixels = x.movedim(1, -1).to(exact)  # [B, ..., C]
    for axis in reversed(range(1, x.ndim - 1)):
        low, factor = pixels.shape[axis], factors[axis - 1]
        if factor > 1:
            before, after = pixels.shape[:axis], pixels.shape[axis + 1 :]
            rows = pixels.reshape(-1, low, math.prod(after))
            pixels = (interpolation(low, factor, x) @ rows).view(*before, factor * low, *after)
    return pixels.movedim(-1, 1).to(x.dtype)
