"""Strided and transposed convolutions as torch does them, that are right for narrow maps too.

In bf16 on a processor with AMX, torch 2.15 (oneDNN 3.13) reads memory that holds anything where a convolution steps by
two along the last axis and gives one column: its output, or the gradient of its input, may be NaN. So may the gradient
of what a transposed convolution brings up from one column. A map with columns of zeros at its end gives more columns,
of which the first are those that are wanted.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.networks.kernels.forms import eager_on_cpu


def strided_conv(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int]) -> Tensor:
    """Convolve `[B, C, ...]` with `[O, C, 3, ...]`; the same as `F.conv2d(padding=1)`, or `F.conv3d`."""
    conv = F.conv2d if weight.ndim == 4 else F.conv3d
    steps = tuple(stride)
    if steps[-1] > 1 and eager_on_cpu(x) and x.shape[-1] <= steps[-1]:
        wider = F.pad(x, (0, steps[-1] + 1 - x.shape[-1]))
        return conv(wider, weight, bias, stride=steps, padding=1)[..., :1]
    return conv(x, weight, bias, stride=steps, padding=1)


def transposed_conv(conv: nn.ConvTranspose2d | nn.ConvTranspose3d, x: Tensor) -> Tensor:
    """Bring a map `[B, C, ...]` to as many times its size as the transposed convolution steps along each axis."""
    step = conv.stride[-1]
    if step > 1 and x.shape[-1] == 1 and eager_on_cpu(x):
        brought: Tensor = conv(F.pad(x, (0, 1)))[..., :step]
        return brought
    return conv(x)  # type: ignore[no-any-return]
