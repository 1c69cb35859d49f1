"""From a path to members that compute: a run, a fold, a bundle, or an exported `.onnx`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fullscale.bundle.card import Card, ModelCard
from fullscale.bundle.store import load_bundle
from fullscale.errors import UsageError
from fullscale.inference.runtimes.onnx import open_exported
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


def load_members(path: Path, device: str = "auto") -> tuple[Card, list[RunningMember]]:
    """Load all members of a run, a fold, a bundle, or an exported `.onnx` with its card beside it, onto a device.

    Raises:
        DataError: there is no model, or it is damaged.
        UsageError: the device is not there, or ONNX Runtime is not installed.
    """
    if path.suffix == ".onnx" and not path.is_dir():
        if device not in ("auto", "cpu"):
            raise UsageError(
                f"an ONNX model is computed on the CPU, not on {device!r}; use cpu, or the run it came from"
            )
        card, runtime = open_exported(path)
        return card, [RunningMember(card, runtime)]
    place = choose_device(device)
    bundle = load_bundle(path)
    return bundle.card, [RunningMember(m.card, TorchRuntime(m.network.to(place))) for m in bundle.members]
