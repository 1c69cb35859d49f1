"""Figure 3: the classification-guided module, from the deepest map to the gate on the logits."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from fullscale.networks.spatial import LAYERS
from fullscale.networks.unet3plus import UNet3Plus
from fullscale.paper.drawing import PAINT, SOFT, Sheet, middle, scale_of, times
from fullscale.paper.graph import Graph, Node

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

_ROW, _HEIGHT, _FOOT, _HEAD = 0.72, 0.54, 0.15, 1.0
_TOP_ROW = 1.6
_MAP, _HEAD_COLUMN, _UP, _GATE, _OUT = 1.0, 3.1, 5.25, 7.4, 9.55
"""Middles of the columns of the lower part, in inches."""
_STEPS = (_HEAD_COLUMN, _UP, _GATE, _OUT)


def guidance_figure(graph: Graph) -> Figure | None:
    """Draw how the deepest map says what an image holds, and what that does to the logits; None without guidance."""
    module = graph.guidance
    if module is None or graph.guided is None:
        return None
    supervised = sorted(
        ((name, node) for name, node in graph.nodes.items() if name in graph.heads), key=lambda item: item[1].level
    )
    height = _FOOT + len(supervised) * _ROW + _TOP_ROW
    sheet = Sheet(_OUT + 1.03, height + _HEAD)
    sheet.text((0.2, height + 0.66), "The classification-guided module", 14, weight="bold", ha="left")
    about = (
        "Which structures an image holds is told from the deepest map. What it does not hold is taken out of the mask."
    )
    sheet.text((0.2, height + 0.34), about, 9.5, SOFT, ha="left")
    decision = _classification(sheet, graph, height - 0.45)
    finest = _FOOT + (len(supervised) - 0.5) * _ROW
    gates_all = _gates_in_training(graph)
    gates = []
    for number, (name, node) in enumerate(supervised):
        gated = number == 0 or gates_all
        gate = _side_output(sheet, graph, name, node, finest - number * _ROW, gated, number == 0)
        if gate is not None:
            gates.append(gate)
    (right, level), (left, below) = middle(decision), middle(gates[0])
    bend = (level + below) / 2
    sheet.line([(right, level), (right, bend), (left, bend)], "gate")
    sheet.arrow((left, bend), gates[0], "gate")
    sheet.text(
        (0.2, bend + 0.12), "In training, the numbers after the maximum learn by cross-entropy", 9, SOFT, ha="left"
    )
    sheet.text((0.2, bend - 0.1), "whether the truth of an image holds each structure.", 9, SOFT, ha="left")
    for upper, lower in pairwise(gates):
        sheet.arrow(upper, lower, "gate")
    return sheet.figure


def _classification(sheet: Sheet, graph: Graph, y: float) -> FancyBboxPatch:
    """Draw the way from the deepest map to the decision."""
    module, name = graph.guidance, graph.guided
    assert module is not None
    assert name is not None
    node, convolution = graph.nodes[name], module.conv
    steps = [
        (["dropout", f"of a share of {module.dropout.p:g}"], PAINT["step"]),
        (
            [
                f"{times(convolution.kernel_size)} conv",
                f"{convolution.in_channels} to {convolution.out_channels} channels",
            ],
            PAINT["step"],
        ),
        (["maximum", f"over {', '.join(LAYERS[graph.network.spatial_dims].axes)}"], PAINT["step"]),
        (["present?", _question(convolution.out_channels // 2)], PAINT["gate"]),
    ]
    lines = [name, f"{node.channels} channels, {scale_of(node)}"]
    box = sheet.box((_MAP, y), (1.6, _HEIGHT), lines, PAINT[node.kind])
    for x, (text, paint) in zip(_STEPS, steps, strict=True):
        following = sheet.box((x, y), (1.65, _HEIGHT), text, paint)
        sheet.arrow(box, following)
        box = following
    return box


def _side_output(
    sheet: Sheet, graph: Graph, name: str, node: Node, y: float, gated: bool, finest: bool
) -> FancyBboxPatch | None:
    """Draw the way from a supervised map to its logits; return the gate on it, if there is one."""
    head = graph.heads[name][0]
    linear = LAYERS[len(node.stride)].linear
    box = sheet.box((_MAP, y), (1.6, _HEIGHT), [name, f"{node.channels} channels, {scale_of(node)}"], PAINT[node.kind])
    steps = [[f"{times(head.kernel_size)} conv", f"{head.in_channels} to {head.out_channels} channels"]]
    if set(node.stride) != {1}:
        factor = times(node.stride) if len(set(node.stride)) > 1 else str(node.stride[0])
        steps.append([f"up, {linear}", f"×{factor}"])
    for x, text in zip((_HEAD_COLUMN, _UP), steps, strict=False):
        following = sheet.box((x, y), (1.65, _HEIGHT), text, PAINT["step"])
        sheet.arrow(box, following)
        box = following
    gate = None
    if gated:
        gate = sheet.box((_GATE, y), (1.65, _HEIGHT), [_gate_name(graph), "absent: probability 0"], PAINT["gate"])
        sheet.arrow(box, gate)
        box = gate
    when = "in training and after" if finest else "in training"
    out = sheet.box((_OUT, y), (1.6, _HEIGHT), ["logits", when], PAINT["decoder"])
    sheet.arrow(box, out)
    return gate


def _question(structures: int) -> str:
    return "present above absent" if structures == 1 else f"for each of {structures} structures"


def _gates_in_training(graph: Graph) -> bool:
    return isinstance(graph.network, UNet3Plus) and graph.network.gate_in_training


def _gate_name(graph: Graph) -> str:
    return "gate" if _gates_in_training(graph) else "gate, not in training"
