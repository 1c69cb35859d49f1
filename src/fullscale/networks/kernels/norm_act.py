"""Batch normalisation and ReLU of maps that are joined, in training on a CPU: in few passes, and keeping little.

Letters: B batch, C channels of a map, F of all together, H W size, N = B H W pixels.

A convolution's output, its normalisation, the ReLU of that and the joined map hold the same numbers but for a few per
channel, and as PyTorch comes the backward pass keeps two of them. Here it keeps the first alone. The gradient makes the
others again, a block of pixels at a time, which stays in the processor's cache; and the convolution that takes the
joined map is told to make it again too, by `remade`. Torch's own gradient of a batch norm is also slow with a part of a
joined map: it reads the channels that it is given with the stride of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import saved_tensors_hooks

from fullscale.networks.kernels.forms import is_precise

NUMBERS_OF_A_BLOCK = 500_000
"""Pixels times channels that are normalised together."""


def norm_act_applies(x: Tensor, norm: nn.Module) -> bool:
    """Whether `norm_act` may stand in for a norm of maps like `x`.

    For a plain batch norm, with weight, bias and running statistics, in training; eager, on a CPU, in float32 or
    float64.
    """
    if type(norm) is not nn.BatchNorm2d or not norm.training:
        return False
    complete = all(numbers is not None for numbers in (norm.weight, norm.bias, norm.running_mean, norm.running_var))
    return complete and x.device.type == "cpu" and is_precise(x) and not torch.compiler.is_compiling()


def norm_act(maps: Sequence[Tensor], norms: Sequence[nn.BatchNorm2d]) -> tuple[Tensor, Callable[[], Tensor]]:
    """Normalise each map by its own batch norm, join them by channels, ReLU; running statistics are updated.

    Args:
        maps: `[B, C, H, W]` each, C of its own.
        norms: of each map, for which `norm_act_applies` must hold.

    Returns:
        `[B, F, H, W]`, channels last in memory, and a function that makes it again.

    Raises:
        ValueError: there is one pixel only, as torch has it.
    """
    moments = [_moments(x, norm) for x, norm in zip(maps, norms, strict=True)]
    mean, rstd = (torch.cat(numbers) for numbers in zip(*moments, strict=True))
    weight, bias = (torch.cat([getattr(norm, name) for norm in norms]) for name in ("weight", "bias"))
    kept = [x.detach() for x in maps]
    factors = mean, rstd * weight.detach(), bias.detach()
    return _NormAct.apply(weight, bias, mean, rstd, *maps), lambda: _joined(kept, *factors)


def remade(x: Tensor, make: Callable[[], Tensor]) -> AbstractContextManager[Any]:
    """Within this context nothing keeps `x` for its backward pass: it is made again there.

    Args:
        x: dense in memory; it must live until the context ends.
        make: returns the same numbers, in the same order in memory.

    Raises:
        RuntimeError: in the backward pass, if what else was kept has been changed in place, as torch has it.
    """
    address, numbers = x.data_ptr(), x.numel()

    def pack(saved: Tensor) -> _Remade | _Kept:
        if saved.data_ptr() == address and saved.numel() == numbers:
            return _Remade(saved.shape, saved.stride())
        return _Kept(saved.detach(), saved._version)

    def unpack(packed: _Remade | _Kept) -> Tensor:
        if isinstance(packed, _Remade):
            return make().as_strided(*packed)
        if packed.tensor._version != packed.version:
            raise RuntimeError("a tensor needed for the gradient has been modified by an inplace operation")
        return packed.tensor

    return saved_tensors_hooks(pack, unpack)


class _Remade(NamedTuple):
    shape: torch.Size
    stride: tuple[int, ...]


class _Kept(NamedTuple):
    tensor: Tensor
    version: int


class _NormAct(torch.autograd.Function):
    """Of maps `[B, C, H, W]` with mean and 1 / deviation `[F]` of their channels, weight and bias `[F]`."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor, *maps: Tensor) -> Tensor:
        """Take the maps to `[B, F, H, W]`."""
        ctx.save_for_backward(weight, bias, mean, rstd, *maps)
        return _joined(maps, mean, rstd * weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Take the gradient `[B, F, H, W]` back to weight, bias and the maps; through mean and deviation too."""
        weight, bias, mean, rstd, *maps = ctx.saved_tensors
        scale, to_weight, to_bias = rstd * weight, torch.empty_like(weight), torch.empty_like(bias)
        to_maps = [_channels_last(x, x.shape[1]) for x in maps]
        for x, to_x, at in zip(maps, to_maps, _channels(maps), strict=True):
            of_map = _MapGradient(x, gradient[:, at], mean[at], rstd[at], scale[at], bias[at])
            to_bias[at], to_weight[at] = of_map.sums()
            of_map.write(to_x, to_bias[at], to_weight[at])
        return to_weight, to_bias, None, None, *to_maps


class _MapGradient:
    """The gradient of one map, in two walks over its blocks: sums over all pixels, then what depends on them."""

    def __init__(self, x: Tensor, gradient: Tensor, mean: Tensor, rstd: Tensor, scale: Tensor, bias: Tensor) -> None:
        self.x, self.gradient = _pixels(x), _pixels(gradient)
        self.mean, self.rstd, self.scale, self.bias = mean, rstd, scale, bias
        self.scratch = self.x.new_empty(2, *next(_blocks(self.x))[0].shape)

    def sums(self) -> tuple[Tensor, Tensor]:
        """Sum over pixels what passes the ReLU, and its product with the normalised map: `[C]` each."""
        of_gradient, of_product = torch.zeros_like(self.bias), torch.zeros_like(self.bias)
        for passed, centred, _ in self._walk():
            of_gradient += passed.sum(0)
            of_product += passed.mul_(centred).sum(0)
        return of_gradient, of_product * self.rstd

    def write(self, to_x: Tensor, of_gradient: Tensor, of_product: Tensor) -> None:
        """Fill the gradient of the map."""
        of_pixel = -self.scale / len(self.x)
        constant, slope = of_pixel * of_gradient, of_pixel * self.rstd * of_product
        target = _pixels(to_x)
        for passed, centred, at in self._walk():
            torch.addcmul(constant, centred, slope, out=centred)
            torch.addcmul(centred, passed, self.scale, out=target[at])

    def _walk(self) -> Iterator[tuple[Tensor, Tensor, slice]]:
        """For each block: the gradient that the ReLU lets through and the map less its mean, in scratch; and where."""
        for block, at in _blocks(self.x):
            centred, passed = self.scratch[:, : len(block)]
            torch.sub(block, self.mean, out=centred)
            torch.addcmul(self.bias, centred, self.scale, out=passed)
            torch.ops.aten.threshold_backward(self.gradient[at], passed, 0, grad_input=passed)
            yield passed, centred, at


def _moments(x: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return mean and 1 / deviation `[C]` of a map, and update the running statistics.

    Raises:
        ValueError: there is one pixel only, as torch has it.
    """
    if x.numel() == x.shape[1]:
        raise ValueError(f"expected more than 1 value per channel when training, got {list(x.shape)}")
    assert norm.num_batches_tracked is not None
    with torch.no_grad():
        norm.num_batches_tracked += 1
        momentum = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
        mean, variance = torch.batch_norm_update_stats(x, norm.running_mean, norm.running_var, momentum)
        return mean, torch.rsqrt(variance + norm.eps)


def _joined(maps: Sequence[Tensor], mean: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Normalise maps `[B, C, H, W]` with numbers `[F]`, ReLU: `[B, F, H, W]`, channels last in memory."""
    joined = _channels_last(maps[0], len(mean))
    for x, channels in zip(maps, _channels(maps), strict=True):
        target = _pixels(joined[:, channels])
        for block, at in _blocks(_pixels(x)):
            result = torch.sub(block, mean[channels], out=target[at])
            result.mul_(scale[channels]).add_(bias[channels]).clamp_min_(0)
    return joined


def _channels(maps: Sequence[Tensor]) -> Iterator[slice]:
    """Say which channels of the joined map are those of each map."""
    first = 0
    for x in maps:
        yield slice(first, first + x.shape[1])
        first += x.shape[1]


def _channels_last(like: Tensor, channels: int) -> Tensor:
    batch, _, height, width = like.shape
    return like.new_empty(batch, height, width, channels).permute(0, 3, 1, 2)


def _pixels(x: Tensor) -> Tensor:
    """See `[B, C, H, W]` as `[N, C]`; of a map that is not channels last, a copy."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _blocks(pixels: Tensor) -> Iterator[tuple[Tensor, slice]]:
    """Cut `[N, C]` into blocks of about `NUMBERS_OF_A_BLOCK`, each with where it is."""
    step = max(1, NUMBERS_OF_A_BLOCK // pixels.shape[1])
    for first in range(0, len(pixels), step):
        at = slice(first, first + step)
        yield pixels[at], at
