"""A convolution that can be computed in several equal forms: which there are, and how one is asked for."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from fullscale.errors import UsageError
from fullscale.networks.protocol import TorchModule

Form = Literal["auto", "direct", "factored", "winograd"]

FEWEST_GPU_MACS = 8e9
"""Multiply-accumulates of a direct convolution from which a GPU factors it.

The factored form starts more kernels: on an H200 both forms of a training step are level at 13 to 75 times 10^9
(docs/performance.md). The number is lower, because the factored form needs less memory, and a GPU with slower products
starts kernels no more slowly.
"""

_TYPES = (torch.float32, torch.float64, torch.bfloat16)
"""Of maps that a CPU computes with."""


class FormedConv(nn.Module):
    """Of a convolution that can be computed in several forms: the form, which may be set at any time."""

    in_channels: int
    out_channels: int
    weight: Tensor
    bias: Tensor | None

    @property
    def form(self) -> Form:
        """How the resized map is convolved: "auto", "direct", "factored" or "winograd"."""
        return self._form

    @form.setter
    def form(self, form: Form) -> None:
        if form not in get_args(Form):
            raise UsageError(f"form '{form}' is unknown: expected {', '.join(get_args(Form))}")
        self._form = form

    @property
    def factors(self) -> tuple[int, ...]:
        """By how much each axis of the map is up-sampled; 1 where it is not."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Resize a map and convolve it to O channels."""
        return self.convolve(x, self.weight, self.bias)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Do the same with a weight and bias from elsewhere, as with a normalisation folded in."""
        raise NotImplementedError

    def choose(self, x: Tensor) -> Form:
        """Return the form in which a map is convolved."""
        raise NotImplementedError

    def pays_on_gpu(self, x: Tensor) -> bool:
        """Whether a GPU is quicker with an up-sampled map `[B, C, ...]` in the factored form."""
        macs = x.shape[0] * self.weight.numel() * math.prod(x.shape[2:]) * math.prod(self.factors)
        return macs >= FEWEST_GPU_MACS


def set_form(network: TorchModule, form: Form) -> None:
    """Set the form of every convolution of a network that has one.

    Raises:
        UsageError: the form is unknown.
    """
    for module in network.modules():
        if isinstance(module, FormedConv):
            module.form = form


def is_precise(x: Tensor) -> bool:
    """Whether a map is computed with in float32 or float64: it is of that type, and nothing casts it."""
    return x.dtype in (torch.float32, torch.float64) and not autocasts(x.device.type)


def eager_on_cpu(x: Tensor) -> bool:
    """Whether a map is computed with on a CPU and outside of a graph: where ways of our own are quicker."""
    return x.device.type == "cpu" and x.dtype in _TYPES and not torch.compiler.is_compiling()


def has_long_vectors() -> bool:
    """Whether a CPU computes with vectors of 512 bits: torch's own convolutions are then quicker than some of ours."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def exact_on_short_vectors(x: Tensor) -> bool:
    """Whether a map is computed with eagerly, in full precision, on a CPU with vectors of less than 512 bits."""
    return eager_on_cpu(x) and is_precise(x) and not has_long_vectors()


def channels_last(x: Tensor) -> Tensor:
    """Return a map `[B, C, H, W]` or `[B, C, D, H, W]` with the channels of a pixel beside each other in memory.

    One channel lies so in any case; torch goes by its stride.
    """
    laid_out = x.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)
    if x.shape[1] > 1:
        return laid_out
    batch, _, *sides = laid_out.stride()
    return laid_out.as_strided(laid_out.shape, (batch, 1, *sides))


def autocasts(device: str) -> bool:
    """Whether autocast is on for a type of device."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def without_autocast(device: str) -> AbstractContextManager[Any]:
    """Switch autocast off, where it is on."""
    return torch.autocast(device, enabled=False) if autocasts(device) else nullcontext()
