"""What every network promises, whoever wrote it.

Letters: B batch, `...` the axes of space: H W of an image, or D H W of a volume (D from feet to head, H from back to
front, W from left to right).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

from torch import Tensor, nn


class SegmentationOutput(NamedTuple):
    """What a network returns in training when there is more to say than one tensor of logits.

    Attributes:
        logits: `[B, classes, ...]` each, at the input's size, finest supervised output first.
        presence: `[B, structures, 2]` logits of each structure being absent (index 0) or present (index 1) in an image
            or volume, or None without guidance. One class is one structure; with more classes the background is not a
            structure.
    """

    logits: list[Tensor]
    presence: Tensor | None


class TorchModule(Protocol):
    """The part of `torch.nn.Module` that is used of a network.

    A type checker cannot be told "a `Network` that is an `nn.Module`", so the methods are named here.
    """

    training: bool

    def __call__(self, image: Tensor) -> Any:
        """Call `forward`, with its hooks."""

    def train(self, mode: bool = True) -> Self:
        """Switch to training mode."""

    def eval(self) -> Self:
        """Switch to evaluation mode."""

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move to a device, a dtype or a memory format."""

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile `forward` in place, as `torch.compile` does."""

    def named_children(self) -> Iterator[tuple[str, nn.Module]]:
        """Walk over the parts at the top, with their names."""

    def modules(self) -> Iterator[nn.Module]:
        """Walk over the network and all its parts."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Walk over what is trained."""

    def buffers(self) -> Iterator[Tensor]:
        """What it holds and is not trained."""

    def state_dict(self) -> dict[str, Any]:
        """Return parameters and buffers by name."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Take parameters and buffers by name; none may be missing and none left over."""


@runtime_checkable
class Network(TorchModule, Protocol):
    """A segmentation network: an `nn.Module` that takes images of any size to logits of that size.

    Attributes:
        in_channels: channels C of the images `[B, C, ...]`.
        classes: channels of the logits. 1 is sigmoid; more is softmax with the background as class 0.
        num_supervised: how many tensors of logits there are in training.
        stride: input pixels per pixel of the deepest map, one number for each axis of space; a side that is not a
            multiple of it is padded inside.
        spatial_dims: 2 for images `[B, C, H, W]`, 3 for volumes `[B, C, D, H, W]`.
    """

    in_channels: int
    classes: int
    num_supervised: int
    stride: tuple[int, ...]
    spatial_dims: int

    def forward(self, image: Tensor) -> Tensor | SegmentationOutput:
        """Segment images or volumes `[B, in_channels, ...]`.

        Returns:
            In evaluation mode one tensor of logits `[B, classes, ...]`, in which absent structures are gated. In
            training mode one such tensor, ungated, where there is one supervised output and no guidance, and otherwise
            a `SegmentationOutput`.

        Raises:
            UsageError: the image has another rank, another number of channels, or integer values.
        """

    def segment(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the finest logits `[B, classes, ...]` before any gating, and presence `[B, structures, 2]` or None.

        Raises:
            UsageError: the image has another rank, another number of channels, or integer values.
        """


@runtime_checkable
class DividedNetwork(Protocol):
    """A network whose encoder alone says what an image holds: an image that holds nothing need not be decoded."""

    def segment_with_maps(self, image: Tensor) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        """Return what `segment` does, and the encoder's maps `[B, C, ...]`, all that the decoder works on."""
