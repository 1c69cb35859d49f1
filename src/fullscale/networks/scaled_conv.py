"""A 3x3 convolution over a map resized by a power of two: the resized skip of UNet 3+, in two equal forms.

Letters: B batch, C input channels, O output channels, H W the size of the map that comes in, k the up-sampling factor.

Direct form: resize, then convolve, as the paper draws it. Up-sampling by k makes k*k pixels of each one, and the
convolution pays for all of them.

Factored form, for up-sampling only. Convolution and bilinear up-sampling are both linear, and mixing channels commutes
with moving pixels, so with shift(dy, dx) reading a zero-padded map at an offset

    conv(up(x)) = sum over dy, dx of  shift(dy, dx) up( W[dy, dx] x ) + bias

where each W[dy, dx] is a matrix `[O, C]`. The nine products W[dy, dx] x are one 1x1 convolution on the LOW resolution.
What remains is separable: with U `[kH, H]` the one-dimensional bilinear interpolation and S(dy) the shift by dy rows
of the HIGH resolution, zero beyond its border, the rows are summed by the matrix [S(-1)U  S(0)U  S(1)U] `[kH, 3H]`
and the columns by its like. Nothing is approximated: both forms are the same function of input and weight.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.errors import UsageError

Form = Literal["auto", "direct", "factored"]

MACS_PER_BYTE = 12
"""Multiply-accumulates done in the time one byte moves (two AVX-512 cores: about 60 GMAC/s and 5 GB/s)."""


class ScaledConv(nn.Conv2d):
    """3x3 convolution with bias over a map resized by `2**octaves`; UNet 3+, equation 1.

    The weight is `[O, C, 3, 3]` whatever the form, so a checkpoint does not know which form wrote it.

    Args:
        in_channels: C of the maps `[B, C, H, W]` that come in.
        out_channels: O of the maps `[B, O, H * 2**octaves, W * 2**octaves]` that go out.
        octaves: how many times the size is doubled (bilinear, `align_corners=False`) if positive, halved
            (non-overlapping max-pooling; H and W multiples of `2**-octaves`) if negative, before the convolution.
        form: "direct", "factored", or "auto" for the cheaper by `direct_cost` and `factored_cost`; may be set at
            any time. Down-sampling has the direct form only. Under `torch.export` "auto" is "direct", because one
            graph then serves every size.

    Raises:
        UsageError: the form is unknown.
    """

    def __init__(self, in_channels: int, out_channels: int, octaves: int = 0, form: Form = "auto") -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1)
        self.octaves = octaves
        self.form = form

    @property
    def form(self) -> Form:
        """How an up-sampled map is convolved: "auto", "direct" or "factored"."""
        return self._form

    @form.setter
    def form(self, form: Form) -> None:
        if form not in get_args(Form):
            raise UsageError(f"form '{form}' is unknown: expected {', '.join(get_args(Form))}")
        self._form = form

    def forward(self, x: Tensor) -> Tensor:
        """Resize `[B, C, H, W]` by `2**octaves` and convolve it to O channels."""
        if self.factors(x):
            return upsampled_conv_factored(x, self.weight, self.bias, 2**self.octaves)
        return super().forward(resize(x, self.octaves))

    def factors(self, x: Tensor) -> bool:
        """Say whether a map `[B, C, H, W]` would be convolved in the factored form."""
        if self.octaves <= 0 or self.form == "direct":
            return False
        if self.form == "factored":
            return True
        if torch.compiler.is_exporting():
            return False
        return prefers_factored(self.in_channels, self.out_channels, x.shape[-2], x.shape[-1], 2**self.octaves)

    def extra_repr(self) -> str:
        """Show what stands in the constructor."""
        return f"{self.in_channels}, {self.out_channels}, octaves={self.octaves}, form={self.form!r}"


def set_form(network: nn.Module, form: Form) -> None:
    """Set the form of every ScaledConv of a network.

    Raises:
        UsageError: the form is unknown.
    """
    for module in network.modules():
        if isinstance(module, ScaledConv):
            module.form = form


def resize(x: Tensor, octaves: int) -> Tensor:
    """Bring `[B, C, H, W]` to `2**octaves` times its size: bilinear upwards, non-overlapping max-pooling downwards."""
    if octaves > 0:
        return F.interpolate(x, scale_factor=float(2**octaves), mode="bilinear", align_corners=False)
    if octaves < 0:
        return F.max_pool2d(x, kernel_size=2**-octaves)
    return x


def upsampled_conv_factored(x: Tensor, weight: Tensor, bias: Tensor | None, factor: int) -> Tensor:
    """Convolve the up-sampled map without making it.

    Args:
        x: `[B, C, H, W]`, the low resolution.
        weight: `[O, C, 3, 3]`.
        bias: `[O]` or None.
        factor: k, the bilinear up-sampling factor.

    Returns:
        `[B, O, kH, kW]`, equal to `conv2d(interpolate(x, k), weight, bias, padding=1)`.
    """
    (batch, channels, height, width), out = x.shape, weight.shape[0]
    rows = tap_matrix(height, factor, x)
    columns = tap_matrix(width, factor, x)
    mixing = weight.permute(3, 0, 2, 1).reshape(9 * out, channels, 1, 1)
    taps = F.conv2d(x, mixing).reshape(batch, 3 * out, 3 * height, width)  # channels in the order dx, o, dy
    tall = torch.matmul(rows, taps).reshape(batch, 3, out, factor * height, width)
    tall = tall.permute(0, 2, 3, 1, 4).reshape(batch, out, factor * height, 3 * width)
    wide = torch.matmul(tall, columns.t())
    return wide if bias is None else wide + bias[:, None, None]


def tap_matrix(low: int, factor: int, like: Tensor) -> Tensor:
    """Make the matrix that interpolates one axis, shifts it by -1, 0 and 1 at the high resolution, and adds the three.

    Args:
        low: N, the size of the axis before up-sampling.
        factor: k.
        like: gives device and dtype. Every weight is a multiple of 1/(2k), exact in bf16 for k up to 64.

    Returns:
        `[kN, 3N]`. It is made anew at each call, a handful of small operations: a cache would tie it to a device, an
        inference mode or a traced size.
    """
    exact = torch.float64 if like.dtype == torch.float64 else torch.float32
    centres = (torch.arange(low * factor, device=like.device, dtype=exact) + 0.5) / factor - 0.5
    distance = centres.clamp(0, low - 1)[:, None] - torch.arange(low, device=like.device, dtype=exact)
    interpolation = (1 - distance.abs()).clamp(min=0)  # [kN, N]
    bordered = F.pad(interpolation, (0, 0, 1, 1))  # a row of zeros before and after: the convolution's padding
    shifted = [bordered[shift : shift + low * factor] for shift in range(3)]
    return torch.cat(shifted, dim=1).to(like.dtype)


def prefers_factored(in_channels: int, out_channels: int, height: int, width: int, factor: int) -> bool:
    """Say whether the factored form is the cheaper one for maps of this low resolution; the batch does not matter."""
    direct = direct_cost(in_channels, out_channels, height, width, factor)
    return factored_cost(in_channels, out_channels, height, width, factor) < direct


def direct_cost(in_channels: int, out_channels: int, height: int, width: int, factor: int) -> int:
    """Cost of one image in the direct form, in multiply-accumulates, moved bytes counted at `MACS_PER_BYTE`.

    Bytes, at four for a number: each up-sampled value is read four times, written once and read again by the
    convolution, and each output is written.
    """
    pixels = height * width * factor**2
    macs = 9 * in_channels * out_channels * pixels
    return macs + MACS_PER_BYTE * 4 * (6 * in_channels + out_channels) * pixels


def factored_cost(in_channels: int, out_channels: int, height: int, width: int, factor: int) -> int:
    """Cost of one image in the factored form, in the unit of `direct_cost`.

    The two matrices are dense, so their products grow with a side of the map as well as with its area. Bytes: the
    input is read; nine maps at the low resolution are written and read; three maps of full height are written,
    reordered (read and written) and read; the output is written.
    """
    low, tall, high = height * width, factor * height * width, factor**2 * height * width
    macs = 9 * in_channels * out_channels * low + out_channels * (9 * height * tall + 3 * width * high)
    numbers = in_channels * low + out_channels * (2 * 9 * low + 4 * 3 * tall + high)
    return macs + MACS_PER_BYTE * 4 * numbers
