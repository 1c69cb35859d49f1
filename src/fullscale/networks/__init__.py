"""Segmentation networks, made by name. Knows torch and the registry only; torch is loaded with the first network."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from fullscale.errors import UsageError
from fullscale.registry import Registry

if TYPE_CHECKING:
    from fullscale.networks.protocol import Network

NETWORKS: Registry[Network] = Registry(
    kind="network",
    table={
        "unet3+": "fullscale.networks.unet3plus:UNet3Plus",
        "unet": "fullscale.networks.unet:UNet",
        "unet++": "fullscale.networks.unetplusplus:UNetPlusPlus",
        "attention-unet": "fullscale.networks.attention_unet:AttentionUNet",
        "strided-unet": "fullscale.networks.strided_unet:StridedUNet",
        "pspnet": "fullscale.networks.pspnet:PSPNet",
        "deeplabv2": "fullscale.networks.deeplab:DeepLabV2",
        "deeplabv3": "fullscale.networks.deeplab:DeepLabV3",
        "deeplabv3+": "fullscale.networks.deeplab:DeepLabV3Plus",
    },
    group="fullscale.networks",
    given=("in_channels", "classes"),
    base="torch.nn:Module",
    synonyms={
        "encoder_name": "encoder",
        "backbone": "encoder",
        "encoder_weights": "pretrained",
        "weights": "pretrained",
        "in_chans": "in_channels",
        "n_channels": "in_channels",
        "out_channels": "classes",
        "num_classes": "classes",
        "n_classes": "classes",
        "features": "width",
        "base_channels": "width",
        "use_checkpoint": "gradient_checkpointing",
    },
)
"""Every network by its name. Other packages add theirs by entry points, or are named as `package.module:Class`."""


def list_networks() -> list[str]:
    """Return the names that `create_network` takes, those of installed packages last."""
    return NETWORKS.names()


def network_options(name: str) -> dict[str, Any]:
    """Return the options that a network takes beside channels and classes, with their defaults.

    Raises:
        UsageError: no network has this name.
    """
    options = NETWORKS.options(name)
    return {name: p.default for name, p in options.items() if p.default is not inspect.Parameter.empty}


def create_network(name: str, in_channels: int, classes: int, **options: Any) -> Network:
    """Build a network by name.

    Args:
        name: one of `list_networks()`, or `package.module:Class`, a `torch.nn.Module`.
        in_channels: channels C of the images `[B, C, H, W]` or volumes `[B, C, D, H, W]` it will be given.
        classes: channels of its logits: 1 is sigmoid, more is softmax with background as class 0.
        options: further arguments of the network's own class, see `network_options`.

    Raises:
        UsageError: the name or an option is unknown, a value does not fit, or what is built is no `Network`.
    """
    network = NETWORKS.create(name, in_channels, classes, **options)
    from fullscale.networks.protocol import Network

    if not isinstance(network, Network):
        raise UsageError(
            f"network '{name}' lacks something that a Network has, such as segment or num_supervised: derive it from "
            "SegmentationNetwork, and see what fullscale.testing.check_network says"
        )
    return network
