"""A 3x3 convolution over a map resized by a power of two: the skips of UNet 3+, in three equal forms.

Letters: B batch, C input channels, O output channels, H W the size of the map that comes in, k the up-sampling factor.

Direct form: resize, then convolve, as the paper draws it. Up-sampling by k makes k*k pixels of each one, and the
convolution pays for all of them.

Winograd's form: resize, then convolve with a quarter of the multiplications; see `winograd`.

Factored form, for up-sampling only. Convolution and bilinear up-sampling are both linear, and mixing channels
commutes with moving pixels, so with shift(dy, dx) reading a zero-padded map at an offset

    conv(up(x)) = sum over dy, dx of  shift(dy, dx) up( W[dy, dx] x ) + bias

where each W[dy, dx] is a matrix `[O, C]`. The nine products W[dy, dx] x are one 1x1 convolution on the LOW resolution.
What remains is separable: with U `[kH, H]` the one-dimensional bilinear interpolation and S(dy) the shift by dy rows
of the HIGH resolution, zero beyond its border, the rows are summed by the matrix [S(-1)U  S(0)U  S(1)U] `[kH, 3H]`
and the columns by its like. Nothing is approximated: all forms are the same function of input and weight.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from fullscale.networks.kernels import winograd
from fullscale.networks.kernels.forms import Form, FormedConv, autocasts, is_precise, without_autocast
from fullscale.networks.kernels.strided import strided_conv
from fullscale.networks.kernels.taps import cut, tap_matrix
from fullscale.networks.kernels.upsample import multiply_accumulates
from fullscale.networks.spatial import resize

CPU_BLOCK = 16
"""Low-resolution rows, or columns, that are brought up together on a CPU: few products with zeros, few steps."""

MACS_PER_BYTE, MACS_PER_CACHED_BYTE = 12, 6
"""Multiply-accumulates done in the time one byte moves to or from memory (two AVX-512 cores: about 60 GMAC/s and
5 GB/s), or a cache."""


class ScaledConv(FormedConv, nn.Conv2d):
    """3x3 convolution with bias over a map resized by `2**log2_scale`; UNet 3+, equation 1.

    The weight is `[O, C, 3, 3]` whatever the form, so a checkpoint does not know which form wrote it.

    Args:
        in_channels: C of the maps `[B, C, H, W]` that come in.
        out_channels: O of the maps `[B, O, H * 2**log2_scale, W * 2**log2_scale]` that go out.
        log2_scale: how many times the size is doubled (bilinear, `align_corners=False`) if positive, halved
            (non-overlapping max-pooling; H and W multiples of `2**-log2_scale`) if negative, before the convolution.
        form: "direct", "factored", "winograd", or "auto" for the cheapest (see `choose`); may be set at any time.
            Where a form does not apply the direct one stands in; see `choose`. A decoder level of UNet 3+ whose
            fusion is set to "direct" also leaves norms and ReLU to torch in training; see `norm_act`.
        stride: of the convolution, after resizing; with another than 1 it is direct.
        bias: whether there is one.

    Raises:
        UsageError: the form is unknown.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        log2_scale: int = 0,
        form: Form = "auto",
        stride: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1, stride=stride, bias=bias)
        self.log2_scale = log2_scale
        self.form = form

    @property
    def factors(self) -> tuple[int, int]:
        """By how much both axes are up-sampled."""
        factor: int = 2 ** max(self.log2_scale, 0)
        return factor, factor

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Do the same with a weight `[O, C, 3, 3]` and bias `[O]` from elsewhere, as with a normalisation folded in."""
        form = self.choose(x)
        if form == "factored":
            return upsampled_conv_factored(x, weight, bias, 2**self.log2_scale)
        resized = resize(x, (self.log2_scale, self.log2_scale))
        if form == "winograd":
            return winograd.winograd_conv(resized, weight, bias)
        return strided_conv(resized, weight, bias, self.stride)

    def choose(self, x: Tensor) -> Form:
        """Return the form in which a map `[B, C, H, W]` is convolved.

        Only an up-sampled map can be factored. Winograd's transforms are too coarse for bf16, and in an exported graph
        the runtime's own convolution is the better part. There "auto" is "direct", because one graph then serves every
        size. On a GPU "auto" never is "winograd", and "factored" from `FEWEST_GPU_MACS` on.
        """
        exporting = torch.compiler.is_exporting()
        if self.stride != (1, 1):
            return "direct"
        possible: list[Form] = ["direct"]
        if self.log2_scale > 0:
            possible.append("factored")
        if is_precise(x) and not exporting and (self.form == "winograd" or x.device.type == "cpu"):
            possible.append("winograd")
        if self.form != "auto":
            return self.form if self.form in possible else "direct"
        if exporting:
            return "direct"
        if x.device.type not in ("cpu", "meta"):
            return possible[-1] if self.pays_on_gpu(x) else "direct"
        shape = (x.shape[0], self.in_channels, self.out_channels, x.shape[-2], x.shape[-1], self.log2_scale)
        costs = [cost(form, *shape, block_size(x.device)) for form in possible]
        return possible[costs.index(min(costs))]

    def extra_repr(self) -> str:
        """Show what stands in the constructor."""
        return f"{self.in_channels}, {self.out_channels}, log2_scale={self.log2_scale}, form={self.form!r}"


def upsampled_conv_factored(x: Tensor, weight: Tensor, bias: Tensor | None, factor: int) -> Tensor:
    """Convolve the up-sampled map without making it.

    Args:
        x: `[B, C, H, W]`, the low resolution.
        weight: `[O, C, 3, 3]`.
        bias: `[O]` or None.
        factor: k, the bilinear up-sampling factor.

    Returns:
        `[B, O, kH, kW]`, equal to `conv2d(interpolate(x, k), weight, bias, padding=1)`, channels last in memory.
    """
    (height, width), out, device = x.shape[-2:], weight.shape[0], x.device.type
    if autocasts(device):
        x, weight = (tensor.to(torch.get_autocast_dtype(device)) for tensor in (x, weight))
    rows, columns = tap_matrix(height, factor, x), tap_matrix(width, factor, x)
    mixing = weight.permute(1, 3, 2, 0).reshape(-1, 9 * out)  # [C, dx dy o]
    block = block_size(x.device)
    with without_autocast(device):
        pixels: Tensor = _FactoredProduct.apply(x.permute(0, 2, 3, 1), mixing, rows, columns, factor, block)
    if bias is not None:
        pixels = pixels + bias
    return pixels.to(x.dtype).permute(0, 3, 1, 2)


class _FactoredProduct(torch.autograd.Function):
    """Mix channels at the low resolution, then interpolate, shift and sum columns, then rows.

    A block of rows at a time, with one more row on either side: what lies between input and output stays in the
    processor's cache. Nothing between them is kept for the backward pass, which walks the same way back. Of bf16 maps
    the products are bf16 and what is summed from them float32: a rounding more would be an error more than the direct
    form makes.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mixing: Tensor, rows: Tensor, columns: Tensor, factor: int, block: int | None
    ) -> Tensor:
        """Take `[B, H, W, C]` by mixing `[C, dx dy o]`, rows `[kH, 3H]` and columns `[kW, 3W]` to `[B, kH, kW, O]`."""
        ctx.save_for_backward(x, mixing, rows, columns)
        ctx.factor, ctx.block = factor, block
        (batch, height, width, _), out = x.shape, mixing.shape[1] // 9
        tall = []
        for low, high, taps in cut(height, factor, block):
            mixed = (x[:, low].flatten(0, 2) @ mixing).view(-1, 3 * width, 3 * out)  # [B h, (w dx), (dy o)]
            wide = _interpolate(mixed.to(columns.dtype), columns, factor, block)  # [B h, kW, (dy o)]
            wide = wide.view(batch, -1, factor * width, 3, out).transpose(2, 3)  # [B, h, dy, kW, o]
            tall.append(torch.matmul(rows[high, taps], wide.reshape(batch, -1, factor * width * out)))
        return torch.cat(tall, dim=1).view(batch, factor * height, factor * width, out)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Take the gradient `[B, kH, kW, O]` back to x and mixing."""
        x, mixing, rows, columns = ctx.saved_tensors
        (batch, height, width, _), out, factor = x.shape, mixing.shape[1] // 9, ctx.factor
        gradient = gradients[0].reshape(batch, factor * height, -1)
        to_x, to_mixing = torch.zeros_like(x), torch.zeros_like(mixing)
        with without_autocast(x.device.type):
            for low, high, taps in cut(height, factor, ctx.block):
                wide = torch.matmul(rows[high, taps].t(), gradient[:, high])
                wide = wide.view(batch, -1, 3, factor * width, out).transpose(2, 3)
                mixed = _interpolate_back(wide.reshape(-1, factor * width, 3 * out), columns, factor, ctx.block)
                mixed = mixed.view(-1, 9 * out).to(x.dtype)
                if ctx.needs_input_grad[0]:
                    to_x[:, low] += (mixed @ mixing.t()).view(batch, -1, width, x.shape[-1])
                if ctx.needs_input_grad[1]:
                    to_mixing += x[:, low].flatten(0, 2).t() @ mixed
        return to_x, to_mixing, None, None, None, None


def _interpolate(mixed: Tensor, columns: Tensor, factor: int, block: int | None) -> Tensor:
    """Take `[N, 3W, M]` to `[N, kW, M]`, each block of pixels from its neighbourhood alone."""
    return torch.cat(
        [
            torch.matmul(columns[high, taps], mixed[:, taps])
            for _, high, taps in cut(columns.shape[1] // 3, factor, block)
        ],
        dim=1,
    )


def _interpolate_back(wide: Tensor, columns: Tensor, factor: int, block: int | None) -> Tensor:
    """Take the gradient of `_interpolate` from `[N, kW, M]` to `[N, 3W, M]`."""
    mixed = wide.new_zeros(wide.shape[0], columns.shape[1], wide.shape[2])
    for _, high, taps in cut(columns.shape[1] // 3, factor, block):
        mixed[:, taps] += torch.matmul(columns[high, taps].t(), wide[:, high])
    return mixed


def block_size(device: torch.device) -> int | None:
    """Return how many low-resolution rows or columns are brought up together; None is all of them.

    A GPU likes few large products, and a graph of free sizes cannot be cut.
    """
    return CPU_BLOCK if device.type == "cpu" and not torch.compiler.is_exporting() else None


def cost(
    form: Form,
    batch: int,
    in_channels: int,
    out_channels: int,
    height: int,
    width: int,
    log2_scale: int,
    block: int | None = CPU_BLOCK,
) -> float:
    """Cost of a form for maps of this size: multiply-accumulates, moved bytes counted at `MACS_PER_BYTE`.

    A number has four bytes. What only pooling costs is the same in every form, and left out.
    """
    if form == "factored":
        return batch * _factored_cost(in_channels, out_channels, height, width, 2**log2_scale, block)
    high, wide = (int(side * 2.0**log2_scale) for side in (height, width))
    convolution = _winograd_cost if form == "winograd" else _direct_cost
    resizing = (
        6 * batch * in_channels * high * wide if log2_scale > 0 else 0
    )  # read four times, written, read once more
    matrices = batch * in_channels * multiply_accumulates((height, width), (2 ** max(log2_scale, 0),) * 2)
    return matrices + MACS_PER_BYTE * 4 * resizing + convolution(batch, in_channels, out_channels, high, wide)


def _direct_cost(batch: int, in_channels: int, out_channels: int, height: int, width: int) -> int:
    """Bytes: each output is written."""
    pixels = batch * height * width
    return 9 * in_channels * out_channels * pixels + MACS_PER_BYTE * 4 * out_channels * pixels


def _winograd_cost(batch: int, in_channels: int, out_channels: int, height: int, width: int) -> int:
    """Bytes: the outputs, and the 36 transformed weights of each pair of channels, written and read.

    In a cache: a tile's 16 inputs of a channel are read, its 36 written and read twice, as they are and transformed;
    its 36 products of an output channel are written and read, its 16 outputs written and read.
    """
    tiles = batch * math.prod(winograd.tile_grid(height, width))
    cached = tiles * (in_channels * (16 + 4 * 36) + out_channels * (2 * 36 + 2 * 16))
    moved = 16 * tiles * out_channels + 2 * 36 * in_channels * out_channels
    macs = winograd.multiply_accumulates(batch, in_channels, out_channels, height, width)
    return macs + 4 * (MACS_PER_CACHED_BYTE * cached + MACS_PER_BYTE * moved)


def _factored_cost(in_channels: int, out_channels: int, height: int, width: int, factor: int, block: int | None) -> int:
    """Rows where two blocks meet are mixed twice, and the matrices are dense within a block.

    Bytes: the input is read; nine maps at the low resolution are written and read; three maps of full width are
    written, reordered (read and written) and read; the output is written, and read and written once more as its blocks
    are joined.
    """
    mixed_rows = sum(taps for _, taps in _block_sizes(height, factor, block)) // 3
    low, wide, high = mixed_rows * width, mixed_rows * factor * width, factor**2 * height * width
    along_rows, along_columns = (
        sum(pixels * taps for pixels, taps in _block_sizes(side, factor, block)) for side in (width, height)
    )
    macs = out_channels * (9 * in_channels * low + 3 * mixed_rows * along_rows + factor * width * along_columns)
    numbers = in_channels * low + out_channels * (2 * 9 * low + 4 * 3 * wide + 3 * high)
    return macs + MACS_PER_BYTE * 4 * numbers


def _block_sizes(low: int, factor: int, block: int | None) -> list[tuple[int, int]]:
    """Return rows and columns of the matrix of each block of an axis: pixels made, and taps they are made of."""
    if block is None:
        return [(factor * low, 3 * low)]
    return [(high.stop - high.start, taps.stop - taps.start) for _, high, taps in cut(low, factor, block)]
