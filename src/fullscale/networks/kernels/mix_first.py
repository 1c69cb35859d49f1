"""A 3x3x3 convolution to few outputs on a CPU: channels are mixed first, for all 27 taps, and the products shifted.

Letters: B batch, C input channels, O outputs, D H W size of the map.

A convolution on a CPU pads its outputs to the width of a vector, and its gradient of the weight is slower still: of 3
classes one output in 3 is real. Mixed first, the 27 O products of a voxel are one matrix product; each is added
where its tap reaches. A block of slices is done at a time, and nothing of it is kept for the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SLICES = 8
"""Of a block."""


def mixed_conv3d(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve `[B, C, D, H, W]` with `[O, C, 3, 3, 3]` and a border of zeros; equal to `F.conv3d(padding=1)`."""
    result: Tensor = _MixedConv.apply(x, weight.permute(2, 3, 4, 0, 1).flatten(0, 3))
    return result if bias is None else result + bias[:, None, None, None]


class _MixedConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mixing: Tensor) -> Tensor:
        """Take `[B, C, D, H, W]` by mixing `[(dz dy dx o), C]` to `[B, O, D, H, W]`."""
        ctx.save_for_backward(x, mixing)
        batch, _, *sides = x.shape
        bordered = x.new_zeros(batch, len(mixing) // 27, *(side + 2 for side in sides))
        for image, pixels, target in _blocks(x, bordered):
            products = (mixing @ pixels.t()).view(27, -1, *image.shape[:3])
            for at, of_tap in zip(_reached(image.shape), products, strict=True):
                target[at] += of_tap
        return bordered[:, :, 1:-1, 1:-1, 1:-1].contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        """Take the gradient `[B, O, D, H, W]` back to x and mixing."""
        x, mixing = ctx.saved_tensors
        to_x = torch.empty_like(x, memory_format=torch.channels_last_3d)
        to_mixing = torch.zeros_like(mixing)
        bordered = torch.nn.functional.pad(gradient, (1, 1, 1, 1, 1, 1))
        for (image, pixels, source), (to_image, *_) in zip(_blocks(x, bordered), _blocks(to_x, bordered), strict=True):
            products = torch.stack([source[at] for at in _reached(image.shape)]).view(len(mixing), -1)
            to_mixing += products @ pixels
            to_image.copy_((products.t() @ mixing).view(to_image.shape))
        return to_x, to_mixing


def _blocks(x: Tensor, bordered: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Cut maps `[B, C, D, H, W]` and `[B, O, D + 2, H + 2, W + 2]` into blocks of slices.

    Of each: the map `[d, H, W, C]`, the same as `[(d H W), C]`, and what its taps reach, `[O, d + 2, H + 2, W + 2]`.
    """
    for image, whole in zip(x.movedim(1, -1), bordered, strict=True):
        for first in range(0, len(image), SLICES):
            block = image[first : first + SLICES]
            yield block, block.reshape(-1, x.shape[1]), whole[:, first : first + len(block) + 2]


def _reached(sides: torch.Size) -> Iterator[tuple[slice, ...]]:
    """Say for each tap, dz outermost, where the products of a block `[d, H, W, ?]` go: tap 0 reaches ahead."""
    for tap in product(range(3), repeat=3):
        yield (slice(None), *(slice(2 - shift, 2 - shift + side) for shift, side in zip(tap, sides[:3], strict=True)))
