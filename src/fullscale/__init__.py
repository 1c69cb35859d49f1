"""Medical image segmentation with UNet 3+, from a folder of labelled scans to masks and honest scores.

The public names are loaded on first use, so that `import fullscale` costs nothing.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fullscale.data.read import read_image as read_volume  # noqa: F401
    from fullscale.data.volume_files import write_volume as write_volume
    from fullscale.geometry.volume import Volume as Volume
    from fullscale.inference.predictor import Predictor as Predictor
    from fullscale.networks import create_network as create_network
    from fullscale.networks import list_networks as list_networks
    from fullscale.networks.unet3plus import UNet3Plus as UNet3Plus
    from fullscale.scoring.evaluate import evaluate as evaluate

_HOME = {
    "Predictor": "fullscale.inference.predictor:Predictor",
    "UNet3Plus": "fullscale.networks.unet3plus:UNet3Plus",
    "Volume": "fullscale.geometry.volume:Volume",
    "create_network": "fullscale.networks:create_network",
    "evaluate": "fullscale.scoring.evaluate:evaluate",
    "list_networks": "fullscale.networks:list_networks",
    "read_volume": "fullscale.data.read:read_image",
    "write_volume": "fullscale.data.volume_files:write_volume",
}

__all__ = list(_HOME)

# MONAI loads MLflow wherever that is installed, and from then on MLflow reports to its makers how it is used.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fullscale' has no attribute {name!r}")
    module, attribute = _HOME[name].split(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(_HOME)
