"""Segmentation networks, made by name. Knows torch and the errors only; torch is loaded with the first network."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fullscale.errors import UsageError

if TYPE_CHECKING:
    from fullscale.networks.protocol import Network

_NETWORKS = {
    "unet3+": "fullscale.networks.unet3plus:UNet3Plus",
    "unet": "fullscale.networks.unet:UNet",
    "unet++": "fullscale.networks.unetplusplus:UNetPlusPlus",
    "attention-unet": "fullscale.networks.attention_unet:AttentionUNet",
    "pspnet": "fullscale.networks.pspnet:PSPNet",
    "deeplabv2": "fullscale.networks.deeplab:DeepLabV2",
    "deeplabv3": "fullscale.networks.deeplab:DeepLabV3",
    "deeplabv3+": "fullscale.networks.deeplab:DeepLabV3Plus",
}
"""Every network by its name, and the class to import for it."""


def list_networks() -> list[str]:
    """Return the names that `create_network` takes."""
    return list(_NETWORKS)


def network_options(name: str) -> dict[str, Any]:
    """Return the options that a network takes beside channels and classes, with their defaults.

    Raises:
        UsageError: no network has this name.
    """
    parameters = inspect.signature(_class_of(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in ("in_channels", "classes")}


def create_network(name: str, in_channels: int, classes: int, **options: Any) -> Network:
    """Build a network by name.

    Args:
        name: one of `list_networks()`.
        in_channels: channels C of the images `[B, C, H, W]` it will be given.
        classes: channels of its logits: 1 is sigmoid, more is softmax with background as class 0.
        options: further arguments of the network's own class, see `network_options`.

    Raises:
        UsageError: the name or an option is unknown, or a value does not fit.
    """
    network_class, known = _class_of(name), network_options(name)
    for option in options:
        if option not in known:
            raise UsageError(f"network '{name}' has no option '{option}': expected {_one_of(option, list(known))}")
    return network_class(in_channels, classes, **options)


def _class_of(name: str) -> Callable[..., Network]:
    if name not in _NETWORKS:
        raise UsageError(f"network '{name}' is unknown: expected {_one_of(name, list_networks())}")
    module, class_name = _NETWORKS[name].split(":")
    network_class: Callable[..., Network] = getattr(importlib.import_module(module), class_name)
    return network_class


def _one_of(wrong: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(wrong, known, n=1)
    return f"'{nearest[0]}', perhaps?" if nearest else f"one of {', '.join(known)}"
