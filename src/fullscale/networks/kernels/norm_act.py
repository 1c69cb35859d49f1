"""Normalisation and ReLU of maps that are joined, on a CPU: in few passes over memory, and keeping little.

Letters: B batch, C channels of a map, F of all together, `...` the size of a map (H W or D H W), G groups that are
normalised by themselves (one of all images for a batch norm in training, one an image for an instance norm), N pixels
of a group.

A convolution's output, its normalisation, the ReLU of that and the joined map hold the same numbers but for a few per
channel, and as PyTorch comes the backward pass keeps two of them. Here it keeps the first alone. The gradient makes the
others again, a block of pixels at a time, which stays in the processor's cache; and the convolution that takes the
joined map is told to make it again too (`remade`). Torch's own gradient of a batch norm is also slow with a part of a
joined map: it reads the channels that it is given with the stride of all. Its instance norm copies a map that is
channels last into another order and back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fullscale.networks.kernels.forms import eager_on_cpu
from fullscale.networks.norms import InstanceNorm

Norm = nn.BatchNorm2d | nn.BatchNorm3d | InstanceNorm

NUMBERS_OF_A_BLOCK = 500_000
"""Pixels times channels that are normalised together."""


def norm_act_applies(x: Tensor, norm: nn.Module) -> bool:
    """Whether `norm_act` may stand in for a norm of maps like `x`.

    For an instance norm, and for a plain batch norm, with weight, bias and running statistics, in training; eager, on a
    CPU, in float32 or float64.
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
        maps: `[B, C, ...]` each, C of its own.
        norms: of each map, all of one kind, for which `norm_act_applies` must hold.
        slope: of the ReLU for negative values; with another than 0 it is a leaky one.

    Returns:
        `[B, F, ...]`, channels last in memory, and a function that makes it again.

    Raises:
        ValueError: there is one pixel only for a batch norm, as torch has it.
    """
    moments = [_moments(x, norm) for x, norm in zip(maps, norms, strict=True)]
    mean, rstd = (torch.cat(numbers, dim=1) for numbers in zip(*moments, strict=True))
    weight, bias = (torch.cat([getattr(norm, name) for norm in norms]) for name in ("weight", "bias"))
    kept = [x.detach() for x in maps]
    factors = mean, rstd * weight.detach(), bias.detach()
    return _NormAct.apply(weight, bias, mean, rstd, slope, *maps), lambda: _joined(kept, *factors, slope)


class _NormAct(torch.autograd.Function):
    """Of maps `[B, C, ...]` with mean and 1 / deviation `[G, F]` of their channels, weight and bias `[F]`."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor, slope: float, *maps: Tensor
    ) -> Tensor:
        """Take the maps to `[B, F, ...]`."""
        ctx.save_for_backward(weight, bias, mean, rstd, *maps)
        ctx.slope = slope
        return _joined(maps, mean, rstd * weight, bias, slope)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Take the gradient `[B, F, ...]` back to weight, bias and the maps; through mean and deviation too."""
        weight, bias, mean, rstd, *maps = ctx.saved_tensors
        scale, to_weight, to_bias = rstd * weight, torch.zeros_like(weight), torch.zeros_like(bias)
        to_maps = [_channels_last(x, x.shape[1]) for x in maps]
        for x, to_x, at in zip(maps, to_maps, _channels(maps), strict=True):
            groups = (_groups(each, len(mean)) for each in (x, gradient[:, at], to_x))
            for group, (pixels, passed, target) in enumerate(zip(*groups, strict=True)):
                numbers = (mean[group, at], rstd[group, at], scale[group, at], bias[at])
                of_group = _GroupGradient(pixels, passed, *numbers, ctx.slope)
                of_bias, of_weight = of_group.sums()
                of_group.write(target, of_bias, of_weight)
                to_bias[at] += of_bias
                to_weight[at] += of_weight
        return to_weight, to_bias, None, None, None, *to_maps


class _GroupGradient:
    """The gradient of a group of pixels `[N, C]`, in two walks over its blocks: sums, then what depends on them."""

    def __init__(
        self, x: Tensor, gradient: Tensor, mean: Tensor, rstd: Tensor, scale: Tensor, bias: Tensor, slope: float
    ) -> None:
        self.x, self.gradient, self.slope = x, gradient, slope
        self.mean, self.rstd, self.scale, self.bias = mean, rstd, scale, bias
        self.scratch = self.x.new_empty(2, *next(_blocks(self.x))[0].shape)

    def sums(self) -> tuple[Tensor, Tensor]:
        """Sum over pixels what passes the ReLU, and its product with the normalised map: `[C]` each."""
        of_gradient, of_product = torch.zeros_like(self.bias), torch.zeros_like(self.bias)
        for passed, centred, _ in self._walk():
            of_gradient += passed.sum(0)
            of_product += passed.mul_(centred).sum(0)
        return of_gradient, of_product * self.rstd

    def write(self, target: Tensor, of_gradient: Tensor, of_product: Tensor) -> None:
        """Fill the gradient of the pixels, `[N, C]`."""
        of_pixel = -self.scale / len(self.x)
        constant, slope = of_pixel * of_gradient, of_pixel * self.rstd * of_product
        for passed, centred, at in self._walk():
            torch.addcmul(constant, centred, slope, out=centred)
            torch.addcmul(centred, passed, self.scale, out=target[at])

    def _walk(self) -> Iterator[tuple[Tensor, Tensor, slice]]:
        """For each block: the gradient that the ReLU lets through and the map less its mean, in scratch; and where."""
        for block, at in _blocks(self.x):
            centred, passed = self.scratch[:, : len(block)]
            torch.sub(block, self.mean, out=centred)
            torch.addcmul(self.bias, centred, self.scale, out=passed)
            _act_backward(self.gradient[at], passed, self.slope)
            yield passed, centred, at


def _act(x: Tensor, slope: float) -> Tensor:
    """Rectify in place."""
    return F.leaky_relu_(x, slope) if slope else x.clamp_min_(0)


def _act_backward(gradient: Tensor, before: Tensor, slope: float) -> None:
    """Replace what was rectified by the gradient that passes."""
    if slope:
        torch.ops.aten.leaky_relu_backward.grad_input(gradient, before, slope, False, grad_input=before)
    else:
        torch.ops.aten.threshold_backward(gradient, before, 0, grad_input=before)


def _moments(x: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """Return mean and 1 / deviation `[G, C]` of a map, and update the running statistics of a batch norm.

    Raises:
        ValueError: there is one pixel only for a batch norm, as torch has it.
    """
    with torch.no_grad():
        if isinstance(norm, InstanceNorm):
            each = [torch.batch_norm_update_stats(image, None, None, 0.0) for image in torch.split(x, 1)]
            mean, variance = (torch.stack(numbers) for numbers in zip(*each, strict=True))
            return mean, torch.rsqrt(variance + norm.eps)
        if x.numel() == x.shape[1]:
            raise ValueError(f"expected more than 1 value per channel when training, got {list(x.shape)}")
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked += 1
        momentum = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
        mean, variance = torch.batch_norm_update_stats(x, norm.running_mean, norm.running_var, momentum)
        return mean[None], torch.rsqrt(variance + norm.eps)[None]


def _joined(maps: Sequence[Tensor], mean: Tensor, scale: Tensor, bias: Tensor, slope: float) -> Tensor:
    """Normalise maps `[B, C, ...]` with numbers `[G, F]` and `[F]`, ReLU: `[B, F, ...]`, channels last in memory."""
    joined = _channels_last(maps[0], len(bias))
    for x, channels in zip(maps, _channels(maps), strict=True):
        groups = zip(_groups(x, len(mean)), _groups(joined[:, channels], len(mean)), strict=True)
        for group, (pixels, target) in enumerate(groups):
            for block, at in _blocks(pixels):
                result = torch.sub(block, mean[group, channels], out=target[at])
                _act(result.mul_(scale[group, channels]).add_(bias[channels]), slope)
    return joined


def _channels(maps: Sequence[Tensor]) -> Iterator[slice]:
    """Say which channels of the joined map are those of each map."""
    first = 0
    for x in maps:
        yield slice(first, first + x.shape[1])
        first += x.shape[1]


def _channels_last(like: Tensor, channels: int) -> Tensor:
    return like.new_empty(like.shape[0], *like.shape[2:], channels).movedim(-1, 1)


def _groups(x: Tensor, groups: int) -> Tensor:
    """See `[B, C, ...]` as `[G, N, C]`; of a map that is not channels last, a copy."""
    pixels = x.movedim(1, -1).flatten(0, -2)
    return pixels.view(groups, len(pixels) // groups, x.shape[1])


def _blocks(pixels: Tensor) -> Iterator[tuple[Tensor, slice]]:
    """Cut `[N, C]` into blocks of about `NUMBERS_OF_A_BLOCK`, each with where it is."""
    step = max(1, NUMBERS_OF_A_BLOCK // pixels.shape[1])
    for first in range(0, len(pixels), step):
        at = slice(first, first + step)
        yield pixels[at], at
