"""Parts that the networks share. Letters: B batch, C channels, H W size of a map."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.errors import UsageError
from fullscale.networks.kernels.fold import fold_norm
from fullscale.networks.kernels.scaled_conv import ScaledConv, is_precise

Normalization = Literal["none", "batch"]


class ConvAct(nn.Module):
    """3x3 convolution with bias, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = ScaledConv(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Take `[B, C, H, W]` to `[B, out_channels, H, W]`."""
        return F.relu(self.conv(x), inplace=True)


class ConvNorm(nn.Module):
    """3x3 convolution with bias over a map resized by `2**log2_scale`, batch normalisation.

    In evaluation mode the batch normalisation is folded into the weight and the bias of the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, log2_scale: int = 0) -> None:
        super().__init__()
        self.conv = ScaledConv(in_channels, out_channels, log2_scale)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Take `[B, C, H, W]` to `[B, out_channels, H * 2**log2_scale, W * 2**log2_scale]`."""
        if self.training:
            return self.norm(self.conv(x))  # type: ignore[no-any-return]
        return self.conv.convolve(x, *fold_norm(self.conv, self.norm))


class ConvNormAct(ConvNorm):
    """3x3 convolution with bias over a map resized by `2**log2_scale`, batch normalisation, ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        """Take `[B, C, H, W]` to `[B, out_channels, H * 2**log2_scale, W * 2**log2_scale]`."""
        return F.relu(super().forward(x), inplace=True)


class Head(nn.Conv2d):
    """3x3 convolution with bias from features to the logits of each class.

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
        on_cpu = x.device.type == "cpu" and not torch.compiler.is_compiling()
        return self.out_channels == 1 and on_cpu and is_precise(x)


class UpNode(nn.Module):
    """A decoder node of UNet and UNet++: a map one level deeper is brought up, joined to its level's, convolved twice.

    It is brought up by a 4x4 transposed convolution of stride 2.

    Args:
        deeper_channels: of the map one level deeper.
        skip_channels: of all maps of this level together.
        out_channels: of the node.
        normalization: "none", as the paper counts it, or "batch".
    """

    def __init__(
        self, deeper_channels: int, skip_channels: int, out_channels: int, normalization: Normalization
    ) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(deeper_channels, out_channels, kernel_size=4, stride=2, padding=1)
        convolution = {"none": ConvAct, "batch": ConvNormAct}[normalization]
        self.convs = nn.Sequential(
            convolution(skip_channels + out_channels, out_channels), convolution(out_channels, out_channels)
        )

    def forward(self, deeper: Tensor, skips: list[Tensor]) -> Tensor:
        """Take `[B, C, h, w]` and maps of this level `[B, ?, 2h, 2w]` to `[B, out_channels, 2h, 2w]`."""
        return self.convs(torch.cat([*skips, self.up(deeper)], dim=1))  # type: ignore[no-any-return]


def check_image(image: Tensor, in_channels: int) -> None:
    """Refuse what is not a batch of images `[B, in_channels, H, W]`.

    Raises:
        UsageError: another rank or number of channels, an empty side, or integer values.
    """
    if image.ndim != 4 or image.shape[1] != in_channels:
        raise UsageError(f"image has shape {list(image.shape)}: expected [batch, {in_channels}, height, width]")
    if image.shape[2] < 1 or image.shape[3] < 1:
        raise UsageError(f"image has shape {list(image.shape)}: expected at least one pixel a side")
    if not image.is_floating_point():
        raise UsageError(f"image has dtype {image.dtype}: expected floating point, normalised")


def require_positive(**numbers: int) -> None:
    """Refuse an argument that is not a whole number of at least 1.

    Raises:
        UsageError: naming the argument and its value.
    """
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise UsageError(f"{name} is {number!r}: expected a whole number of at least 1")


def require_normalization(normalization: str) -> None:
    """Refuse what is not a `Normalization`.

    Raises:
        UsageError: it is neither "none" nor "batch".
    """
    if normalization not in get_args(Normalization):
        raise UsageError(f"normalization is {normalization!r}: expected {' or '.join(get_args(Normalization))}")


def initialise(module: nn.Module) -> None:
    """Draw fresh weights: Kaiming normal by fan-in for convolutions, N(1, 0.02) and bias 0 for batch norms.

    This is what the authors' code does. Biases of convolutions keep torch's own uniform draw. A transposed convolution
    keeps the second moment of its input: no ReLU follows it, and of its 4x4 weights each output meets 2x2.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_in")
        elif isinstance(part, nn.ConvTranspose2d):
            met = part.in_channels * math.prod(part.kernel_size) / math.prod(part.stride)
            nn.init.normal_(part.weight, 0.0, met**-0.5)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, 0.02)
            nn.init.zeros_(part.bias)
