"""Parts that the networks share. Letters: B batch, C channels, `...` the size of a map: H W, or D H W in a volume."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.errors import UsageError
from fullscale.networks.kernels.fold import fold_norm
from fullscale.networks.kernels.norm_act import Norm, norm_act, norm_act_applies
from fullscale.networks.kernels.scaled_conv import ScaledConv
from fullscale.networks.kernels.scaled_conv3d import ScaledConv3d
from fullscale.networks.kernels.strided import transposed_conv
from fullscale.networks.norms import InstanceNorm
from fullscale.networks.spatial import LAYERS

Normalization = Literal["none", "batch", "instance"]


class ConvAct(nn.Module):
    """3x3 convolution with bias, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, spatial_dims: int = 2) -> None:
        super().__init__()
        self.conv = scaled_conv(in_channels, out_channels, (0,) * spatial_dims)

    def forward(self, x: Tensor) -> Tensor:
        """Take `[B, C, ...]` to `[B, out_channels, ...]`."""
        return F.relu(self.conv(x), inplace=True)


class ConvNorm(nn.Module):
    """3x3 convolution over a map resized by `2**log2_scale`, normalisation.

    In evaluation mode a batch normalisation is folded into the weight and the bias of the convolution. Before an
    instance normalisation, which would take it off again, there is no bias.

    Args:
        in_channels: C of the map that comes in.
        out_channels: of the map that goes out.
        log2_scale: one number an axis, see `ScaledConv`.
        normalization: "batch" or "instance".
        stride: of the convolution, one number an axis; default 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        log2_scale: Sequence[int] = (0, 0),
        normalization: Normalization = "batch",
        stride: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.conv = scaled_conv(in_channels, out_channels, log2_scale, stride, bias=normalization == "batch")
        batch_norm = LAYERS[len(log2_scale)].batch_norm
        self.norm: Norm = batch_norm(out_channels) if normalization == "batch" else InstanceNorm(out_channels)

    @property
    def takes_statistics(self) -> bool:
        """Whether it normalises by the map itself: in training, and an instance norm always."""
        return self.training or isinstance(self.norm, InstanceNorm)

    def forward(self, x: Tensor) -> Tensor:
        """Take `[B, C, ...]` to `[B, out_channels, ...]`, each side times `2**log2_scale`."""
        if self.training or isinstance(self.norm, InstanceNorm):
            return self.norm(self.conv(x))  # type: ignore[no-any-return]
        return self.conv.convolve(x, *fold_norm(self.conv, self.norm))


class ConvNormAct(ConvNorm):
    """3x3 convolution over a map resized by `2**log2_scale`, normalisation, ReLU.

    Args:
        in_channels, out_channels, log2_scale, normalization, stride: as of `ConvNorm`.
        slope: of the ReLU for negative values; with another than 0 it is a leaky one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        log2_scale: Sequence[int] = (0, 0),
        normalization: Normalization = "batch",
        stride: Sequence[int] | None = None,
        slope: float = 0.0,
    ) -> None:
        super().__init__(in_channels, out_channels, log2_scale, normalization, stride)
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        """Take `[B, C, ...]` to `[B, out_channels, ...]`, each side times `2**log2_scale`."""
        if self._normalises_in_few_passes(x):
            return norm_act([self.conv(x)], [self.norm], self.slope)[0]
        normalised = super().forward(x)
        return F.leaky_relu(normalised, self.slope, inplace=True) if self.slope else F.relu(normalised, inplace=True)

    def _normalises_in_few_passes(self, x: Tensor) -> bool:
        """Whether torch's own norm is slow: an instance norm, and any in 3D, of maps that are channels last."""
        slow = isinstance(self.norm, (InstanceNorm, nn.BatchNorm3d))
        return slow and self.takes_statistics and self.conv.form != "direct" and norm_act_applies(x, self.norm)


def scaled_conv(
    in_channels: int,
    out_channels: int,
    log2_scale: Sequence[int],
    stride: Sequence[int] | None = None,
    bias: bool = True,
) -> ScaledConv | ScaledConv3d:
    """Make the 3x3 convolution over a map resized by `2**log2_scale`, a number an axis; of images both are equal."""
    if len(log2_scale) == 2:
        assert len(set(log2_scale)) == 1
        return ScaledConv(in_channels, out_channels, log2_scale[0], stride=(stride or (1,))[0], bias=bias)
    depth, height, width = log2_scale
    along_depth, along_height, along_width = stride or (1, 1, 1)
    steps = along_depth, along_height, along_width
    return ScaledConv3d(in_channels, out_channels, (depth, height, width), stride=steps, bias=bias)


class UpNode(nn.Module):
    """A decoder node of UNet and UNet++: a map one level deeper is brought up, joined to its level's, convolved twice.

    It is brought up by a 4x4 transposed convolution of stride 2; along an axis of stride 1 the kernel has 3.

    Args:
        deeper_channels: of the map one level deeper.
        skip_channels: of all maps of this level together.
        out_channels: of the node.
        normalization: "none", as the paper counts it, "batch" or "instance".
        stride: of the step from this level to the deeper one, a number an axis.
    """

    def __init__(
        self,
        deeper_channels: int,
        skip_channels: int,
        out_channels: int,
        normalization: Normalization,
        stride: Sequence[int] = (2, 2),
    ) -> None:
        super().__init__()
        transposed = LAYERS[len(stride)].conv_transpose
        kernel = tuple(2 + step for step in stride)
        self.up = transposed(deeper_channels, out_channels, kernel, stride=tuple(stride), padding=1)
        self.convs = nn.Sequential(
            conv_act(skip_channels + out_channels, out_channels, normalization, len(stride)),
            conv_act(out_channels, out_channels, normalization, len(stride)),
        )

    def forward(self, deeper: Tensor, skips: list[Tensor]) -> Tensor:
        """Take `[B, C, ...]` and maps of this level `[B, ?, ...]` to `[B, out_channels, ...]` of their size."""
        return self.convs(torch.cat([*skips, transposed_conv(self.up, deeper)], dim=1))  # type: ignore[no-any-return]


def conv_act(in_channels: int, out_channels: int, normalization: Normalization, spatial_dims: int) -> nn.Module:
    """Make a 3x3 convolution, a normalisation if there is to be one, and a ReLU."""
    if normalization == "none":
        return ConvAct(in_channels, out_channels, spatial_dims)
    return ConvNormAct(in_channels, out_channels, (0,) * spatial_dims, normalization)


def require_positive(**numbers: int) -> None:
    """Refuse an argument that is not a whole number of at least 1.

    Raises:
        UsageError: naming the argument and its value.
    """
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise UsageError(f"{name} is {number!r}: expected a whole number of at least 1")


def require_normalization(normalization: str, *possible: Normalization) -> None:
    """Refuse a normalisation that a network does not have.

    Raises:
        UsageError: it is none of the possible ones; default all.
    """
    possible = possible or get_args(Normalization)
    if normalization not in possible:
        raise UsageError(f"normalization is {normalization!r}: expected {' or '.join(possible)}")


def initialise(module: nn.Module) -> None:
    """Draw fresh weights: Kaiming normal by fan-in for convolutions, N(1, 0.02) and bias 0 for batch norms.

    This is what the authors' code does. Biases of convolutions keep torch's own uniform draw; an instance norm begins
    as it is made, with 1 and 0. A transposed convolution keeps the second moment of its input: no ReLU follows it, and
    of its 4x4 weights each output meets 2x2.
    """
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.Conv3d)):
            nn.init.kaiming_normal_(part.weight, mode="fan_in")
        elif isinstance(part, (nn.ConvTranspose2d, nn.ConvTranspose3d)):
            met = part.in_channels * math.prod(part.kernel_size) / math.prod(part.stride)
            nn.init.normal_(part.weight, 0.0, met**-0.5)
        elif isinstance(part, (nn.BatchNorm2d, nn.BatchNorm3d)):
            nn.init.normal_(part.weight, 1.0, 0.02)
            nn.init.zeros_(part.bias)
