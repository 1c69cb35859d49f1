"""A model for a runtime in the quickest form and precision that leave its masks as they are on this processor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fullscale.bundle.store import load_bundle
from fullscale.inference.export.model import Format, export_model
from fullscale.inference.export.precision import changes, objection
from fullscale.inference.runtimes.openvino import OpenVinoRuntime, Precision
from fullscale.inference.runtimes.torch import TorchRuntime
from fullscale.networks.kernels.forms import Form
from fullscale.work.machine import has_bf16


def export_quickest(bundle: Path, graph: Path, format: Format) -> tuple[Precision, str]:
    """Write a graph, its outputs checked against PyTorch, and choose its precision.

    Args:
        bundle: of one model.
        graph: the file, as of `export_model`.
        format: "onnx" or "openvino".

    Returns:
        The precision, and in a few words why it is no quicker one; nothing where there is nothing to say.

    Raises: as `export_model` does.
    """
    why = ""
    for form, precision in _candidates(format):
        export_model(bundle, graph, format, form)
        if precision == "float32":
            break
        why = _objection(bundle, graph, precision)
        if not why:
            break
    return precision, why


def _candidates(format: Format) -> Iterator[tuple[Form, Precision]]:
    """Name forms and precisions, the quickest first: products of bf16 are so quick that factors gain nothing."""
    if format == "openvino" and has_bf16():
        yield "direct", "bf16"
    yield "factored", "float32"


def _objection(bundle: Path, graph: Path, precision: Precision) -> str:
    [member] = load_bundle(bundle).members
    exact, quick = TorchRuntime(member.network), OpenVinoRuntime(graph, precision=precision)
    return objection(changes(member.card, exact.logits, quick.logits))
