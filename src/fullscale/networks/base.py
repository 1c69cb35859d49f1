"""What the networks share: images or volumes of any size in, logits of that size out.

Letters: B batch, C channels, `...` the axes of space: H W of an image, D H W of a volume.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.errors import UsageError
from fullscale.networks.protocol import SegmentationOutput
from fullscale.networks.spatial import check_image


class SegmentationNetwork(nn.Module):
    """A network without guidance. A subclass says in `_logits` how an image becomes logits.

    Args:
        in_channels: channels of the image.
        classes: 1 for sigmoid; more for softmax with background as class 0.
        stride: one number an axis; the image is padded until its sides are multiples of them.
        num_supervised: how many logits there are in training.

    Raises:
        UsageError: the stride is one number for all axes.
    """

    def __init__(self, in_channels: int, classes: int, stride: tuple[int, ...] | int, num_supervised: int = 1) -> None:
        super().__init__()
        if isinstance(stride, int):
            raise UsageError(
                f"stride is {stride}: expected one number an axis, such as ({stride}, {stride}) for images"
            )
        self.in_channels = in_channels
        self.classes = classes
        self.stride = stride
        self.spatial_dims = len(stride)
        self.num_supervised = num_supervised

    def forward(self, image: Tensor) -> Tensor | SegmentationOutput:
        """Segment images `[B, in_channels, ...]`.

        Returns:
            Logits `[B, classes, ...]`; in training with several supervised outputs a `SegmentationOutput` of them.

        Raises:
            UsageError: the image has another rank, another number of channels, or integer values.
        """
        logits = self._cropped_logits(image)
        return training_output(logits, None) if self.training else logits[0]

    def segment(self, image: Tensor) -> tuple[Tensor, None]:
        """Return the finest logits `[B, classes, ...]`, and None for presence, of which this network says nothing.

        Raises:
            UsageError: the image has another rank, another number of channels, or integer values.
        """
        return self._cropped_logits(image)[0], None

    def _cropped_logits(self, image: Tensor) -> list[Tensor]:
        check_image(image, self.in_channels, self.spatial_dims)
        logits = self._logits(pad_to_stride(image, self.stride, self.training))
        return [crop(level, image.shape[2:]) for level in logits]

    def _logits(self, image: Tensor) -> list[Tensor]:
        """Take `[B, C, ...]`, sides multiples of the stride, to logits of that size, finest first."""
        raise NotImplementedError


def training_output(logits: list[Tensor], presence: Tensor | None) -> Tensor | SegmentationOutput:
    """Return one tensor of logits where there is nothing else to say, so that any training loop can use it."""
    return logits[0] if len(logits) == 1 and presence is None else SegmentationOutput(logits, presence)


def pad_to_stride(image: Tensor, stride: Sequence[int], training: bool) -> Tensor:
    """Repeat the end of each axis of `[B, C, ...]` until its side is a multiple of the deepest stride.

    In training a single image whose deepest map would be one pixel is widened by one stride more: batch
    normalisation has no variance to take from one value.
    """
    batch, _, *sides = image.shape
    missing = [-side % step for side, step in zip(sides, stride, strict=True)]
    if training and batch == 1 and all(side <= step for side, step in zip(sides, stride, strict=True)):
        missing[-1] += stride[-1]
    last_axis_first = [number for after in reversed(missing) for number in (0, after)]
    return F.pad(image, last_axis_first, mode="replicate")


def crop(logits: Tensor, sides: Sequence[int]) -> Tensor:
    """Keep the first `sides` of each axis of `[B, classes, ...]`: the way back from `pad_to_stride`.

    Under `torch.export` this copies by index, because the strides of a slice would bind the graph to sizes that
    need padding.
    """
    for axis, side in enumerate(sides, 2):
        if torch.compiler.is_exporting():
            logits = logits.index_select(axis, torch.arange(side, device=logits.device))
        else:
            logits = logits.narrow(axis, 0, side)
    return logits
