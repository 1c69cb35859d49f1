"""One axis of a factored convolution: linear interpolation and the three taps in one banded matrix, and its cuts."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def tap_matrix(low: int, factor: int, like: Tensor) -> Tensor:
    """Make the matrix that interpolates one axis, shifts it by -1, 0 and 1 at the high resolution, and adds the three.

    Args:
        low: N, the size of the axis before up-sampling.
        factor: k.
        like: gives the device, and float64 if it is; otherwise the matrix is float32.

    Returns:
        `[kN, 3N]`, the columns in the order pixel, shift. It is made anew at each call, a handful of small operations:
        a cache would tie it to a device, an inference mode or a traced size.
    """
    return torch.stack([*shifted_taps(low, factor, like)], dim=2).flatten(1)


def shifted_taps(low: int, factor: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Make the matrices `[kN, N]` that interpolate one axis and shift it by -1, 0 or 1 at the high resolution.

    Beyond the border of the high resolution there are zeros: the convolution's padding. Arguments as of `tap_matrix`.
    """
    bordered = F.pad(interpolation(low, factor, like), (0, 0, 1, 1))
    high = low * factor
    return bordered[:high], bordered[1 : 1 + high], bordered[2 : 2 + high]


def interpolation(low: int, factor: int, like: Tensor) -> Tensor:
    """Make the matrix `[kN, N]` that interpolates one axis, `align_corners=False`. Arguments as of `tap_matrix`."""
    exact = torch.float64 if like.dtype == torch.float64 else torch.float32
    centres = (torch.arange(low * factor, device=like.device, dtype=exact) + 0.5) / factor - 0.5
    distance = centres.clamp(0, low - 1)[:, None] - torch.arange(low, device=like.device, dtype=exact)
    return (1 - distance.abs()).clamp(min=0)


def cut(low: int, factor: int, block: int | None) -> list[tuple[slice, slice, slice]]:
    """Cut an axis: low-resolution pixels with one more on either side, the pixels they make, their columns of taps.

    Without a block size the axis stays whole, as a graph of free sizes needs it and a GPU likes it.
    """
    if block is None:
        return [(slice(None), slice(None), slice(None))]
    cuts = []
    for first in range(0, low, block):
        start, stop = max(first - 1, 0), min(first + block + 1, low)
        high = slice(factor * first, factor * min(first + block, low))
        cuts.append((slice(start, stop), high, slice(3 * start, 3 * stop)))
    return cuts
