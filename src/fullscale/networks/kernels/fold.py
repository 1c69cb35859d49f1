"""A batch norm in evaluation mode is a factor and an offset a channel: the convolution before it can do both."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fullscale.networks.kernels.forms import FormedConv


def fold_norm(conv: FormedConv, norm: nn.BatchNorm2d | nn.BatchNorm3d) -> tuple[Tensor, Tensor]:
    """Return the weight `[O, C, ...]` and bias `[O]` with which `conv` does what `norm(conv(x))` does in evaluation.

    Args:
        conv: a convolution with bias.
        norm: with running statistics; it is treated as one in evaluation mode.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert conv.bias is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    per_output = scale.view(-1, *(1,) * (conv.weight.ndim - 1))
    return conv.weight * per_output, norm.bias + (conv.bias - norm.running_mean) * scale
