"""From a path to members that compute: a run, a fold, a bundle, or an exported `.onnx` or `.xml`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from fullscale.bundle.card import Card, ModelCard, is_exported
from fullscale.bundle.store import find_bundle, load_bundle, member_folders, read_cards, require_whole
from fullscale.errors import UsageError
from fullscale.inference.runtimes.kept import TITLES, GraphRuntime, KeptGraph
from fullscale.inference.runtimes.onnx import open_onnx
from fullscale.inference.runtimes.openvino import open_openvino
from fullscale.inference.runtimes.protocol import Runtime
from fullscale.inference.runtimes.torch import TorchRuntime, choose_device

RuntimeName = Literal["auto", "torch", "onnx", "openvino"]
"""What computes a run or a bundle; "auto" is OpenVINO where its graph is kept and is quicker, else PyTorch."""
LEAST_SPEED = 1.05
"""Times as fast as PyTorch, below which "auto" leaves a graph alone."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunningMember:
    """A model that is ready to compute.

    Attributes:
        card: what it is, and how scans are brought to it.
        runtime: what computes its network.
    """

    card: ModelCard
    runtime: Runtime


_EXPORTED: dict[str, tuple[GraphRuntime, Callable[[Path], tuple[ModelCard, Runtime]]]] = {
    ".onnx": ("onnx", open_onnx),
    ".xml": ("openvino", open_openvino),
}
"""What computes each kind of exported model, and opens it."""


def load_members(
    path: Path, device: str = "auto", runtime: RuntimeName | None = None
) -> tuple[Card, list[RunningMember]]:
    """Load all members of a run, a fold, a bundle, or an exported file with its card beside it.

    Args:
        path: the model.
        device: of PyTorch; graphs are computed on the CPU.
        runtime: what computes a run or a bundle, by default PyTorch. For "onnx" and "openvino" its graph is made once,
            and kept. An exported file has its own.

    Raises:
        DataError: there is no model, or it is damaged.
        UsageError: the device is not there, a runtime is not installed, or the two do not go together.
        FullscaleError: a graph cannot be made.
    """
    if runtime not in (None, *get_args(RuntimeName)):
        raise UsageError(f"runtime {runtime!r} is unknown: expected {', '.join(get_args(RuntimeName))}")
    card: Card
    if is_exported(path):
        name, opened = _EXPORTED[path.suffix]
        if runtime not in (None, "auto", name):
            raise UsageError(f"{path} is computed by {name}, not by {runtime}; give the run that it came from")
        _require_cpu("an exported model", device, "the run it came from")
        card, found = opened(path)
        return card, [RunningMember(card, found)]
    if runtime == "onnx" or runtime == "openvino":
        _require_cpu(f"a graph of {TITLES[runtime]}", device, "the runtime torch")
        card, graphs = _graphs(path, runtime)
        require_whole(path)
        return card, [RunningMember(graph.card, graph.find_or_make()) for graph in graphs]
    place = choose_device(device)
    if runtime == "auto" and place.type == "cpu":
        card, graphs = _graphs(path, "openvino")
        members = _kept(path, graphs)
        if members:
            return card, members
    bundle = load_bundle(path)
    return bundle.card, [RunningMember(m.card, TorchRuntime(m.network.to(place))) for m in bundle.members]


def _require_cpu(what: str, device: str, instead: str) -> None:
    if device not in ("auto", "cpu"):
        raise UsageError(f"{what} is computed on the CPU, not on {device!r}; use the device cpu, or {instead}")


def _graphs(path: Path, runtime: GraphRuntime) -> tuple[Card, list[KeptGraph]]:
    """Name the graphs of all members, without loading anything."""
    card, cards = read_cards(path)
    folders = member_folders(find_bundle(path)).values()
    return card, [KeptGraph(folder, single, runtime) for folder, single in zip(folders, cards, strict=True)]


def _kept(path: Path, graphs: list[KeptGraph]) -> list[RunningMember]:
    """Load graphs that are kept; none where one is not there, or slower than PyTorch.

    Where one cannot be used, a line says why.
    """
    if not all(graph.is_there for graph in graphs):
        return []
    if any(graph.speed is not None and graph.speed < LEAST_SPEED for graph in graphs):
        _log.info("OpenVINO was not quicker than PyTorch when its graph was made, so PyTorch computes")
        return []
    require_whole(path)
    members = []
    for graph in graphs:
        try:
            found = graph.find()
        except UsageError as error:  # the runtime is not installed
            graph.faults, found = [str(error)], None
        if found is None:
            _log.info("%s; PyTorch computes instead, and the runtime openvino makes it anew", graph.faults[0])
            return []
        members.append(RunningMember(graph.card, found))
    return members
