"""From a path to members that compute: a run, a fold, a bundle, or an exported `.onnx` or `.xml`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fullscale.bundle.card import Card, ModelCard, is_exported
from fullscale.bundle.store import load_bundle
from fullscale.errors import UsageError
from fullscale.inference.runtimes.onnx import open_onnx
from fullscale.inference.runtimes.openvino import open_openvino
from fullscale.inference.runtimes.protocol import Runtime
from fullscale.inference.runtimes.torch import TorchRuntime, choose_device


@dataclass(frozen=True)
class RunningMember:
    """A model that is ready to compute.

    Attributes:
        card: what it is, and how scans are brought to it.
        runtime: what computes its network.
    """

    card: ModelCard
    runtime: Runtime


_EXPORTED: dict[str, Callable[[Path], tuple[ModelCard, Runtime]]] = {".onnx": open_onnx, ".xml": open_openvino}
"""What opens each kind of exported model."""


def load_members(path: Path, device: str = "auto") -> tuple[Card, list[RunningMember]]:
    """Load all members of a run, a fold, a bundle, or an exported file with its card beside it, onto a device.

    Raises:
        DataError: there is no model, or it is damaged.
        UsageError: the device is not there, or ONNX Runtime or OpenVINO is not installed.
    """
    if is_exported(path):
        if device not in ("auto", "cpu"):
            raise UsageError(
                f"an exported model is computed on the CPU, not on {device!r}; use cpu, or the run it came from"
            )
        card, runtime = _EXPORTED[path.suffix](path)
        return card, [RunningMember(card, runtime)]
    place = choose_device(device)
    bundle = load_bundle(path)
    return bundle.card, [RunningMember(m.card, TorchRuntime(m.network.to(place))) for m in bundle.members]
