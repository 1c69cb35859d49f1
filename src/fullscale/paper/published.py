"""Tables 1 and 2 of the paper: its rows, what it prints of them, and how the networks are built here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

PLAIN, RESNET = "plain", "resnet101"
"""The two encoders of the paper's tables; it calls the plain one VGG-16."""

ENCODERS = {PLAIN: "VGG-16", RESNET: "ResNet-101"}
"""What the paper calls them."""


class Dice(NamedTuple):
    """The paper's Dice, a mean over test scans."""

    liver: float
    spleen: float


@dataclass(frozen=True)
class Row:
    """A row of the paper's tables.

    Attributes:
        title: the network in the words of the tables.
        network: a name that `create_network` knows.
        options: its further arguments.
        published_m: parameters in millions, by encoder.
        dice: by encoder.
        recipe: name of the row in the recipe of the table; `{}` stands for the encoder.
    """

    title: str
    network: str
    options: Mapping[str, Any] = field(default_factory=dict)
    published_m: Mapping[str, float] = field(default_factory=dict)
    dice: Mapping[str, Dice] = field(default_factory=dict)
    recipe: str = ""


_ALONE = {"deep_supervision": False, "classification_guided": False}
_SUPERVISED = {"classification_guided": False}

TABLE_1 = (
    Row(
        "UNet",
        "unet",
        published_m={PLAIN: 39.39, RESNET: 55.90},
        dice={PLAIN: Dice(0.9206, 0.9023), RESNET: Dice(0.9387, 0.9332)},
        recipe="UNet {}",
    ),
    Row(
        "UNet++",
        "unet++",
        published_m={PLAIN: 47.18, RESNET: 63.76},
        dice={PLAIN: Dice(0.9278, 0.9230), RESNET: Dice(0.9475, 0.9423)},
        recipe="UNet++ {}",
    ),
    Row(
        "UNet 3+ without deep supervision",
        "unet3+",
        _ALONE,
        {PLAIN: 26.97, RESNET: 43.55},
        {PLAIN: Dice(0.9489, 0.9437), RESNET: Dice(0.9580, 0.9539)},
        "UNet 3+ {} without supervision",
    ),
    Row(
        "UNet 3+",
        "unet3+",
        _SUPERVISED,
        {PLAIN: 26.97, RESNET: 43.55},
        {PLAIN: Dice(0.9550, 0.9496), RESNET: Dice(0.9601, 0.9560)},
        "UNet 3+ {}",
    ),
)
"""All trained with focal loss."""

TABLE_2 = (
    Row("PSPNet", "pspnet", dice={RESNET: Dice(0.9242, 0.9240)}, recipe="PSPNet"),
    Row("DeepLabV2", "deeplabv2", dice={RESNET: Dice(0.9021, 0.9097)}, recipe="DeepLabV2"),
    Row("DeepLabV3", "deeplabv3", dice={RESNET: Dice(0.9217, 0.9217)}, recipe="DeepLabV3"),
    Row("DeepLabV3+", "deeplabv3+", dice={RESNET: Dice(0.9186, 0.9290)}, recipe="DeepLabV3+"),
    Row("Attention UNet", "attention-unet", dice={RESNET: Dice(0.9341, 0.9324)}, recipe="Attention UNet"),
    Row("UNet 3+, focal loss", "unet3+", _SUPERVISED, dice={RESNET: Dice(0.9601, 0.9560)}, recipe="UNet 3+ focal"),
    Row("UNet 3+, hybrid loss", "unet3+", _SUPERVISED, dice={RESNET: Dice(0.9643, 0.9588)}, recipe="UNet 3+ hybrid"),
    Row("UNet 3+, hybrid loss, CGM", "unet3+", dice={RESNET: Dice(0.9675, 0.9620)}, recipe="UNet 3+ hybrid CGM"),
)
"""All with ResNet-101 in the paper; the rivals with losses of their own."""
