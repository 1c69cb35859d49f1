"""PSPNet (Zhao et al., CVPR 2017), as segmentation-models-pytorch builds it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.extras import needs
from fullscale.networks.smp import SmpNetwork

with needs("backbones", "PSPNet and DeepLab"):
    import segmentation_models_pytorch as smp


class PSPNet(SmpNetwork):
    """PSPNet: the map of a dilated backbone at stride 8, beside its averages over 1, 2x2, 3x3 and 6x6 fields.

    Args:
        in_channels: channels of the image.
        classes: 1 for sigmoid; more for softmax with background as class 0.
        encoder: the name of a timm backbone that can be dilated.
        width: the decoder has eight times as many channels; 64 gives the 512 of the paper.
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
        build = partial(smp.PSPNet, encoder_depth=5, output_stride=8, upsampling=8, psp_out_channels=8 * width)
        super().__init__(build, in_channels, classes, encoder, width, 8, pretrained, spatial_dims)
        blocks = cast("nn.ModuleList", self.network.get_submodule("decoder.psp.blocks"))
        for index, block in enumerate(blocks):
            blocks[index] = PyramidLevel(block.get_submodule("pool.1"), cast("int", block.pool_size))


class PyramidLevel(nn.Module):
    """One level of the pyramid: averages over size x size fields, convolved, brought back to the map's size.

    It stands in for the library's own, whose adaptive pooling cannot be exported with free sizes.

    Args:
        convolution: 1x1, with what follows it.
        size: fields a side.
    """

    def __init__(self, convolution: nn.Module, size: int) -> None:
        super().__init__()
        self.convolution = convolution
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Take `[B, C, h, w]` to `[B, C', h, w]`."""
        fields = self.convolution(average_fields(x, self.size))
        return F.interpolate(fields, size=x.shape[2:], mode="bilinear", align_corners=True)


def average_fields(x: Tensor, size: int) -> Tensor:
    """Average a map `[B, C, h, w]` over size x size fields: adaptive average pooling, as two matrix products.

    Field i of a side of n pixels reaches from floor(i n / size) to ceil((i + 1) n / size); where size does not divide
    n, neighbours overlap.
    """
    rows, columns = (_averaging_matrix(side, size, x) for side in x.shape[2:])
    return rows @ x @ columns.t()


def _averaging_matrix(side: int, size: int, like: Tensor) -> Tensor:
    """Return `[size, side]`."""
    pixel = torch.arange(side, device=like.device)
    field = torch.arange(size, device=like.device)[:, None]
    inside = (pixel >= (field * side) // size) & (pixel * size < (field + 1) * side)
    return inside.to(like.dtype) / inside.sum(dim=1, keepdim=True)
