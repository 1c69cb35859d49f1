"""From features to the logits of each class. Letters: B batch, C channels, `...` the size of a map."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.networks.kernels.forms import eager_on_cpu, exact_on_short_vectors, is_precise
from fullscale.networks.kernels.mix_first import mixed_conv3d

FEW_CLASSES = 5
"""Fewer than the outputs that a processor computes at once."""


class Head(nn.Conv2d):
    """3x3 convolution with bias from features of an image to the logits of each class.

    A convolution on a CPU pads its outputs to the width of a vector. To a single class the channels are therefore mixed
    first, nine products at each pixel, and those shifted and added: the same sums.
    """

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__(in_channels, classes, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Take `[B, C, H, W]` to `[B, classes, H, W]`."""
        if not self._mixes_first(x):
            return super().forward(x)
        assert self.bias is not None
        mixing = self.weight.flip(2, 3).permute(2, 3, 1, 0).reshape(9, self.in_channels, 1, 1)
        products = F.conv2d(x, mixing).flatten(2)  # [B, 9, H W]
        return F.fold(products, x.shape[-2:], kernel_size=3, padding=1) + self.bias[:, None, None]

    def _mixes_first(self, x: Tensor) -> bool:
        """Whether channels are mixed first: for one class on a CPU; not in bf16, which would round before it sums."""
        return self.out_channels == 1 and eager_on_cpu(x) and is_precise(x)


class Head3d(nn.Conv3d):
    """3x3x3 convolution with bias from features of a volume to the logits of each class.

    To few classes the channels are mixed first on a CPU, see `mix_first`: the same sums.
    """

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__(in_channels, classes, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Take `[B, C, D, H, W]` to `[B, classes, D, H, W]`."""
        if self.out_channels <= FEW_CLASSES and exact_on_short_vectors(x):
            return mixed_conv3d(x, self.weight, self.bias)
        return super().forward(x)


def create_head(in_channels: int, classes: int, spatial_dims: int) -> Head | Head3d:
    """Make the 3x3 convolution with bias from features to the logits of each class."""
    if spatial_dims == 2:
        return Head(in_channels, classes)
    return Head3d(in_channels, classes)
