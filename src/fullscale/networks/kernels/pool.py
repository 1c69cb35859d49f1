"""Max-pooling without overlap; on a CPU, where no gradient is asked for, without the places of the maxima.

Torch's own finds for every maximum where it lay, as its gradient needs. Here an axis is halved by one maximum of its
even and its odd pixels; with long vectors that takes less than half of the time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from fullscale.networks.kernels.forms import eager_on_cpu, has_long_vectors


def max_pool(x: Tensor, steps: Sequence[int]) -> Tensor:
    """Take each `steps` of pixels of a map `[B, C, ...]` to their largest; what is left over at its end is left out."""
    wants_gradient = torch.is_grad_enabled() and x.requires_grad
    powers_of_two = all(step & (step - 1) == 0 for step in steps)
    if wants_gradient or not powers_of_two or not eager_on_cpu(x) or not has_long_vectors():
        pool = F.max_pool2d if len(steps) == 2 else F.max_pool3d
        pooled: Tensor = pool(x, kernel_size=tuple(steps))
        return pooled
    for axis, step in enumerate(steps, start=2):
        while step > 1:
            x, step = _halved(x, axis), step // 2
    return x


def _halved(x: Tensor, axis: int) -> Tensor:
    before, whole = (slice(None),) * axis, x.shape[axis] // 2 * 2
    return torch.maximum(x[(*before, slice(0, whole, 2))], x[(*before, slice(1, whole, 2))])
