"""What the networks share: images of any size in, logits of that size out. Letters: B batch, C channels, H W size."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.networks.blocks import check_image
from fullscale.networks.protocol import SegmentationOutput


class SegmentationNetwork(nn.Module):
    """A network without guidance. A subclass says in `_logits` how an image becomes logits.

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
            Logits `[B, classes, H, W]`; in training with several supervised outputs a `SegmentationOutput` of them.

        Raises:
            UsageError: the image has another rank, another number of channels, or integer values.
        """
        logits = self._cropped_logits(image)
        return training_output(logits, None) if self.training else logits[0]

    def segment(self, image: Tensor) -> tuple[Tensor, None]:
        """Return the finest logits `[B, classes, H, W]`, and None for presence, of which this network says nothing.

        Raises:
            UsageError: the image has another rank, another number of channels, or integer values.
        """
        return self._cropped_logits(image)[0], None

    def _cropped_logits(self, image: Tensor) -> list[Tensor]:
        check_image(image, self.in_channels)
        logits = self._logits(pad_to_stride(image, self.stride, self.training))
        return [crop(level, *image.shape[2:]) for level in logits]

    def _logits(self, image: Tensor) -> list[Tensor]:
        """Take `[B, C, H, W]`, sides multiples of the stride, to logits of that size, finest first."""
        raise NotImplementedError


def training_output(logits: list[Tensor], presence: Tensor | None) -> Tensor | SegmentationOutput:
    """Return one tensor of logits where there is nothing else to say, so that any training loop can use it."""
    return logits[0] if len(logits) == 1 and presence is None else SegmentationOutput(logits, presence)


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
