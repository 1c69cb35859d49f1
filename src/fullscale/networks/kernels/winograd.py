"""A 3x3 convolution with a quarter of the multiplications: Winograd's minimal filtering F(4x4, 3x3).

Letters: B batch, C input channels, O output channels, H W size of the map, T tiles.

Sixteen outputs of a 3x3 convolution, 4x4 of them, are made of a tile of 6x6 inputs by 144 multiplications a pair of
channels when it is done as it is written, and by 36 with the matrices of Cook and Toom (S. Winograd, "Arithmetic
Complexity of Computations", 1980; for networks: Lavin and Gray, CVPR 2016):

    Y = A^T [ (G w G^T) * (B^T d B) ] A        w 3x3, d 6x6, Y 4x4, * element by element

Summed over C, the elementwise products are 36 matrix products `[T, C] [C, O]`. The transforms of data and result are
matrix products too, by `B^T (x) B^T` `[36, 36]` and `A^T (x) A^T` `[16, 36]`. They are done a block of tiles at a time,
so that what lies between stays in the processor's cache; the 36 products are done for a group of blocks, because a
matrix product likes many rows, and its weights then come from memory less often.

The finite points 0, +-3/4, +-3/2 keep the error in float32 at about twice that of the direct convolution; the usual
0, +-1, +-2 make it four times.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

POINTS = tuple(Fraction(quarters, 4) for quarters in (0, 3, -3, 6, -6))
TAPS = 3
TILE = len(POINTS) + 1
"""Side of a tile of inputs."""
STEP = TILE - TAPS + 1
"""Side of its outputs, and the distance of two tiles."""

NUMBERS_OF_A_BLOCK, TILES_OF_A_GROUP = 12_000, 320
"""Tiles are transformed together until tiles times channels come to the first, and multiplied together up to the
second; of few channels the first is more."""


def cook_toom(points: tuple[Fraction, ...], taps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Make the matrices of a one-dimensional minimal filter, `Y = A^T [(G w) * (B^T d)]`.

    Two polynomials are evaluated at n points, multiplied there, and their product found again; transposed, that is a
    filter with `taps` taps over n inputs and of m = n + 1 - taps outputs.

    Args:
        points: n - 1 different numbers; the last point is infinity.
        taps: of the filter.

    Returns:
        A^T `[m, n]`, G `[n, taps]` and B^T `[n, n]` in float64.
    """
    n = len(points) + 1
    outputs = n + 1 - taps
    result = [[*(point**power for point in points), Fraction(power == outputs - 1)] for power in range(outputs)]
    weight: list[list[Fraction]] = []
    data: list[list[Fraction]] = []
    for point in points:
        others = [other for other in points if other != point]
        scale = math.prod(point - other for other in others)
        weight.append([point**power / scale for power in range(taps)])
        data.append([*_polynomial(others), Fraction(0)])
    weight.append([Fraction(power == taps - 1) for power in range(taps)])
    data.append(_polynomial(points))
    # On the CPU wherever a network is built: this module may be first imported while one is built without content.
    a, g, b = (
        torch.tensor([[float(v) for v in row] for row in rows], dtype=torch.float64, device="cpu")
        for rows in (result, weight, data)
    )
    return a, g, b


def _polynomial(roots: list[Fraction] | tuple[Fraction, ...]) -> list[Fraction]:
    """Multiply out (x - root) for every root: coefficients, lowest power first."""
    coefficients = [Fraction(1)]
    for root in roots:
        raised, scaled = [Fraction(0), *coefficients], [*(root * c for c in coefficients), Fraction(0)]
        coefficients = [r - s for r, s in zip(raised, scaled, strict=True)]
    return coefficients


A, G, B = (torch.kron(matrix, matrix) for matrix in cook_toom(POINTS, TAPS))
"""Of two dimensions: `[16, 36]`, `[36, 9]`, `[36, 36]`, float64."""


def winograd_conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve a map with zero padding.

    Args:
        x: `[B, C, H, W]`, float32 or float64.
        weight: `[O, C, 3, 3]`.
        bias: `[O]` or None.

    Returns:
        `[B, O, H, W]`, equal to `conv2d(x, weight, bias, padding=1)`, channels last in memory.
    """
    # The first call of an operator of torch's library loads its compiler, 1.5 s of processor time. It is used only
    # where a gradient or a graph needs one.
    plain = not (torch.is_grad_enabled() or torch.compiler.is_compiling())
    pixels: Tensor = (_convolve if plain else _convolve_op)(x.permute(0, 2, 3, 1), weight, bias)
    return pixels.permute(0, 3, 1, 2)


def multiply_accumulates(batch: int, in_channels: int, out_channels: int, height: int, width: int) -> int:
    """Count what `winograd_conv` does: the transforms of weight, data and result, and the 36 products.

    The gradient of the weight takes as many.
    """
    tiles, pairs = batch * math.prod(tile_grid(height, width)), in_channels * out_channels
    transforms = A.numel() * out_channels * tiles + B.numel() * in_channels * tiles + G.numel() * pairs
    return transforms + TILE**2 * pairs * tiles


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Take `[B, H, W, C]` to `[B, H, W, O]`."""
    (batch, height, width, channels), out = x.shape, weight.shape[0]
    rows, columns = tile_grid(height, width)
    transformed = (G.to(x) @ weight.permute(2, 3, 1, 0).reshape(TAPS**2, -1)).view(-1, channels, out)
    result = x.new_empty((batch, STEP * rows, STEP * columns, out))
    tiled = result.view(batch, rows, STEP, columns, STEP, out)
    scratch = _Scratch(x)
    for group in _groups(batch, rows, columns, channels):
        data = _transform_data(x, group, scratch)
        products = torch.bmm(data, transformed, out=scratch("products", TILE**2, data.shape[1], out))
        for images, rows_, at in group:
            target = tiled[images, rows_].permute(2, 4, 0, 1, 3, 5)  # [4, 4, B, rows, columns, O]
            tiles = scratch("tiles", *target.shape)
            torch.mm(A.to(x), products[:, at].flatten(1), out=tiles.view(STEP**2, -1))
            if bias is None:
                target.copy_(tiles)
            else:
                torch.add(tiles, bias, out=target)
    exact = result.shape[1:3] == (height, width)
    return result if exact else result[:, :height, :width].contiguous()


def _weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """Take `[B, H, W, C]` and the gradient `[B, H, W, O]` of what it became to the gradient `[O, C, 3, 3]`."""
    (batch, height, width, channels), out = x.shape, gradient.shape[3]
    rows, columns = tile_grid(height, width)
    below, beside = STEP * rows - height, STEP * columns - width
    if below or beside:  # torch copies even what needs no padding
        gradient = F.pad(gradient, (0, 0, 0, beside, 0, below))
    tiled = gradient.reshape(batch, rows, STEP, columns, STEP, out)
    total = x.new_zeros(TILE**2, channels, out)
    scratch = _Scratch(x)
    for group in _groups(batch, rows, columns, channels):
        data = _transform_data(x, group, scratch)
        products = scratch("products", TILE**2, data.shape[1], out)
        for images, rows_, at in group:
            part = tiled[images, rows_].permute(2, 4, 0, 1, 3, 5)
            tiles = scratch("tiles", *part.shape).copy_(part)
            torch.mm(A.to(x).t(), tiles.view(STEP**2, -1), out=products[:, at].flatten(1))
        torch.baddbmm(total, data.transpose(1, 2), products, out=total)
    return (G.to(x).t() @ total.flatten(1)).view(TAPS, TAPS, channels, out).permute(3, 2, 0, 1).contiguous()


class _Scratch:
    """Memory that every block of a map uses again: to ask the system for it anew would cost more than to fill it."""

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.held: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        numbers = math.prod(shape)
        if name not in self.held or self.held[name].numel() < numbers:
            self.held[name] = self.like.new_empty((numbers,))
        return self.held[name][:numbers].view(shape)


def tile_grid(height: int, width: int) -> tuple[int, int]:
    """Return how many tiles stand below and beside each other."""
    return -(-height // STEP), -(-width // STEP)


class _Block(NamedTuple):
    """Tiles that are transformed together: whole rows of them, of some images or of one.

    Attributes:
        images: which images.
        rows: which rows of tiles.
        at: which tiles of its group they are.
    """

    images: slice
    rows: slice
    at: slice


def _groups(batch: int, rows: int, columns: int, channels: int) -> Iterator[list[_Block]]:
    """Cut images and rows of tiles into blocks of about `NUMBERS_OF_A_BLOCK`, gathered up to `TILES_OF_A_GROUP`."""
    tiles_at_once = NUMBERS_OF_A_BLOCK // channels
    images_at_once = max(1, tiles_at_once // (rows * columns))
    rows_at_once = rows if images_at_once > 1 else max(1, tiles_at_once // columns)
    group: list[_Block] = []
    for image in range(0, batch, images_at_once):
        images = slice(image, min(image + images_at_once, batch))
        for row in range(0, rows, rows_at_once):
            some_rows = slice(row, min(row + rows_at_once, rows))
            first = group[-1].at.stop if group else 0
            stop = first + (images.stop - image) * (some_rows.stop - row) * columns
            if group and stop > TILES_OF_A_GROUP:
                yield group
                group, first, stop = [], 0, stop - first
            group.append(_Block(images, some_rows, slice(first, stop)))
    if group:
        yield group


def _transform_data(x: Tensor, group: list[_Block], scratch: _Scratch) -> Tensor:
    """Take the overlapping tiles of a group of blocks of `[B, H, W, C]` to `[36, T, C]`.

    There are zeros around the map: the convolution's border, and what the last tiles reach beyond it.
    """
    _, height, width, channels = x.shape
    columns = tile_grid(height, width)[1]
    data = scratch("data", TILE**2, group[-1].at.stop, channels)
    for images, rows, at in group:
        first, stop = STEP * rows.start - 1, STEP * rows.stop + 1
        top, bottom = max(first, 0), min(stop, height)
        strip = scratch("strip", images.stop - images.start, stop - first, STEP * columns + TAPS - 1, channels)
        for beyond in (strip[:, : top - first], strip[:, bottom - first :], strip[:, :, :1], strip[:, :, width + 1 :]):
            beyond.zero_()
        strip[:, top - first : bottom - first, 1 : width + 1] = x[images, top:bottom]
        tiles = strip.unfold(1, TILE, STEP).unfold(2, TILE, STEP).permute(4, 5, 0, 1, 2, 3)  # [6, 6, B, h, w, C]
        gathered = scratch("gathered", *tiles.shape).copy_(tiles).view(TILE**2, -1)
        torch.mm(B.to(x), gathered, out=data[:, at].flatten(1))
    return data


_convolve_op = torch.library.custom_op("fullscale::winograd_conv", _convolve, mutates_args=())
_weight_gradient_op = torch.library.custom_op("fullscale::winograd_weight_gradient", _weight_gradient, mutates_args=())


@_convolve_op.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ARG001
    return x.new_empty((*x.shape[:3], weight.shape[0]))


@_weight_gradient_op.register_fake
def _(x: Tensor, gradient: Tensor) -> Tensor:
    return x.new_empty((gradient.shape[3], x.shape[3], TAPS, TAPS))


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs[:2])


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    for_x, for_weight, for_bias = ctx.needs_input_grad
    to_weight = _weight_gradient_op(x, gradient) if for_weight else None
    del x  # it may have been made for this
    to_x = _convolve_op(gradient, weight.flip(2, 3).transpose(0, 1), None) if for_x else None
    return to_x, to_weight, gradient.sum((0, 1, 2)) if for_bias else None


_convolve_op.register_autograd(_backward, setup_context=_keep)
