"""DeepLab: V2 (Chen et al., TPAMI 2018) is ours; V3 (2017) and V3+ (ECCV 2018) are segmentation-models-pytorch's."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.errors import UsageError
from fullscale.extras import needs
from fullscale.networks.backbones import check_dilatable, create_backbone
from fullscale.networks.base import SegmentationNetwork
from fullscale.networks.blocks import require_positive
from fullscale.networks.smp import SmpNetwork
from fullscale.networks.spatial import require_images

with needs("backbones", "PSPNet and DeepLab"):
    import segmentation_models_pytorch as smp

STRIDE = 8
"""Of the dilated backbone's last map, where nothing else is said."""

RATES = (6, 12, 18, 24)
"""Of the four parallel convolutions of DeepLabV2 (its ASPP-L)."""


class DeepLabV2(SegmentationNetwork):
    """DeepLabV2: a dilated backbone at stride 8, four parallel atrous convolutions to the classes, summed.

    Args:
        in_channels: channels of the image.
        classes: 1 for sigmoid; more for softmax with background as class 0.
        encoder: the name of a timm backbone that can be dilated.
        pretrained: False, True, or a file of weights for the backbone; see `encoders.create_encoder`.
        spatial_dims: 2; volumes are refused.

    Raises:
        UsageError: a number below 1, an encoder that does not fit, volumes.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        encoder: str = "resnet101",
        pretrained: bool | str | Path = False,
        spatial_dims: int = 2,
    ) -> None:
        require_images(type(self).__name__, spatial_dims)
        require_positive(in_channels=in_channels, classes=classes)
        check_dilatable(encoder)
        super().__init__(in_channels, classes, (STRIDE, STRIDE))
        self.backbone = create_backbone(encoder, in_channels, pretrained, output_stride=STRIDE)
        if self.backbone.feature_info.reduction()[-1] != STRIDE:
            raise UsageError(f"encoder '{encoder}' cannot be dilated to stride {STRIDE}: choose one such as resnet101")
        channels = self.backbone.feature_info.channels()[-1]
        self.branches = nn.ModuleList(
            nn.Conv2d(channels, classes, kernel_size=3, padding=rate, dilation=rate) for rate in RATES
        )

    def _logits(self, image: Tensor) -> list[Tensor]:
        deepest = self.backbone(image)[-1]  # [B, C, H / 8, W / 8]
        logits = torch.stack([branch(deepest) for branch in self.branches]).sum(dim=0)
        return [F.interpolate(logits, scale_factor=float(STRIDE), mode="bilinear", align_corners=False)]


class DeepLabV3(SmpNetwork):
    """DeepLabV3: a dilated backbone at stride 8, atrous convolutions at three rates beside a 1x1 and a global one.

    Args:
        in_channels: channels of the image.
        classes: 1 for sigmoid; more for softmax with background as class 0.
        encoder: the name of a timm backbone that can be dilated.
        width: the decoder has four times as many channels; 64 gives the 256 of the paper.
        pretrained: False, True, or a file of weights for the backbone; see `encoders.create_encoder`.
        spatial_dims: 2; volumes are refused.

    Raises:
        UsageError: a number below 1, an encoder that does not fit, volumes.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        encoder: str = "resnet101",
        width: int = 64,
        pretrained: bool | str | Path = False,
        spatial_dims: int = 2,
    ) -> None:
        build = partial(smp.DeepLabV3, encoder_output_stride=STRIDE, decoder_channels=4 * width)
        super().__init__(build, in_channels, classes, encoder, width, STRIDE, pretrained, spatial_dims)

    def _logits(self, image: Tensor) -> list[Tensor]:
        require_batch(self, image)
        return super()._logits(image)


class DeepLabV3Plus(SmpNetwork):
    """DeepLabV3+: DeepLabV3 at stride 16 with separable convolutions, refined with the backbone's map at stride 4.

    Args:
        in_channels: channels of the image.
        classes: 1 for sigmoid; more for softmax with background as class 0.
        encoder: the name of a timm backbone that can be dilated.
        width: the decoder has four times as many channels; 64 gives the 256 of the paper.
        pretrained: False, True, or a file of weights for the backbone; see `encoders.create_encoder`.
        spatial_dims: 2; volumes are refused.

    Raises:
        UsageError: a number below 1, an encoder that does not fit, volumes.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        encoder: str = "resnet101",
        width: int = 64,
        pretrained: bool | str | Path = False,
        spatial_dims: int = 2,
    ) -> None:
        build = partial(smp.DeepLabV3Plus, encoder_output_stride=2 * STRIDE, decoder_channels=4 * width)
        super().__init__(build, in_channels, classes, encoder, width, 2 * STRIDE, pretrained, spatial_dims)

    def _logits(self, image: Tensor) -> list[Tensor]:
        require_batch(self, image)
        return super()._logits(image)


def require_batch(network: nn.Module, image: Tensor) -> None:
    """Refuse to train on one image: the pooled branch has one value a channel, of which there is no variance.

    Raises:
        UsageError: in training, a batch of one.
    """
    if network.training and len(image) == 1:
        raise UsageError(
            f"{type(network).__name__} normalises one value an image in training: expected data.batch_size of 2 or more"
        )
