"""Instance normalisation that stands any map."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class InstanceNorm(nn.Module):
    """Each channel of each image brought to mean 0 and variance 1, with a weight and a bias a channel.

    It is the same in training and in evaluation. Of a map of a single voxel the bias is left, where torch's own module
    refuses: a small patch has such a deepest map.

    Args:
        channels: C.
        eps: added to the variance.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Take `[B, C, ...]` to the same shape."""
        cudnn = torch.backends.cudnn.enabled
        return torch.instance_norm(x, self.weight, self.bias, None, None, True, 0.0, self.eps, cudnn)
