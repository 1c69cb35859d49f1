"""Normalisation and ReLU of maps that are joined, on a CPU: in few passes over memory, and keeping little.

Letters: B batch, C channels of a map, F of all together, `...` the size of a map (H W or D H W), G groups that are
normalised by themselves (one of all images for a batch norm in training, one an image for an instance norm).

A convolution's output, its normalisation, the ReLU of that and the joined map hold the same numbers but for a few per
channel, and as PyTorch comes the backward pass keeps two of them. Here it keeps the first alone. The gradient makes the
others again, and the convolution that takes the joined map is told to make it again too (`remade`).

The work is done by torch's batch norm, whose loops are quick where a map is channels last and its channels lie together
in memory. So a part of a joined map is copied before it is gone through: torch's own gradient, given that part as it
lies, takes twelve times as long. An instance norm is the batch norm of an image; torch's own copies a map that is
channels last into another order and back. Of bf16 maps the statistics, and all sums, are float32. Those of a batch norm
are as exact as torch's own of a map that is channels last, those of an instance norm more so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fullscale.networks.kernels.forms import channels_last, eager_on_cpu
from fullscale.networks.norms import InstanceNorm

Norm = nn.BatchNorm2d | nn.BatchNorm3d | InstanceNorm

PARTS, LARGE = 64, 8192
"""Into how many parts the pixels of a map are divided for the statistics of an instance norm, and from how many on."""


def norm_act_applies(x: Tensor, norm: nn.Module) -> bool:
    """Whether `norm_act` may stand in for a norm of maps like `x`.

    For an instance norm, and for a plain batch norm, with weight, bias and running statistics, in training; eager, on a
    CPU.
    """
    eager = eager_on_cpu(x)
    if isinstance(norm, InstanceNorm):
        return eager
    if type(norm) not in (nn.BatchNorm2d, nn.BatchNorm3d) or not norm.training:
        return False
    parts = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    return eager and all(numbers is not None for numbers in parts)


def norm_act(maps: Sequence[Tensor], norms: Sequence[Norm], slope: float = 0.0) -> tuple[Tensor, Callable[[], Tensor]]:
    """Normalise each map by its own norm, join them by channels, ReLU; running statistics are updated.

    Args:
        maps: `[B, C, ...]` each, C of its own, of one type.
        norms: of each map, all of one kind, for which `norm_act_applies` must hold.
        slope: of the ReLU for negative values; with another than 0 it is a leaky one.

    Returns:
        `[B, F, ...]`, channels last in memory, and a function that makes it again.

    Raises:
        ValueError: there is one pixel only for a batch norm, as torch has it.
    """
    moments = [_moments(x, norm) for x, norm in zip(maps, norms, strict=True)]
    mean, variance = (torch.cat(numbers, dim=1) for numbers in zip(*moments, strict=True))
    weight, bias = (torch.cat([getattr(norm, name) for norm in norms]) for name in ("weight", "bias"))
    kept = [x.detach() for x in maps]
    numbers = weight.detach(), bias.detach(), mean, variance
    how = norms[0].eps, slope
    return _NormAct.apply(weight, bias, mean, variance, *how, *maps), lambda: _joined(kept, *numbers, *how)


class _NormAct(torch.autograd.Function):
    """Of maps `[B, C, ...]` with mean and variance `[G, F]` of their channels, weight and bias `[F]`."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float, slope: float, *maps: Tensor
    ) -> Tensor:
        """Take the maps to `[B, F, ...]`."""
        ctx.save_for_backward(weight, bias, mean, variance, *maps)
        ctx.eps, ctx.slope = eps, slope
        return _joined(maps, weight, bias, mean, variance, eps, slope)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Take the gradient `[B, F, ...]` back to weight, bias and the maps; through mean and deviation too."""
        weight, bias, mean, variance, *maps = ctx.saved_tensors
        rstd = torch.rsqrt(variance + ctx.eps)
        to_weight, to_bias, to_maps = torch.zeros_like(weight), torch.zeros_like(bias), []
        for x, at in zip(maps, _channels(maps), strict=True):
            to_groups = []
            for group, images in enumerate(_groups(x, len(mean))):
                numbers = weight[at], bias[at], mean[group, at], variance[group, at]
                normalised = _normalised(images, *numbers, ctx.eps)
                passed = torch.empty_like(normalised).copy_(_groups(gradient, len(mean))[group][:, at])
                _act_backward(passed, normalised, ctx.slope)
                to_images, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
                    passed, images, weight[at], None, None, mean[group, at], rstd[group, at], True, ctx.eps, [True] * 3
                )
                to_groups.append(to_images)
                to_weight[at] += of_weight
                to_bias[at] += of_bias
            to_maps.append(_together(to_groups, dim=0))
        return to_weight, to_bias, None, None, None, None, *to_maps


def _joined(
    maps: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    slope: float,
) -> Tensor:
    """Normalise maps `[B, C, ...]` with numbers `[F]` and `[G, F]`, join, ReLU: `[B, F, ...]`, channels last."""
    joined = []
    for group, images in enumerate(zip(*(_groups(x, len(mean)) for x in maps), strict=True)):
        joined.append(
            _together(
                [
                    _normalised(x, weight[at], bias[at], mean[group, at], variance[group, at], eps)
                    for x, at in zip(images, _channels(maps), strict=True)
                ],
                dim=1,
            )
        )
    return _act(_together(joined, dim=0), slope)


def _normalised(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Tensor:
    """Normalise the images of a group, `[b, C, ...]`, with numbers `[C]`."""
    return torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, eps)[0]


def _act(x: Tensor, slope: float) -> Tensor:
    """Rectify in place."""
    return F.leaky_relu_(x, slope) if slope else x.clamp_min_(0)


def _act_backward(gradient: Tensor, before: Tensor, slope: float) -> None:
    """Replace a gradient by what passes, from what was rectified."""
    if slope:
        torch.ops.aten.leaky_relu_backward.grad_input(gradient, before, slope, False, grad_input=gradient)
    else:
        torch.ops.aten.threshold_backward.grad_input(gradient, before, 0, grad_input=gradient)


def _moments(x: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """Return mean and variance `[G, C]` of a map, and update the running statistics of a batch norm.

    Raises:
        ValueError: there is one pixel only for a batch norm, as torch has it.
    """
    with torch.no_grad():
        if isinstance(norm, InstanceNorm):
            each = [_of_image(image, norm.weight) for image in _groups(x, len(x))]
            mean, variance = (torch.stack(numbers) for numbers in zip(*each, strict=True))
            return mean, variance
        if x.numel() == x.shape[1]:
            raise ValueError(f"expected more than 1 value per channel when training, got {list(x.shape)}")
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked += 1
        momentum = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
        mean, variance = torch.batch_norm_update_stats(channels_last(x), norm.running_mean, norm.running_var, momentum)
        return mean[None], variance[None]


def _of_image(image: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance `[C]` of an image `[1, C, ...]`, channels last in memory; `weight` gives their type.

    Torch adds up the pixels one after the other. Of a large map that is nearly of one value, as in air, the sum drifts,
    and is no longer small against the deviation. So pixels that lie together are counted as channels of their own.
    """
    channels, pixels = image.shape[1], math.prod(image.shape[2:])
    rows = image.movedim(1, -1).reshape(pixels, channels)
    if pixels < LARGE:
        return _of_rows(rows, weight)
    rest = pixels % PARTS
    found = [_of_rows(rows[: pixels - rest].view(-1, PARTS * channels), weight)]
    if rest:
        found.append(_of_rows(rows[pixels - rest :], weight))
    means, variances = (torch.cat([of.view(-1, channels) for of in numbers]) for numbers in zip(*found, strict=True))
    share = weight.new_tensor([pixels // PARTS] * PARTS + [rest] * (rest > 0))[:, None] / pixels
    mean = (share * means).sum(dim=0)
    return mean, (share * (variances + (means - mean).square_())).sum(dim=0)


def _of_rows(rows: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of each column of `[n, columns]`."""
    unused = weight.new_zeros(rows.shape[1])  # running statistics
    return torch.batch_norm_update_stats(rows[None, :, None].movedim(-1, 1), unused, unused, 0.0)


def _channels(maps: Sequence[Tensor]) -> Iterator[slice]:
    """Say which channels of the joined map are those of each map."""
    first = 0
    for x in maps:
        yield slice(first, first + x.shape[1])
        first += x.shape[1]


def _groups(x: Tensor, groups: int) -> tuple[Tensor, ...]:
    """Divide the images of a map into those that are normalised together, channels last in memory."""
    return torch.split(channels_last(x), x.shape[0] // groups)


def _together(parts: Sequence[Tensor], dim: int) -> Tensor:
    """Join maps; a single one is left as it is."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=dim)
