"""Figure 2: how a decoder level of UNet 3+ is made of maps of every scale, as its block takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from torch import nn

from fullscale.networks.norms import InstanceNorm
from fullscale.networks.skips import ReducedLevel, SummedLevel
from fullscale.networks.spatial import LAYERS
from fullscale.paper.drawing import PAINT, SOFT, Sheet, scale_of, times
from fullscale.paper.graph import Edge, Graph

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

THE_PAPERS_LEVEL = 3
_ROW, _HEAD, _FOOT = 0.78, 1.0, 0.2
_HEIGHT = 0.56
_SOURCE, _FIRST, _SECOND, _JOIN, _FUSE, _MADE = 0.95, 2.95, 5.1, 6.9, 8.6, 10.45
"""Middles of the columns, in inches."""


class Branch(NamedTuple):
    """One map on its way into a level.

    Attributes:
        edge: where it comes from.
        steps: what is done to it, in order, two lines each.
    """

    edge: Edge
    steps: list[tuple[str, str]]


class Aggregation(NamedTuple):
    """How a level is made.

    Attributes:
        level: 1 is the finest.
        branches: finest map first.
        joined: how the branches become one map: "joined" or "added".
        channels: of that map.
        fuse: what is done to it.
        made: channels of the level.
    """

    level: int
    branches: list[Branch]
    joined: str
    channels: int
    fuse: tuple[str, ...]
    made: int


def aggregation_of(graph: Graph, level: int | None = None) -> Aggregation:
    """Read off the block of a decoder level what it does with each map.

    Args:
        graph: of a UNet 3+.
        level: 1 is the finest; default the paper's, 3, or the deepest that there is.
    """
    level = level or min(THE_PAPERS_LEVEL, graph.levels - 1)
    name = f"De{level}"
    block, edges = graph.blocks[name], graph.into(name)
    skips = cast("Sequence[nn.Module]", block.skips)
    branches = [Branch(edge, _steps(block, edge, skip)) for edge, skip in zip(edges, skips, strict=True)]
    fuse = cast("nn.Module", block.fuse)
    convolution = _convolution(fuse)
    again = [f"and again, {convolution.out_channels} to {convolution.out_channels}"]
    summed = isinstance(block, SummedLevel)
    refined = isinstance(block, ReducedLevel) and block.refine is not None
    return Aggregation(
        level,
        branches,
        "added" if summed else "joined",
        convolution.in_channels,
        (_described(convolution), f"{_norm(fuse)}, ReLU", *(again if refined else [])),
        graph.nodes[name].channels,
    )


def aggregation_figure(graph: Graph, level: int | None = None) -> Figure:
    """Draw what `aggregation_of` reads off a level."""
    made = aggregation_of(graph, level)
    rows = len(made.branches)
    height = _FOOT + rows * _ROW
    sheet = Sheet(_MADE + 0.78, height + _HEAD)
    name = f"De{made.level}"
    sheet.text((0.2, height + 0.68), f"How {name} is made", 14, weight="bold", ha="left")
    about = f"{rows} maps of all scales are brought to the size of level {made.level}, {scale_of(graph.nodes[name])}"
    sheet.text((0.2, height + 0.36), about, 9.5, SOFT, ha="left")
    middle = _FOOT + rows * _ROW / 2
    joint = _joint(sheet, made, middle, rows * _ROW - (_ROW - _HEIGHT))
    for number, branch in enumerate(made.branches):
        _draw_branch(sheet, graph, branch, height - (number + 0.5) * _ROW, joint)
    fuse = sheet.box((_FUSE, middle), (1.75, 0.31 * len(made.fuse)), made.fuse, PAINT["step"])
    result = sheet.box(
        (_MADE, middle), (1.15, 0.62), [name, f"{made.made} channels"], PAINT["decoder"], name in graph.heads
    )
    sheet.arrow(joint, fuse)
    sheet.arrow(fuse, result)
    return sheet.figure


def _joint(sheet: Sheet, made: Aggregation, middle: float, height: float) -> FancyBboxPatch:
    return sheet.box((_JOIN, middle), (0.9, height), [made.joined, f"{made.channels} channels"], PAINT["step"])


def _draw_branch(sheet: Sheet, graph: Graph, branch: Branch, y: float, joint: FancyBboxPatch) -> None:
    edge = branch.edge
    node = graph.nodes[edge.source]
    lines = [edge.source, f"{edge.in_channels} channels, {scale_of(node)}"]
    box = sheet.box((_SOURCE, y), (1.5, _HEIGHT), lines, PAINT[node.kind])
    columns = (_FIRST, _SECOND)[2 - len(branch.steps) :]
    for x, step in zip(columns, branch.steps, strict=True):
        following = sheet.box((x, y), (1.75, _HEIGHT), step, PAINT["step"])
        sheet.arrow(box, following, edge.direction)
        box = following
    left = joint.get_x()
    sheet.arrow(box, (left, y), edge.direction)
    sheet.text((left - 0.24, y + 0.13), str(edge.out_channels), 8, SOFT)


def _steps(block: nn.Module, edge: Edge, skip: nn.Module) -> list[tuple[str, str]]:
    """Say what a block does to one map before it joins the others."""
    if isinstance(skip, nn.Identity):
        return []
    convolution = _convolution(skip)
    linear = LAYERS[len(edge.factor)].linear
    channels = f"{convolution.in_channels} to {convolution.out_channels}"
    if isinstance(block, (ReducedLevel, SummedLevel)):
        convolve = (_kernel(convolution), channels)
    else:
        convolve = (f"{_kernel(convolution)}, {channels}", f"{_norm(skip)}, ReLU")
    if edge.direction == "same":
        return [convolve]
    if edge.direction == "down":
        return [("max-pooling", times(edge.factor)), convolve]
    bring_up = (f"up, {linear}", f"×{times(edge.factor)}" if len(set(edge.factor)) > 1 else f"×{edge.factor[0]}")
    return [convolve, bring_up] if isinstance(block, ReducedLevel) else [bring_up, convolve]


def _convolution(part: nn.Module) -> nn.Conv2d | nn.Conv3d:
    return next(module for module in part.modules() if isinstance(module, (nn.Conv2d, nn.Conv3d)))


def _kernel(convolution: nn.Conv2d | nn.Conv3d) -> str:
    return f"{times(convolution.kernel_size)} conv"


def _described(convolution: nn.Conv2d | nn.Conv3d) -> str:
    return f"{_kernel(convolution)}, {convolution.in_channels} to {convolution.out_channels}"


def _norm(part: nn.Module) -> str:
    return "instance norm" if any(isinstance(module, InstanceNorm) for module in part.modules()) else "batch norm"
