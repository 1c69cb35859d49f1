"""Trilinear up-sampling of maps that are channels last, on a CPU: one matrix product an axis.

Letters: B batch, C channels, D H W size of the map, k the factor of an axis.

Torch's own copies such a map into another order, and its result is copied back by whatever convolves it; its gradient
does the same again. Here each axis is brought up by its matrix `[kN, N]`, the innermost first, while the map is small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fullscale.networks.kernels.forms import eager_on_cpu
from fullscale.networks.kernels.taps import interpolation


def matrices_apply(x: Tensor) -> bool:
    """Whether a map is better brought up by matrices: a volume, eagerly on a CPU."""
    return x.ndim == 5 and eager_on_cpu(x)


def upsample_by_matrices(x: Tensor, factors: Sequence[int]) -> Tensor:
    """Take `[B, C, D, H, W]` to `[B, C, kD, kH, kW]`, channels last in memory.

    Equal to `F.interpolate(mode="trilinear", align_corners=False)`. Maps in bf16 are brought up in float32.
    """
    exact = torch.float32 if x.dtype == torch.bfloat16 else x.dtype
    pixels = x.movedim(1, -1).to(exact)  # [B, D, H, W, C]
    for axis in (3, 2, 1):
        low, factor = pixels.shape[axis], factors[axis - 1]
        if factor > 1:
            before, after = pixels.shape[:axis], pixels.shape[axis + 1 :]
            rows = pixels.reshape(-1, low, math.prod(after))
            pixels = (interpolation(low, factor, x) @ rows).view(*before, factor * low, *after)
    return pixels.movedim(-1, 1).to(x.dtype)
