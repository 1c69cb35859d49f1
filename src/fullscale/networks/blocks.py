"""Parts that the networks share. Letters: B batch, C channels, H W size of a map."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.errors import UsageError
from fullscale.networks.kernels.scaled_conv import ScaledConv, is_precise
from fullscale.networks.protocol import SegmentationOutput

Normalization = Literal["none", "batch"]

TRAINING_ABSENT_LOGIT = -16.0
"""Logit of a gated structure while training: a probability of about 1e-7, of which every loss stays finite."""


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
        mean, variance, conv = self.norm.running_mean, self.norm.running_var, self.conv
        assert mean is not None
        assert variance is not None
        assert conv.bias is not None
        scale = self.norm.weight * torch.rsqrt(variance + self.norm.eps)
        bias = self.norm.bias + (conv.bias - mean) * scale
        return conv.convolve(x, conv.weight * scale[:, None, None, None], bias)


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


class SegmentationNetwork(nn.Module):
    """What the networks without guidance share: images of any size in, logits of that size out.

    A subclass says in `_logits` how an image becomes logits.

    Args:
        in_channels: channels of the image.
        classes: 1 for sigmoid; more for softmax with background as class 0.
        stride: the image is padded until its sides are multiples of it.
        num_supervised: how many logits there are in training.
    """

    spatial_dims = 2

    def __init__(self, in_channels: int, classes: int, stride: int, num_supervised: int = 1) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.classes = classes
        self.stride = stride
        self.num_supervised = num_supervised

    def forward(self, image: Tensor) -> Tensor | SegmentationOutput:
        """Segment images `[B, in_channels, H, W]`.

        Returns:
            In evaluation mode logits `[B, classes, H, W]`; in training mode a `SegmentationOutput` without presence.

        Raises:
            UsageError: the image has another rank, another number of channels, or integer values.
        """
        if not self.training:
            return self.segment(image)[0]
        check_image(image, self.in_channels)
        logits = self._logits(pad_to_stride(image, self.stride, training=True))
        return SegmentationOutput([crop(level, *image.shape[2:]) for level in logits], None)

    def segment(self, image: Tensor) -> tuple[Tensor, None]:
        """Return the finest logits `[B, classes, H, W]`, and that nothing is said of presence.

        Raises:
            UsageError: the image has another rank, another number of channels, or integer values.
        """
        check_image(image, self.in_channels)
        logits = self._logits(pad_to_stride(image, self.stride, self.training))
        return crop(logits[0], *image.shape[2:]), None

    def _logits(self, image: Tensor) -> list[Tensor]:
        """Take `[B, C, H, W]`, sides multiples of the stride, to logits of that size, finest first."""
        raise NotImplementedError


class Guidance(nn.Module):
    """Classification-guided module (UNet 3+, section 2.3): which structures a slice holds, from the deepest map."""

    def __init__(self, in_channels: int, structures: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.conv = nn.Conv2d(in_channels, 2 * structures, kernel_size=1)

    def forward(self, deepest: Tensor) -> Tensor:
        """Take `[B, C, H, W]` to presence logits `[B, structures, 2]`: index 0 absent, 1 present."""
        evidence: Tensor = self.conv(self.dropout(deepest)).amax(dim=(2, 3))
        return evidence.reshape(evidence.shape[0], -1, 2)


def count_structures(classes: int) -> int:
    """Return how many structures guidance speaks of: one class is one structure, of more the background (0) is none."""
    return max(1, classes - 1)


def absent(presence: Tensor) -> Tensor:
    """Say of presence logits `[B, structures, 2]` which structures are absent, bool `[B, structures]`.

    The two are compared as they are: as probabilities, 17 and 20 would tie. A tie is absent.
    """
    return presence[..., 0] >= presence[..., 1]


def gate(logits: Tensor, presence: Tensor | None, absent_logit: float | None = None) -> Tensor:
    """Take every structure that guidance calls absent out of the segmentation, image by image.

    Args:
        logits: `[B, classes, H, W]`.
        presence: `[B, structures, 2]`, index 0 absent, 1 present; None gates nothing.
        absent_logit: the logit an absent structure is given everywhere. By default half the lowest number of the dtype:
            finite, so that it can be interpolated, and of probability exactly 0 by sigmoid and by softmax.

    Returns:
        `[B, classes, H, W]`; the background of several classes is never touched.
    """
    if presence is None:
        return logits
    background = logits.shape[1] - presence.shape[1]
    gated = F.pad(absent(presence), (background, 0))
    if absent_logit is None:
        absent_logit = torch.finfo(logits.dtype).min / 2
    return logits.masked_fill(gated[:, :, None, None], absent_logit)


def pad_to_stride(image: Tensor, stride: int, training: bool) -> Tensor:
    """Repeat the last row and column of `[B, C, H, W]` until both sides are multiples of the deepest stride.

    In training a single image whose deepest map would be one pixel is widened by one stride more: batch
    normalisation has no variance to take from one value.
    """
    batch, _, height, width = image.shape
    bottom, right = -height % stride, -width % stride
    if training and batch == 1 and height <= stride and width <= stride:
        right += stride
    return F.pad(image, (0, right, 0, bottom), mode="replicate")


def crop(logits: Tensor, height: int, width: int) -> Tensor:
    """Keep the upper left `[B, classes, height, width]` of a map: the way back from `pad_to_stride`.

    Under `torch.export` this copies by index, because the strides of a slice would bind the graph to sizes that
    need padding.
    """
    if not torch.compiler.is_exporting():
        return logits[..., :height, :width]
    rows, columns = (torch.arange(side, device=logits.device) for side in (height, width))
    return logits.index_select(2, rows).index_select(3, columns)


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
