"""The checks for a plug-in's author: ours pass, and each check finds the fault it is there for."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.losses import create_loss, list_losses
from fullscale.networks.protocol import SegmentationOutput
from fullscale.testing import check_augmentation, check_loss, check_network
from fullscale.training.augment import DefaultAugmentation


class TinyNet(nn.Module):
    """Two convolutions: the least that is a network."""

    spatial_dims = 2
    stride: Any = (1, 1)
    num_supervised = 1

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.in_channels, self.classes = in_channels, classes
        self.first = nn.Conv2d(in_channels, 4, kernel_size=3, padding=1)
        self.last = nn.Conv2d(4, classes, kernel_size=1)

    def forward(self, image: Tensor) -> Any:
        return self.segment(image)[0]

    def segment(self, image: Tensor) -> Any:
        if image.ndim != 4:
            raise ValueError("expected a batch")
        return self.last(F.relu(self.first(image))), None


def test_a_network_of_two_convolutions_passes() -> None:
    check_network(TinyNet)


def test_a_network_of_two_convolutions_for_volumes_passes() -> None:
    check_network(Deep)


class Smaller(TinyNet):
    def segment(self, image: Tensor) -> Any:
        return super().segment(image)[0][..., 1:], None


class Forgetful(TinyNet):
    """Leaves a layer out."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__(in_channels, classes)
        self.spare = nn.Linear(3, 3)


class Sociable(TinyNet):
    """Normalises over the batch, in evaluation too."""

    def segment(self, image: Tensor) -> Any:
        logits = super().segment(image)[0]
        return logits - logits.mean(dim=0, keepdim=True), None


class Dropping(TinyNet):
    def segment(self, image: Tensor) -> Any:
        return F.dropout(super().segment(image)[0], training=True), None


class Hidden(TinyNet):
    """Keeps a number that is not among the weights."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__(in_channels, classes)
        self.scale = float(torch.rand(()))

    def segment(self, image: Tensor) -> Any:
        return self.scale * super().segment(image)[0], None


class Lonely(TinyNet):
    """Says one stride for two axes."""

    stride = 1


class Deep(TinyNet):
    """The same for volumes."""

    spatial_dims = 3
    stride = (1, 1, 1)

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__(in_channels, classes)
        self.first = nn.Conv3d(in_channels, 4, kernel_size=3, padding=1)
        self.last = nn.Conv3d(4, classes, kernel_size=1)

    def segment(self, image: Tensor) -> Any:
        if image.ndim != 5:
            raise ValueError("expected a batch")
        return self.last(F.relu(self.first(image))), None


class Flat(Deep):
    """Forgets an axis of its stride."""

    stride = (1, 1)


class Boasting(TinyNet):
    num_supervised = 3


class Listing(TinyNet):
    def forward(self, image: Tensor) -> Any:
        return [self.segment(image)[0]]


class Wrapping(TinyNet):
    def forward(self, image: Tensor) -> Any:
        logits = self.segment(image)[0]
        return SegmentationOutput([logits], None) if self.training else logits


class Gating(TinyNet):
    """Leaves out what it was never taught to find."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__(in_channels, classes)
        self.told = nn.Linear(in_channels, 2 * max(1, classes - 1))
        self.told.bias.data[::2] = 5.0

    def segment(self, image: Tensor) -> Any:
        presence = self.told(image.mean(dim=(2, 3))).reshape(len(image), -1, 2)
        return super().segment(image)[0], presence

    def forward(self, image: Tensor) -> Any:
        logits, presence = self.segment(image)
        if self.training:
            return SegmentationOutput([logits], presence)
        return logits - 1e4 * (presence[..., 0] > presence[..., 1]).any(dim=1).float()[:, None, None, None]


class Broadcasting(TinyNet):
    def segment(self, image: Tensor) -> Any:
        return super().segment(image.expand(image.shape[0], self.in_channels, *image.shape[-2:]))

    def forward(self, image: Tensor) -> Any:
        return self.segment(image[None] if image.ndim == 3 else image)[0]


def nameless(in_channels: int, classes: int) -> Any:
    network = TinyNet(in_channels, classes)
    del network.in_channels
    return network


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Smaller, r"logits in training have shape \[2, 1, 32, 47\], not \[2, 1, 32, 48\]"),
        (Forgetful, "parameter 'spare.weight' gets no gradient"),
        (Sociable, "depend on the other images of its batch"),
        (Dropping, "in evaluation|depend on the other"),
        (Hidden, "weights saved and loaded give other logits"),
        (Boasting, "num_supervised is 3, and it gives 1 logits in training"),
        (Lonely, r"Lonely\.stride is 1, not a tuple of 2 whole numbers"),
        (Flat, r"Flat\.stride is \(1, 1\), not a tuple of 3 whole numbers"),
        (Listing, "in training Listing returns list, not a tensor or a SegmentationOutput"),
        (Wrapping, "returns a SegmentationOutput of one tensor"),
        (Gating, "before it is taught presence it changes its logits"),
        (Broadcasting, r"an image of shape \[3, 32, 32\] is taken"),
        (nameless, "TinyNet has no 'in_channels', which a Network has"),
    ],
)
def test_a_network_with_a_fault_is_told_so_in_one_line(make: Callable[[int, int], Any], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_network(make)


@pytest.mark.parametrize("name", list_losses())
def test_our_losses_pass(name: str) -> None:
    check_loss(create_loss(name))


class Loss(nn.Module):
    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.function(logits.float() if logits.dtype == torch.bfloat16 else logits, target.long())


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits, target)


def test_a_loss_for_several_classes_alone_passes() -> None:
    check_loss(Loss(cross_entropy), classes=(2, 3))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, t: F.cross_entropy(x, t, reduction="none"), r"has shape \[2, 1, 1\]: expected one number"),
        (lambda x, t: F.cross_entropy(x.detach(), t), "cut off from the logits"),
        (lambda x, t: F.cross_entropy(-x, t), "right"),
        (lambda x, t: -x.softmax(1).gather(1, t[:, None]).log().mean(), "not finite"),
        (lambda x, t: F.cross_entropy(x[:1], t[:1]), "images in another order"),
        (lambda x, t: F.cross_entropy(x, t.fill_(0)), "writes into the target"),
        (lambda x, _: 0 * x.sum(), "zero everywhere"),
    ],
)
def test_a_loss_with_a_fault_is_told_so(function: Callable[[Tensor, Tensor], Tensor], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_loss(Loss(function), classes=(2,))


def test_our_augmentation_passes() -> None:
    check_augmentation(DefaultAugmentation(probability=1, flip=0.5))


class Mirror:
    """Mirrors every second crop."""

    def __call__(self, image: Any, label: Any, seed: int) -> tuple[Tensor, Tensor]:
        image, label = torch.from_numpy(image), torch.from_numpy(label).long()
        return (image.flip(-1), label.flip(-1)) if seed % 2 else (image, label)


def test_a_mirror_passes() -> None:
    check_augmentation(Mirror())


class Careless(Mirror):
    def __call__(self, image: Any, label: Any, seed: int) -> tuple[Tensor, Tensor]:
        changed, moved = super().__call__(image, label, seed)
        return changed + torch.randn(()), moved


class ImageAlone(Mirror):
    def __call__(self, image: Any, label: Any, seed: int) -> tuple[Tensor, Tensor]:
        return super().__call__(image, label, seed)[0], torch.from_numpy(label).long()


class Blending(Mirror):
    def __call__(self, image: Any, label: Any, seed: int) -> tuple[Tensor, Tensor]:
        changed, moved = super().__call__(image, label, seed)
        return changed, moved // 2


class Doubles(Mirror):
    def __call__(self, image: Any, label: Any, seed: int) -> tuple[Tensor, Tensor]:
        return super().__call__(image.astype(np.float64), label, seed)


class Cropping(Mirror):
    def __call__(self, image: Any, label: Any, seed: int) -> tuple[Tensor, Tensor]:
        return super().__call__(image[:, 1:], label[1:], seed)


class Local(Mirror):
    def __init__(self) -> None:
        self.function = lambda: None


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        (Careless(), "seed 0 gives two results"),
        (ImageAlone(), "does not lie under its label any more"),
        (Blending(), r"the label holds \[100\], which it did not hold"),
        (Doubles(), r"the image comes back as torch\.float64, not as torch\.float32"),
        (Cropping(), r"the image comes back with shape \[1, 31, 32\], not \[1, 32, 32\]"),
        (Local(), "cannot be sent to a process"),
    ],
)
def test_an_augmentation_with_a_fault_is_told_so(augmentation: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_augmentation(augmentation)
