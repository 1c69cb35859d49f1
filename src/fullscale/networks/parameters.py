"""What any network costs, counted: its parameters, and the multiply-accumulates of a task.

`FlopCounterMode` of torch counts the operators of the Winograd kernel as well, once this module is imported. They are
not declared beside the kernel because torch's counter loads Triton, which takes longer than to load a model.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula

from fullscale.networks.kernels.winograd import multiply_accumulates
from fullscale.networks.protocol import TorchModule


def count_parameters(module: TorchModule | nn.Module) -> int:
    """Count the parameters of a network or a part of one."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(task: Callable[[], object]) -> int:
    """Count the multiply-accumulates of the convolutions and matrix products in a task."""
    with FlopCounterMode(display=False) as counter:
        task()
    return int(counter.get_total_flops()) // 2


@register_flop_formula(torch.ops.fullscale.winograd_conv)
def _(x: list[int], weight: list[int], *_: object, **__: object) -> int:
    batch, height, width, channels = x
    return 2 * multiply_accumulates(batch, channels, weight[0], height, width)


@register_flop_formula(torch.ops.fullscale.winograd_weight_gradient)
def _(x: list[int], gradient: list[int], *_: object, **__: object) -> int:
    batch, height, width, channels = x
    return 2 * multiply_accumulates(batch, channels, gradient[3], height, width)
