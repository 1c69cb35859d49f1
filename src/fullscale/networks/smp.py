"""Networks of segmentation-models-pytorch behind the signature of every other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fullscale.errors import UsageError
from fullscale.networks.backbones import check_dilatable, create_backbone
from fullscale.networks.base import SegmentationNetwork
from fullscale.networks.blocks import require_positive
from fullscale.networks.kernels.strided import widen_strided
from fullscale.networks.spatial import require_images
from fullscale.text import first_line


class SmpNetwork(SegmentationNetwork):
    """A network of segmentation-models-pytorch over a timm backbone.

    Args:
        build: makes it, from the backbone's name as `encoder_name` and the words that all of them share.
        in_channels: channels of the image.
        classes: 1 for sigmoid; more for softmax with background as class 0.
        encoder: the name of a timm backbone that can be dilated.
        width: a number that the decoder's channels are multiples of.
        stride: the image is padded until its sides are multiples of it.
        pretrained: False, True, or a file of weights for the backbone; see `encoders.create_encoder`.
        spatial_dims: 2; a volume is refused.

    Raises:
        UsageError: a number below 1, an encoder that does not fit, volumes.
    """

    def __init__(
        self,
        build: Callable[..., nn.Module],
        in_channels: int,
        classes: int,
        encoder: str,
        width: int,
        stride: int,
        pretrained: bool | str | Path,
        spatial_dims: int,
    ) -> None:
        require_images(type(self).__name__, spatial_dims)
        require_positive(in_channels=in_channels, classes=classes, width=width)
        check_dilatable(encoder)
        super().__init__(in_channels, classes, (stride, stride))
        words: dict[str, Any] = {"encoder_name": f"tu-{encoder}", "encoder_weights": None}
        try:
            self.network = build(in_channels=in_channels, classes=classes, **words)
        except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError, KeyError, IndexError) as error:
            raise UsageError(
                f"encoder '{encoder}' does not fit {type(self).__name__}, which dilates it: {first_line(error)}; "
                "choose a backbone such as resnet34 or resnet101"
            ) from error
        widen_strided(self.network)
        if pretrained:
            weights = create_backbone(encoder, in_channels, pretrained).state_dict()
            self.network.get_submodule("encoder.model").load_state_dict(weights)

    def _logits(self, image: Tensor) -> list[Tensor]:
        return [self.network(image)]
