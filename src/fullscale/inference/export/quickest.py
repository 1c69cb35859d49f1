"""A model for a runtime in the quickest form and precision that leave its masks as they are on this processor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fullscale.bundle.store import load_bundle
from fullscale.inference.export.model import Format, export_model
from fullscale.inference.export.precision import changes, objection
from fullscale.inference.runtimes.onnx import OnnxRuntime
from fullscale.inference.runtimes.openvino import OpenVinoRuntime, Precision
from fullscale.inference.runtimes.torch import TorchRuntime
from fullscale.inference.timing import times_faster
from fullscale.networks.kernels.forms import Form
from fullscale.work.machine import has_bf16


class Quickest(NamedTuple):
    """What was chosen for a graph.

    Attributes:
        precision: in which it is computed.
        why: in a few words, why it is no quicker precision; nothing where there is nothing to say.
        speed: how many times faster than PyTorch it is computed.
    """

    precision: Precision
    why: str
    speed: float


def export_quickest(bundle: Path, graph: Path, format: Format) -> Quickest:
    """Write a graph, its outputs checked against PyTorch, choose its precision, and measure it.

    Args:
        bundle: of one model.
        graph: the file, as of `export_model`.
        format: "onnx" or "openvino".

    Raises: as `export_model` does.
    """
    why, [member] = "", load_bundle(bundle).members
    exact = TorchRuntime(member.network)
    for form, precision in _candidates(format):
        export_model(bundle, graph, format, form)
        if precision == "float32":
            break
        why = objection(changes(member.card, exact.logits, OpenVinoRuntime(graph, precision=precision).logits))
        if not why:
            break
    quick = OnnxRuntime(graph) if format == "onnx" else OpenVinoRuntime(graph, precision=precision)
    return Quickest(precision, why, times_faster(quick, exact, member.card))


def _candidates(format: Format) -> Iterator[tuple[Form, Precision]]:
    """Name forms and precisions, the quickest first: products of bf16 are so quick that factors gain nothing."""
    if format == "openvino" and has_bf16():
        yield "direct", "bf16"
    yield "factored", "float32"
