"""A 3x3x3 convolution on a CPU: channels last in memory, and the gradient of its weight by slices.

Letters: B batch, C input channels, O output channels, D H W size of a map.

Torch (oneDNN) convolves a map that is channels last one and a half times as fast as another, and its gradient of the
weight twice as fast. That gradient is half as fast again in 2D: it is a sum of three, one for each neighbour in depth,
of two-dimensional ones in which every slice is an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fullscale.networks.kernels.forms import channels_last, eager_on_cpu, exact_on_short_vectors
from fullscale.networks.kernels.strided import strided_conv

PADDING = [1, 1, 1]
LEAST_PIXELS = 1_000
"""Of a map, below which three calls cost more than they save."""


def conv3d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...] = (1, 1, 1)) -> Tensor:
    """Convolve `[B, C, D, H, W]` with `[O, C, 3, 3, 3]` and a border of zeros; the same as `F.conv3d(padding=1)`."""
    if not eager_on_cpu(x):
        return strided_conv(x, weight, bias, stride)
    x = channels_last(x)
    if max(stride) > 1 or x.shape[0] * x[0, 0].numel() < LEAST_PIXELS or not exact_on_short_vectors(x):
        return strided_conv(x, weight, bias, stride)
    convolved: Tensor = _Conv3d.apply(x, weight, bias)
    return convolved


class _Conv3d(torch.autograd.Function):
    """Torch's convolution, with a gradient of the weight by slices."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Take `[B, C, D, H, W]`, channels last, to `[B, O, D, H, W]`."""
        ctx.save_for_backward(x, weight)
        return F.conv3d(x, weight, bias, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Take the gradient `[B, O, D, H, W]` back to x, weight and bias."""
        x, weight = ctx.saved_tensors
        gradient = channels_last(gradient)
        to_x = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            mask = [True, False, False]
            settings = (None, [1, 1, 1], PADDING, [1, 1, 1], False, [0, 0, 0], 1, mask)
            to_x = torch.ops.aten.convolution_backward(gradient, x, weight, *settings)[0]
        if ctx.needs_input_grad[1]:
            to_weight = weight_gradient(x, gradient, weight)
        if ctx.needs_input_grad[2]:
            to_bias = gradient.sum(dim=(0, 2, 3, 4))
        return to_x, to_weight, to_bias


def weight_gradient(x: Tensor, gradient: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient `[O, C, 3, 3, 3]` of the weight, from maps that are channels last.

    Args:
        x: `[B, C, D, H, W]`.
        gradient: `[B, O, D, H, W]`, of the convolution's output.
        weight: gives the shape.
    """
    taps = []
    for tap in range(3):
        kernel = weight[:, :, tap]
        parts = [_plane_gradient(*pair, kernel) for pair in _pairs(x, gradient, tap - 1)]
        taps.append(torch.stack(parts).sum(dim=0) if parts else torch.zeros_like(kernel))
    return torch.stack(taps, dim=2)


def _pairs(x: Tensor, gradient: Tensor, shift: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Pair slices of a map with those of the gradient that they reach: images `[N, C, H, W]` and `[N, O, H, W]`."""
    images, upstream = (each.transpose(1, 2) for each in (x, gradient))  # [B, D, ?, H, W]
    if shift == 0:
        yield images.flatten(0, 1), upstream.flatten(0, 1)
        return
    depth = x.shape[2]
    here = slice(max(0, -shift), depth - max(0, shift))
    there = slice(max(0, shift), depth - max(0, -shift))
    if depth > 1:
        for image, of_image in zip(images, upstream, strict=True):
            yield image[there], of_image[here]


def _plane_gradient(images: Tensor, gradient: Tensor, kernel: Tensor) -> Tensor:
    """Return the gradient `[O, C, 3, 3]` of a two-dimensional convolution's weight."""
    settings = (None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [False, True, False])
    to_kernel: Tensor = torch.ops.aten.convolution_backward(gradient, images, kernel, *settings)[1]
    return to_kernel
