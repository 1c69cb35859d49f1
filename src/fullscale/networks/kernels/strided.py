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


class NarrowConv2d(nn.Conv2d):
    """A strided convolution that is right for narrow maps too; see `widen_strided`."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `[B, C, H, W]`."""
        step, reach = self.stride[-1], self.dilation[-1] * (self.kernel_size[-1] - 1)
        if eager_on_cpu(x) and x.shape[-1] + 2 * int(self.padding[-1]) - reach <= step:
            return super().forward(F.pad(x, (0, step)))[..., :1]
        return super().forward(x)


def widen_strided(module: nn.Module) -> None:
    """Make the strided convolutions in a network of another library right for narrow maps; weights stay as they are."""
    for part in module.modules():
        if type(part) is not nn.Conv2d or part.padding_mode != "zeros" or isinstance(part.padding, str):
            continue
        if part.stride[-1] > 1:
            part.__class__ = NarrowConv2d


def transposed_conv(conv: nn.ConvTranspose2d | nn.ConvTranspose3d, x: Tensor) -> Tensor:
    """Bring a map `[B, C, ...]` to as many times its size as the transposed convolution steps along each axis."""
    step = conv.stride[-1]
    if step > 1 and x.shape[-1] == 1 and eager_on_cpu(x):
        brought: Tensor = conv(F.pad(x, (0, 1)))[..., :step]
        return brought
    return conv(x)  # type: ignore[no-any-return]
