"""A network in float64: another order of its sums changes so little that nothing else can hide behind it."""

from torch import Tensor

from fullscale.networks.strided_unet import StridedUNet


class Float64Net(StridedUNet):
    """A small UNet whose norm is of each image by itself."""

    def __init__(self, in_channels: int, classes: int, width: int = 4) -> None:
        super().__init__(in_channels, classes, width=width, levels=3)
        self.double()

    def _logits(self, image: Tensor) -> list[Tensor]:
        return super()._logits(image.double())
