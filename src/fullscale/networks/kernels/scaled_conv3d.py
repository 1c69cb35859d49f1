"""A 3x3x3 convolution over a map resized by powers of two: the skips of UNet 3+ in 3D, in two equal forms.

Letters: B batch, C input channels, O output channels, D H W the size of the map that comes in.

The direct form resizes, then convolves, as the paper draws it. The factored form, for up-sampling only, mixes channels
before it brings the map up; see `factored3d`. Both are the same function of input and weight.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fullscale.networks.kernels.conv3d import conv3d
from fullscale.networks.kernels.factored3d import Factors, slab_sizes, upsampled_conv3d_factored
from fullscale.networks.kernels.forms import Form, FormedConv
from fullscale.networks.kernels.strided import strided_conv
from fullscale.networks.kernels.upsample import multiply_accumulates
from fullscale.networks.spatial import resize

CPU_SLICES = 8
"""Slices of the low resolution that are brought up together on a CPU."""

MACS_PER_BYTE = 6
"""Multiply-accumulates done in the time one byte moves."""

Scale3d = tuple[int, int, int]


class ScaledConv3d(FormedConv, nn.Conv3d):
    """3x3x3 convolution over a map resized by `2**log2_scale` along each axis; UNet 3+, equation 1.

    The weight is `[O, C, 3, 3, 3]` whatever the form, so a checkpoint does not know which form wrote it.

    Args:
        in_channels: C of the maps `[B, C, D, H, W]` that come in.
        out_channels: O of the maps that go out.
        log2_scale: for each of D, H and W how many times the size is doubled (trilinear, `align_corners=False`) if
            positive, halved (non-overlapping max-pooling; a side that is a multiple of `2**-log2_scale`) if negative,
            before the convolution; all of one sign.
        form: "direct", "factored", or "auto" for the cheaper (see `choose`); may be set at any time. Where a form
            does not apply the direct one stands in; see `choose`.
        stride: of the convolution, after resizing, for each axis.
        bias: whether there is one.

    Raises:
        UsageError: the form is unknown.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        log2_scale: Scale3d = (0, 0, 0),
        form: Form = "auto",
        stride: tuple[int, int, int] = (1, 1, 1),
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1, stride=stride, bias=bias)
        self.log2_scale = log2_scale
        self.form = form

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Do it with a weight `[O, C, 3, 3, 3]` and bias `[O]` from elsewhere, as with a normalisation folded in."""
        if self.choose(x) == "factored":
            return upsampled_conv3d_factored(x, weight, bias, self.factors, block_size(x.device))
        resized = resize(x, self.log2_scale)
        if self.form == "direct":  # torch's own throughout, to compare with
            return strided_conv(resized, weight, bias, self.stride)
        return conv3d(resized, weight, bias, self.stride)

    @property
    def factors(self) -> Factors:
        """By how much each axis is up-sampled."""
        depth, height, width = (2 ** max(number, 0) for number in self.log2_scale)
        return depth, height, width

    def choose(self, x: Tensor) -> Form:
        """Return the form in which a map `[B, C, D, H, W]` is convolved.

        Only an up-sampled map can be factored. In an exported graph "auto" is "direct", because one graph serves every
        size; on a GPU it is "factored" from `FEWEST_GPU_MACS` on.
        """
        if max(self.log2_scale) <= 0 or max(self.stride) > 1:
            return "direct"
        if self.form != "auto":
            return "factored" if self.form == "factored" else "direct"
        if torch.compiler.is_exporting():
            return "direct"
        if x.device.type not in ("cpu", "meta"):
            return "factored" if self.pays_on_gpu(x) else "direct"
        shape = (x.shape[0], self.in_channels, self.out_channels, tuple(x.shape[2:]), self.factors)
        return min(("direct", "factored"), key=lambda form: cost(form, *shape, block_size(x.device)))

    def extra_repr(self) -> str:
        """Show what stands in the constructor."""
        return f"{self.in_channels}, {self.out_channels}, log2_scale={self.log2_scale}, form={self.form!r}"


def block_size(device: torch.device) -> int | None:
    """Return how many slices are brought up together; None is all of them.

    A GPU likes few large products, and a graph of free sizes cannot be cut.
    """
    return CPU_SLICES if device.type == "cpu" and not torch.compiler.is_exporting() else None


def cost(
    form: Form,
    batch: int,
    in_channels: int,
    out_channels: int,
    sides: tuple[int, ...],
    factors: Factors,
    block: int | None = CPU_SLICES,
) -> float:
    """Cost of a form for an up-sampled map: multiply-accumulates, moved bytes counted at `MACS_PER_BYTE`.

    A number has four bytes. The direct form brings the map up by a matrix an axis, as on a CPU. Its bytes: the
    up-sampled map is read eight times where it is made, written, and read once more; each output is written.
    """
    if form == "factored":
        return batch * _factored_cost(in_channels, out_channels, sides, factors, block)
    high = batch * math.prod(sides) * math.prod(factors)
    macs = 27 * in_channels * out_channels * high + batch * in_channels * multiply_accumulates(sides, factors)
    return macs + MACS_PER_BYTE * 4 * high * (10 * in_channels + out_channels)


def _factored_cost(
    in_channels: int, out_channels: int, sides: tuple[int, ...], factors: Factors, block: int | None
) -> float:
    """Bytes: each map between input and output is written and read, the output read and written for each dz."""
    depth, height, width = sides
    _, tall, wide = (side * factor for side, factor in zip(sides, factors, strict=True))
    mixed = 27 * out_channels * depth * height * width
    widened = 9 * out_channels * depth * height * wide
    raised = 3 * out_channels * depth * tall * wide
    blocks = slab_sizes(depth, factors[0], block)
    result = 3 * out_channels * tall * wide
    macs = mixed * in_channels + 3 * widened * width + 3 * raised * height + result * sum(a * b for a, b in blocks)
    numbers = 2 * mixed + 4 * widened + 4 * raised + 2 * result * sum(reached for reached, _ in blocks)
    return macs + MACS_PER_BYTE * 4 * numbers
