"""Parts that the networks share. Letters: B batch, C channels, H W size of a map."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.errors import UsageError
from fullscale.networks.scaled_conv import ScaledConv

TRAINING_ABSENT_LOGIT = -16.0
"""Logit of a gated organ while training: a probability of about 1e-7, of which every loss stays finite."""


class SegmentationOutput(NamedTuple):
    """What a network returns in training.

    Attributes:
        logits: `[B, classes, H, W]` each, at the input's size, finest supervised output first.
        presence: `[B, organs, 2]` logits of each organ being absent (index 0) and present (index 1) in the slice,
            or None without guidance. One class is one organ; of more classes the background is none.
    """

    logits: list[Tensor]
    presence: Tensor | None


class ConvNormAct(nn.Module):
    """3x3 convolution with bias over a map resized by `2**octaves`, batch normalisation, ReLU.

    In evaluation mode the batch normalisation is folded into the weight and the bias of the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, octaves: int = 0) -> None:
        super().__init__()
        self.conv = ScaledConv(in_channels, out_channels, octaves)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Take `[B, C, H, W]` to `[B, out_channels, H * 2**octaves, W * 2**octaves]`."""
        if self.training:
            return F.relu(self.norm(self.conv(x)), inplace=True)
        mean, variance, conv = self.norm.running_mean, self.norm.running_var, self.conv
        assert mean is not None
        assert variance is not None
        assert conv.bias is not None
        scale = self.norm.weight * torch.rsqrt(variance + self.norm.eps)
        bias = self.norm.bias + (conv.bias - mean) * scale
        return F.relu(conv.convolve(x, conv.weight * scale[:, None, None, None], bias), inplace=True)


class Guidance(nn.Module):
    """Classification-guided module (UNet 3+, section 2.3): which organs the slice holds, told by the deepest map."""

    def __init__(self, in_channels: int, organs: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.conv = nn.Conv2d(in_channels, 2 * organs, kernel_size=1)

    def forward(self, deepest: Tensor) -> Tensor:
        """Take `[B, C, H, W]` to presence logits `[B, organs, 2]`: index 0 absent, 1 present."""
        evidence: Tensor = self.conv(self.dropout(deepest)).amax(dim=(2, 3))
        return evidence.reshape(evidence.shape[0], -1, 2)


def count_organs(classes: int) -> int:
    """Return how many organs guidance speaks of: one class is one organ, of more the background (0) is none."""
    return max(1, classes - 1)


def absent(presence: Tensor) -> Tensor:
    """Say of presence logits `[B, organs, 2]` which organs are absent, bool `[B, organs]`.

    The two are compared as they are: as probabilities, 17 and 20 would tie. A tie is absent.
    """
    return presence[..., 0] >= presence[..., 1]


def gate(logits: Tensor, presence: Tensor | None, absent_logit: float | None = None) -> Tensor:
    """Take every organ that guidance calls absent out of the segmentation, image by image.

    Args:
        logits: `[B, classes, H, W]`.
        presence: `[B, organs, 2]`, index 0 absent, 1 present; None gates nothing.
        absent_logit: the logit an absent organ is given everywhere. By default half the lowest number of the dtype:
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


def decide(logits: Tensor) -> Tensor:
    """Turn logits `[B, C, H, W]` into class indices uint8 `[B, H, W]`: p > 1/2 for one class, else the arg-max."""
    chosen = logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(dim=1)
    return chosen.to(torch.uint8)


def probabilities(logits: Tensor) -> Tensor:
    """Turn logits `[B, C, H, W]` into foreground probabilities `[B, organs, H, W]`."""
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)[:, 1:]


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


def initialise(module: nn.Module) -> None:
    """Draw fresh weights: Kaiming normal by fan-in for convolutions, N(1, 0.02) and bias 0 for batch norms.

    This is what the authors' code does. Biases of convolutions keep torch's own uniform draw.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_in")
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, 0.02)
            nn.init.zeros_(part.bias)
