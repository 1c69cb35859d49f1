"""What any network costs, counted: its parameters, and the multiply-accumulates of a task."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fullscale.networks.protocol import TorchModule


def count_parameters(module: TorchModule | nn.Module) -> int:
    """Count the parameters of a network or a part of one."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(task: Callable[[], object]) -> int:
    """Count the multiply-accumulates of the convolutions and matrix products in a task."""
    with FlopCounterMode(display=False) as counter:
        task()
    return int(counter.get_total_flops()) // 2
