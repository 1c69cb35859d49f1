"""Figure 1: UNet, UNet++ and UNet 3+ side by side, as their blocks take and give maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fullscale.networks.parameters import count_parameters
from fullscale.networks.spatial import LAYERS
from fullscale.paper.drawing import ARROWS, INK, PAINT, SOFT, Sheet, middle, scale_of
from fullscale.paper.graph import Edge, Graph, Node

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

_ACROSS, _DOWN = 0.48, 0.95
_BOX, _FONT = (0.68, 0.46), 10
_NARROWEST = 14.0
"""Inches that the legend needs."""
_LEFT, _BETWEEN, _HEAD, _FOOT = 0.95, 0.8, 1.3, 0.95
_AROUND_NODES, _OVER_NODES = {"up": 0.4, "same": 0.0, "down": -0.13}, -0.26


def architectures_figure(graphs: Mapping[str, Graph]) -> Figure:
    """Draw networks side by side: a box for each map with its channels, an arrow for each that a block takes.

    Args:
        graphs: of networks with one and the same encoder, by their titles.
    """
    levels = max(graph.levels for graph in graphs.values())
    panel = 2 * (levels - 1) * _ACROSS + _BOX[0]
    top = _FOOT + (levels - 1) * _DOWN + _BOX[1]
    sheet = Sheet(max(_NARROWEST, _LEFT + len(graphs) * (panel + _BETWEEN)), top + _HEAD)
    first = next(iter(graphs.values()))
    for name in (f"En{level + 1}" for level in range(first.levels)):
        node = first.nodes[name]
        sheet.text((0.12, _place(node, first, 0.0, top)[1]), scale_of(node), 10, SOFT, ha="left")
    for number, (title, graph) in enumerate(graphs.items()):
        left = _LEFT + number * (panel + _BETWEEN)
        sheet.text((left, top + 1.05), title, 16, weight="bold", ha="left")
        sheet.text((left, top + 0.79), f"{count_parameters(graph.network):,} parameters", 11, SOFT, ha="left")
        _panel(sheet, graph, left, top)
    _legend(sheet, graphs)
    return sheet.figure


def _panel(sheet: Sheet, graph: Graph, left: float, top: float) -> None:
    boxes: dict[str, FancyBboxPatch] = {}
    for name, node in graph.nodes.items():
        boxes[name] = sheet.box(
            _place(node, graph, left, top),
            _BOX,
            [name, str(node.channels)],
            PAINT[node.kind],
            name in graph.heads,
            _FONT,
        )
    for edge in graph.edges:
        source, target = boxes[edge.source], boxes[edge.target]
        if edge.direction == "same" and _passes_over(edge, graph):
            sheet.arrow(_top_of(source), _top_of(target), "same", _OVER_NODES)
        else:
            far = abs(graph.nodes[edge.source].level - graph.nodes[edge.target].level) > 1
            sheet.arrow(source, target, edge.direction, _AROUND_NODES[edge.direction] if far else 0.0)


def _top_of(box: FancyBboxPatch) -> tuple[float, float]:
    x, y = middle(box)
    return x, y + box.get_height() / 2


def _passes_over(edge: Edge, graph: Graph) -> bool:
    """Whether nodes of its level lie between the ends of an arrow."""
    source, target = graph.nodes[edge.source], graph.nodes[edge.target]
    level = [node for node in graph.nodes.values() if node.level == source.level and node.kind == "nested"]
    return any(source.depth < node.depth and (node.depth < target.depth) for node in level)


def _place(node: Node, graph: Graph, left: float, top: float) -> tuple[float, float]:
    """Place a map: levels below each other, what is decoded to the right."""
    depth = node.depth if node.kind == "nested" else 0 if node.kind == "encoder" else graph.levels - 1 - node.level
    column = node.level + 2 * depth
    return left + _BOX[0] / 2 + column * _ACROSS, top - _BOX[1] / 2 - node.level * _DOWN


def _legend(sheet: Sheet, graphs: Mapping[str, Graph]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    kinds = {node.kind for graph in graphs.values() for node in graph.nodes.values()}
    names = {"encoder": "encoder level, its channels", "nested": "nested node", "decoder": "decoder level"}
    handles: list[Any] = [
        Patch(facecolor=PAINT[kind].fill, edgecolor=PAINT[kind].edge, label=name)
        for kind, name in names.items()
        if kind in kinds
    ]
    handles.append(Patch(facecolor="white", edgecolor=INK, linewidth=2.2, label="supervised: a head makes logits"))
    first = next(iter(graphs.values()))
    linear = LAYERS[first.network.spatial_dims].linear
    down = "down: max-pooling" if first.pools else "down: max-pooling, in the encoder a stride"
    ways = {
        "down": down,
        "same": "as it is",
        "up": f"up: {linear} in UNet 3+, transposed convolution in the others",
    }
    for kind, words in ways.items():
        colour, dashes = ARROWS[kind]
        handles.append(Line2D([], [], color=colour, linestyle=dashes, label=words))
    sheet.figure.legend(
        handles=handles,
        loc="lower center",
        ncols=4,
        frameon=False,
        fontsize=10.5,
        labelcolor=INK,
        columnspacing=1.4,
        handlelength=1.8,
    )
