"""The factored form in 3D: a 3x3x3 convolution of a map up-sampled along each axis, without making that map.

Letters: B batch, C input channels, O output channels, D H W the size of the map that comes in, k m n the factors by
which its axes are up-sampled (1 leaves one as it is).

As in 2D (see `scaled_conv`) channels are mixed at the LOW resolution, for all 27 taps, and what remains is separable:

    conv(up(x)) = sum over dz  S(dz)U [ sum over dy  S(dy)U [ sum over dx  S(dx)U ( W[dz, dy, dx] x ) ] ]

with S(d)U the matrices of `shifted_taps`, one a tap and axis. The inner sum runs along W, the next along H, the last
along D. Each is a matrix product that reads its maps as they lie. A block of slices is done at a time: what lies
between input and output stays small, and nothing of it is kept for the backward pass, which walks the same way back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fullscale.networks.kernels.forms import autocasts, without_autocast
from fullscale.networks.kernels.taps import shifted_taps

Factors = tuple[int, int, int]


def upsampled_conv3d_factored(
    x: Tensor, weight: Tensor, bias: Tensor | None, factors: Factors, block: int | None
) -> Tensor:
    """Convolve the up-sampled map without making it.

    Args:
        x: `[B, C, D, H, W]`, the low resolution.
        weight: `[O, C, 3, 3, 3]`.
        bias: `[O]` or None.
        factors: k m n, the trilinear up-sampling factors.
        block: slices of the low resolution that are done together; None is all of them.

    Returns:
        `[B, O, kD, mH, nW]`, equal to `conv3d(interpolate(x, factors), weight, bias, padding=1)`. Of bf16 maps the
        products are bf16 and what is summed from them float32.
    """
    device = x.device.type
    if autocasts(device):
        x, weight = (tensor.to(torch.get_autocast_dtype(device)) for tensor in (x, weight))
    mixing = weight.permute(4, 3, 2, 0, 1).flatten(1, 3)  # [dx, (dy dz o), C]
    taps = [torch.stack(shifted_taps(side, factor, x)) for side, factor in zip(x.shape[2:], factors, strict=True)]
    with without_autocast(device):
        high: Tensor = _FactoredProduct.apply(x, mixing, *taps, factors[0], block)
    if bias is not None:
        high = high + bias[:, None, None, None]
    return high.to(x.dtype)


class _FactoredProduct(torch.autograd.Function):
    """Mix channels at the low resolution, then interpolate, shift and sum along W, H and D."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        mixing: Tensor,
        depth: Tensor,
        rows: Tensor,
        columns: Tensor,
        factor: int,
        block: int | None,
    ) -> Tensor:
        """Take `[B, C, D, H, W]` by mixing `[dx, (dy dz o), C]` and taps `[3, kN, N]` to `[B, O, kD, mH, nW]`."""
        ctx.save_for_backward(x, mixing, depth, rows, columns)
        ctx.factor, ctx.block = factor, block
        slabs = list(_slabs(x.shape[2], factor, block))
        if len(slabs) == 1:
            high = _of_slab(x, slabs[0], mixing, depth, rows, columns)
        else:
            high = columns.new_zeros(x.shape[0], mixing.shape[1] // 9, depth.shape[1], rows.shape[1] * columns.shape[1])
            for at in slabs:
                high[:, :, at.high] += _of_slab(x, at, mixing, depth, rows, columns)
        return high.view(*high.shape[:3], rows.shape[1], columns.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Take the gradient `[B, O, kD, mH, nW]` back to x and mixing."""
        x, mixing, depth, rows, columns = ctx.saved_tensors
        gradient = gradients[0].flatten(3)
        to_x, to_mixing = torch.zeros_like(x), torch.zeros_like(mixing)
        with without_autocast(x.device.type):
            for at in _slabs(x.shape[2], ctx.factor, ctx.block):
                slab = x[:, :, at.low]
                pixels = slab.transpose(0, 1).flatten(1)
                to_pixels = torch.zeros_like(pixels)
                stacked = torch.matmul(_along_depth(depth, at).t(), gradient[:, :, at.high])  # [B, O, (dz d), ...]
                tall = stacked.view(*stacked.shape[:2], 3, slab.shape[2], -1).permute(2, 1, 0, 3, 4)
                for tap, mixed in enumerate(_from_plane(tall, rows, columns)):  # [(dy dz o), (b d h w)]
                    mixed = mixed.to(x.dtype)
                    to_mixing[tap] += mixed @ pixels.t()
                    to_pixels.addmm_(mixing[tap].t(), mixed)
                to_x[:, :, at.low] = to_pixels.view(x.shape[1], *_without_channels(slab)).transpose(0, 1)
        return to_x, to_mixing, None, None, None, None, None


def _along_depth(depth: Tensor, at: _Slab) -> Tensor:
    """Put the taps of a slab beside each other: `[kd, (dz d)]`."""
    return torch.cat([taps[at.high, at.low] for taps in depth], dim=1)


def _of_slab(x: Tensor, at: _Slab, mixing: Tensor, depth: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Make what a slab of `[B, C, D, H, W]` adds to the slices that it reaches: `[B, O, kd, (mH nW)]`."""
    slab = x[:, :, at.low]
    pixels = slab.transpose(0, 1).flatten(1)  # [C, (b d h w)]
    tall = _to_plane(pixels, mixing, rows, columns)  # [(dz o b d), (mH nW)]
    tall = tall.view(3, -1, slab.shape[0], slab.shape[2], tall.shape[1])
    return torch.matmul(_along_depth(depth, at), tall.permute(2, 1, 0, 3, 4).flatten(2, 3))


def _to_plane(pixels: Tensor, mixing: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Take `[C, (b d h w)]` by mixing `[dx, (dy dz o), C]` to `[(dz o b d), (mH nW)]`: channels, W and H are done."""
    wide: Tensor | None = None
    for mix, along_width in zip(mixing, columns, strict=True):
        mixed = (mix @ pixels).to(columns.dtype).view(-1, columns.shape[2])  # [(dy dz o b d h), w]
        wide = mixed @ along_width.t() if wide is None else torch.addmm(wide, mixed, along_width.t())
    assert wide is not None
    planes = wide.view(3, -1, rows.shape[2], columns.shape[1])  # [dy, (dz o b d), h, nW]
    tall = torch.matmul(rows[0], planes[0])
    for along_height, plane in zip(rows[1:], planes[1:], strict=True):
        tall = torch.baddbmm(tall, along_height.expand(plane.shape[0], -1, -1), plane)
    return tall.flatten(1)


def _from_plane(tall: Tensor, rows: Tensor, columns: Tensor) -> Iterator[Tensor]:
    """Take the gradient of `_to_plane`, `[dz, O, B, d, (mH nW)]`, to what was mixed for each dx.

    That is `[(dy dz o), (b d h w)]`.
    """
    planes = tall.reshape(-1, rows.shape[1], columns.shape[1])
    wide = torch.stack([torch.matmul(along_height.t(), planes) for along_height in rows])  # [dy, (dz o b d), h, nW]
    for along_width in columns:
        yield (wide.view(-1, wide.shape[-1]) @ along_width).view(9 * tall.shape[1], -1)


class _Slab(NamedTuple):
    """Slices of the low resolution, and those of the high one that they reach."""

    low: slice
    high: slice


def _slabs(low: int, factor: int, block: int | None) -> Iterator[_Slab]:
    if block is None:
        yield _Slab(slice(None), slice(None))
        return
    for first in range(0, low, block):
        stop = min(first + block, low)
        yield _Slab(slice(first, stop), slice(factor * max(first - 1, 0), factor * min(stop + 1, low)))


def slab_sizes(low: int, factor: int, block: int | None) -> list[tuple[int, int]]:
    """Return of each block of slices how many high-resolution slices it reaches, and how many it has."""
    if block is None:
        return [(factor * low, low)]
    slabs = _slabs(low, factor, block)
    return [(slab.high.stop - slab.high.start, slab.low.stop - slab.low.start) for slab in slabs]


def _without_channels(x: Tensor) -> tuple[int, ...]:
    return (x.shape[0], *x.shape[2:])
