"""The graph of a built network: which maps its blocks take and give, seen while an image without content runs through.

Levels are counted from the finest, 0, to the deepest. Nothing is drawn from a list of what a network ought to have:
a node is a map that was really given, an edge is a map that a block was really called with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from fullscale.networks import create_network
from fullscale.networks.blocks import UpNode
from fullscale.networks.encoders import PlainEncoder
from fullscale.networks.guidance import Guidance
from fullscale.networks.kernels.forms import set_form
from fullscale.networks.protocol import Network
from fullscale.networks.skips import DecoderLevel, ReducedLevel, SummedLevel

FullScale = (DecoderLevel, ReducedLevel, SummedLevel)
Kind = Literal["encoder", "nested", "decoder"]
Direction = Literal["down", "same", "up"]


class Node(NamedTuple):
    """A map of a network.

    Attributes:
        kind: of an encoder level, a nested node of UNet++, or a decoder level.
        level: 0 is the finest.
        depth: of a nested node or decoder level of UNet++, how many up-sampled maps lie behind it; else 0 or 1.
        channels: of the map.
        stride: input voxels per voxel of the map, a number an axis.
    """

    kind: Kind
    level: int
    depth: int
    channels: int
    stride: tuple[int, ...]


class Edge(NamedTuple):
    """A map on its way into a block.

    Attributes:
        source, target: names of nodes.
        direction: "down" to a coarser grid, "same", or "up" to a finer one.
        factor: by which the grid changes, a number an axis.
        in_channels: of the map.
        out_channels: of what the block makes of it before it joins the others.
    """

    source: str
    target: str
    direction: Direction
    factor: tuple[int, ...]
    in_channels: int
    out_channels: int


@dataclass
class Graph:
    """What was seen of a network.

    Attributes:
        network: that was looked at, without content.
        nodes: by name: `En1` is the finest encoder level, `De1` the finest decoder level, `Me1,2` a nested node.
        edges: in the order in which the blocks were called.
        blocks: the module that gives each node but those of the encoder.
        heads: the convolutions to logits that read each supervised node.
        guided: the node that guidance reads; None without guidance.
    """

    network: Network
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    blocks: dict[str, nn.Module] = field(default_factory=dict)
    heads: dict[str, list[nn.Conv2d | nn.Conv3d]] = field(default_factory=dict)
    guided: str | None = None

    @property
    def levels(self) -> int:
        """How many levels the encoder has."""
        return sum(node.kind == "encoder" for node in self.nodes.values())

    @property
    def guidance(self) -> Guidance | None:
        """The classification-guided module; None where there is none."""
        return next((part for part in self.network.modules() if isinstance(part, Guidance)), None)

    @property
    def is_full_scale(self) -> bool:
        """Whether every decoder level draws on all levels."""
        return any(isinstance(block, FullScale) for block in self.blocks.values())

    @property
    def pools(self) -> bool:
        """Whether the encoder goes down by max-pooling, not by strided convolutions."""
        return any(isinstance(part, PlainEncoder) and part.pools for part in self.network.modules())

    def into(self, name: str) -> list[Edge]:
        """Return the maps that a block takes, in its own order."""
        return [edge for edge in self.edges if edge.target == name]


def build_graph(name: str, in_channels: int, classes: int, **options: Any) -> Graph:
    """Build one of UNet, UNet++ and UNet 3+ without content, and look at it.

    Raises:
        UsageError: an option is unknown or does not fit.
    """
    with torch.device("meta"):
        network = create_network(name, in_channels, classes, **options)
    return trace(network)


def trace(network: Network) -> Graph:
    """Send an image through a network on the meta device, and note what each block takes and gives."""
    set_form(network, "direct")
    graph = Graph(network)
    sides = tuple(2 * step for step in network.stride)
    seen: dict[int, tuple[Tensor, str]] = {}  # a tensor is kept, or another could get its id
    top = max((depth for depth, _ in _columns(network)), default=1)

    def encoded(_: nn.Module, __: Any, maps: list[Tensor]) -> None:
        for level, features in enumerate(maps):
            name = f"En{level + 1}"
            graph.nodes[name] = Node("encoder", level, 0, features.shape[1], _stride(sides, features))
            seen[id(features)] = features, name
        for finer, coarser in pairwise(maps):
            graph.edges.append(_edge(graph, seen[id(finer)][1], seen[id(coarser)][1], coarser.shape[1]))

    def decoded(block: nn.Module, args: Any, output: Tensor) -> None:
        stride = _stride(sides, output)
        level = next(node.level for node in graph.nodes.values() if node.stride == stride)
        depth = next((depth for depth, own in _columns(network) if own is block), 1)
        nested = isinstance(block, UpNode) and depth < top - level and top > 1
        name = f"Me{level + 1},{depth}" if nested else f"De{level + 1}"
        graph.nodes[name] = Node("nested" if nested else "decoder", level, depth, output.shape[1], stride)
        graph.blocks[name] = block
        seen[id(output)] = output, name
        for features, channels in zip(_tensors(args), _joined(block, args), strict=True):
            graph.edges.append(_edge(graph, seen[id(features)][1], name, channels))

    def supervised(head: nn.Module, args: Any, _: Tensor) -> None:
        graph.heads.setdefault(seen[id(args[0])][1], []).append(cast("nn.Conv2d | nn.Conv3d", head))

    def guided(_: nn.Module, args: Any, __: Tensor) -> None:
        graph.guided = seen[id(args[0])][1]

    hooks = [part.register_forward_hook(hook) for part, hook in _parts(network, encoded, decoded, supervised, guided)]
    with torch.no_grad(), torch.device("meta"):
        network.train()(torch.empty(1, network.in_channels, *sides))
    for hook in hooks:
        hook.remove()
    return graph


def _parts(
    network: Network, encoded: Any, decoded: Any, supervised: Any, guided: Any
) -> Iterator[tuple[nn.Module, Any]]:
    """Pair each block of a network with what notes it."""
    children = dict(network.named_children())
    yield children["encoder"], encoded
    for part in network.modules():
        if isinstance(part, (UpNode, *FullScale)):
            yield part, decoded
        elif isinstance(part, Guidance):
            yield part, guided
    heads = children.get("heads") or [children["head"]]
    for head in cast("nn.ModuleList", heads):
        yield head, supervised


def _columns(network: Network) -> list[tuple[int, nn.Module]]:
    """Return the nodes of UNet++ with their depth; none of the other networks."""
    columns = cast("list[nn.ModuleList]", dict(network.named_children()).get("nodes", []))
    return [(depth, node) for depth, column in enumerate(columns, 1) for node in column]


def _tensors(args: Any) -> Iterator[Tensor]:
    for arg in args:
        if isinstance(arg, Tensor):
            yield arg
        else:
            yield from _tensors(arg)


def _joined(block: nn.Module, args: Any) -> list[int]:
    """Return of each map that a block takes the channels with which it joins the others."""
    if isinstance(block, UpNode):
        _, *skips = _tensors(args)
        return [block.up.out_channels, *(skip.shape[1] for skip in skips)]
    kinds = (nn.Conv2d, nn.Conv3d)
    return [
        next((part.out_channels for part in reduced.modules() if isinstance(part, kinds)), features.shape[1])
        for reduced, features in zip(cast("nn.ModuleList", block.skips), _tensors(args), strict=True)
    ]


def _edge(graph: Graph, source: str, target: str, out_channels: int) -> Edge:
    have, want = graph.nodes[source], graph.nodes[target]
    up = tuple(a // b for a, b in zip(have.stride, want.stride, strict=True))
    down = tuple(b // a for a, b in zip(have.stride, want.stride, strict=True))
    direction: Direction = "up" if max(up) > 1 else "down" if max(down) > 1 else "same"
    factor = {"up": up, "down": down, "same": (1,) * len(up)}[direction]
    return Edge(source, target, direction, factor, have.channels, out_channels)


def _stride(sides: tuple[int, ...], features: Tensor) -> tuple[int, ...]:
    return tuple(side // own for side, own in zip(sides, features.shape[2:], strict=True))
