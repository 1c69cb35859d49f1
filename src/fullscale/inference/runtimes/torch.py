"""A network in PyTorch, in evaluation mode."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from fullscale.errors import UsageError
from fullscale.networks.kernels.forms import channels_last
from fullscale.networks.protocol import Network
from fullscale.text import counted

DEVICES = ("cpu", "cuda", "mps")


def choose_device(name: str = "auto") -> torch.device:
    """Turn `auto`, `cpu`, `cuda`, `cuda:1` or `mps` into a device that is there.

    Raises:
        UsageError: this machine does not have it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device {name!r}; use auto, cpu, cuda or mps") from error
    if device.type not in DEVICES:
        raise UsageError(f"device {name!r} is not supported; use auto, cpu, cuda or mps")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {name!r} is not here: torch sees {torch.cuda.device_count()} CUDA devices")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device 'mps' is not here")
    return device


def mixed_precision(device: torch.device) -> AbstractContextManager[Any]:
    """bf16 autocast on a GPU that computes in it; full precision elsewhere."""
    return torch.autocast(device.type, torch.bfloat16) if _has_bf16(device) else nullcontext()


def on_the_cpu() -> str:
    """Say that a CPU computes, and with how many threads."""
    return f"on the CPU with {counted(torch.get_num_threads(), 'thread')}"


def _has_bf16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


class TorchRuntime:
    """Computes a network where its weights are.

    On a CPU the channels of a pixel lie beside each other in memory, which makes most operations quicker.

    Args:
        network: in evaluation mode, on its device.

    Attributes:
        network: the same.
    """

    def __init__(self, network: Network) -> None:
        self.network = network

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.network.parameters()).device

    def describe(self) -> str:
        """Say in a few words what computes, in which precision and where."""
        device = self.device
        place = f"on {torch.cuda.get_device_name(device) if device.type == 'cuda' else device}"
        precision = "bf16" if _has_bf16(device) else "float32"
        return f"PyTorch in {precision} {on_the_cpu() if device.type == 'cpu' else place}"

    def logits(self, image: Tensor) -> Tensor:
        """Take images `[B, C, H, W]` to float32 logits `[B, channels, H, W]`, absent structures gated."""
        with torch.inference_mode(), mixed_precision(image.device):
            logits: Tensor = self.network(_laid_out(image))
            return logits.float()

    def segment(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return float32 logits before any gate, and presence `[B, structures, 2]` or None."""
        with torch.inference_mode(), mixed_precision(image.device):
            logits, presence = self.network.segment(_laid_out(image))
            return logits.float(), presence


def _laid_out(image: Tensor) -> Tensor:
    return channels_last(image) if image.device.type == "cpu" else image
