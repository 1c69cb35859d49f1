"""Options that make each network of the table quick to run, for images and, under a name of its own, for volumes."""

from typing import Any

from fullscale.networks import create_network, list_networks, network_options
from fullscale.networks.protocol import Network
from fullscale.networks.spatial import VOLUMETRIC

SMALL: dict[str, dict[str, Any]] = {
    "unet3+": {"width": 2, "skip_channels": 4},
    "unet": {"width": 2},
    "unet++": {"width": 2},
    "attention-unet": {"width": 2},
    "strided-unet": {"width": 4, "levels": 4},
    "pspnet": {"encoder": "resnet10t", "width": 4},
    "deeplabv2": {"encoder": "resnet10t"},
    "deeplabv3": {"encoder": "resnet10t", "width": 4},
    "deeplabv3+": {"encoder": "resnet10t", "width": 4},
}
IN_3D = {f"{name} in 3D": SMALL[name] | {"spatial_dims": 3, "levels": 4} for name in VOLUMETRIC}
VARIANTS = {
    "unet3+ reduced": {"width": 2, "skip_channels": 2, "levels": 3, "fusion": "reduce", "normalization": "instance"},
    "unet3+ refined": {"width": 2, "skip_channels": 2, "levels": 3, "fusion": "refine"},
    "unet3+ summed": {"width": 2, "levels": 6, "fusion": "sum", "downsampling": "stride", "max_width": 8},
    "unet3+ in 3D, paper, anisotropic": {
        "spatial_dims": 3,
        "width": 2,
        "skip_channels": 2,
        "levels": 4,
        "strides": ((1, 2, 2), (2, 2, 2), (2, 1, 2)),
        "normalization": "instance",
        "downsampling": "stride",
    },
    "unet3+ in 3D, refined": {
        "spatial_dims": 3,
        "width": 2,
        "skip_channels": 2,
        "levels": 3,
        "fusion": "refine",
        "normalization": "instance",
        "downsampling": "stride",
    },
    "unet in 3D, anisotropic": {
        "spatial_dims": 3,
        "width": 2,
        "levels": 3,
        "strides": ((1, 2, 2), (2, 2, 2)),
        "normalization": "instance",
    },
    "attention-unet in 3D, anisotropic": {
        "spatial_dims": 3,
        "width": 4,
        "levels": 3,
        "strides": ((1, 2, 2), (2, 2, 2)),
    },
    "strided-unet in 3D, anisotropic": {
        "spatial_dims": 3,
        "width": 2,
        "levels": 3,
        "strides": ((1, 2, 2), (2, 2, 2)),
        "deep_supervision": False,
    },
}
CASES = [*list_networks(), *IN_3D, *VARIANTS]


def network_of(case: str) -> str:
    """Return the name of a case's network."""
    return case.split(" ")[0]


def options_of(case: str) -> dict[str, Any]:
    """Return the options of a case."""
    return (SMALL | IN_3D | VARIANTS)[case]


def make(case: str, in_channels: int, classes: int, **options: Any) -> Network:
    """Build the network of a case."""
    return create_network(network_of(case), in_channels, classes, **options_of(case) | options)


def shallow(case: str) -> dict[str, Any]:
    """Return what makes a case's network one of three levels, where it has a choice: to trace it takes less then."""
    options = options_of(case)
    return {"levels": 3} if "levels" in network_options(network_of(case)) and "strides" not in options else {}
