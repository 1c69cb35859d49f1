"""What the paper's networks cost here, counted without computing anything, beside its formulas and its Table 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fullscale.networks import create_network, network_options
from fullscale.networks.blocks import require_positive
from fullscale.networks.encoders import create_encoder
from fullscale.networks.kernels.forms import set_form
from fullscale.networks.parameters import count_macs, count_parameters
from fullscale.networks.protocol import Network
from fullscale.paper.formulas import LevelWeights, total, unet3plus_decoder, unet_decoder, unetplusplus_decoder
from fullscale.paper.graph import Graph, trace
from fullscale.paper.published import PLAIN, TABLE_1, TABLE_2, Row


@dataclass(frozen=True)
class Cost:
    """What one network costs.

    Attributes:
        title: the network in the words of the paper's tables.
        network: a name that `create_network` knows.
        options: its further arguments.
        parameters: all of them.
        parts: of the networks with a formula, parameters of "encoder", "decoder", and "heads", the guidance among them.
        formula: weights of the decoder's kernels by the paper's formula, where it gives one.
        macs: multiply-accumulates of one slice or volume to its finest logits, up-sampled skips in the direct form.
        published_m: parameters in the paper's Table 1, in millions.
    """

    title: str
    network: str
    options: dict[str, Any]
    parameters: int
    parts: dict[str, int]
    formula: int | None
    macs: int
    published_m: float | None

    @property
    def difference_m(self) -> float | None:
        """Millions of parameters more than the paper prints."""
        return None if self.published_m is None else self.parameters / 1e6 - self.published_m

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return vars(self) | {"difference_m": self.difference_m}


@dataclass(frozen=True)
class LevelCount:
    """A decoder level: the paper's formula beside the weights of its own convolutions.

    Attributes:
        level: 1 is the finest.
        formula: with its numbers, and their result.
        kernels: weights of the level's own convolutions.
        bringing_up: of these, what a transposed convolution has beyond the kernel of 3 that the formula gives it.
    """

    level: int
    formula: LevelWeights
    kernels: int
    bringing_up: int


_FORMULAS = ("unet", "unet++", "unet3+")
_GUIDED = Row("UNet 3+ with CGM", "unet3+")
_OF_THE_PLAIN = (
    *(row for row in TABLE_2 if row.network == "attention-unet"),
    Row("strided UNet", "strided-unet"),
)
_OF_A_BACKBONE = tuple(row for row in TABLE_2 if row.network not in ("attention-unet", "unet3+"))


def count_costs(
    encoder: str = PLAIN,
    in_channels: int = 3,
    classes: int = 1,
    width: int = 64,
    size: int = 320,
    spatial_dims: int = 2,
) -> list[Cost]:
    """Count what the networks of the paper's two tables cost with one encoder; nothing is computed, no weight drawn.

    Args:
        encoder: "plain" or a timm backbone; the paper has "plain" (its "VGG-16") and "resnet101".
        in_channels: channels of the image.
        classes: channels of the logits.
        width: channels of the first level; published figures stand only beside the paper's 3, 1 and 64.
        size: rows and columns of the slice, or all sides of the volume, that the multiply-accumulates are counted on.
        spatial_dims: 2 for the paper's networks, 3 for their like in 3D.

    Raises:
        UsageError: an impossible number, or an encoder that the networks do not take.
    """
    require_positive(size=size)
    with torch.device("meta"):
        create_encoder(encoder, in_channels, width, spatial_dims=spatial_dims)  # refused once, before any network is
        image = torch.empty(1, in_channels, *(size,) * spatial_dims)
    words: dict[str, Any] = {"encoder": encoder, "width": width, "skip_channels": width}
    if spatial_dims == 3:
        words["spatial_dims"] = spatial_dims
    published = (in_channels, classes, width, spatial_dims) == (3, 1, 64, 2)
    costs = [
        _cost(row, image, classes, words)
        for row in (*TABLE_1, _GUIDED, *(_OF_THE_PLAIN if encoder == PLAIN else _OF_A_BACKBONE))
    ]
    figures = {row.title: row.published_m.get(encoder) for row in TABLE_1} if published else {}
    return [replace(cost, published_m=figures.get(cost.title)) for cost in costs]


def create_row(row: Row, in_channels: int, classes: int, words: Mapping[str, Any]) -> tuple[Network, dict[str, Any]]:
    """Build the network of a row without content; give the options it was built with too, those of `words` it takes.

    Raises:
        UsageError: an option does not fit.
    """
    options = {**row.options, **{word: words[word] for word in network_options(row.network) if word in words}}
    with torch.device("meta"):
        return create_network(row.network, in_channels, classes, **options).eval(), options


def _cost(row: Row, image: Tensor, classes: int, words: Mapping[str, Any]) -> Cost:
    network, options = create_row(row, image.shape[1], classes, words)
    set_form(network, "direct")
    has_formula = row.network in _FORMULAS
    return Cost(
        title=row.title,
        network=row.network,
        options=options,
        parameters=count_parameters(network),
        parts=_parts(network) if has_formula else {},
        formula=total(decoder_formula(trace(network))) if has_formula else None,
        macs=count_macs(lambda: network.eval().segment(image)),
        published_m=None,
    )


def _parts(network: Network) -> dict[str, int]:
    """Count the parameters of UNet, UNet++ and UNet 3+ by their parts."""
    parts = dict.fromkeys(("encoder", "decoder", "heads"), 0)
    for name, child in network.named_children():
        parts[_PART_OF[name]] += count_parameters(child)
    return parts


_PART_OF = {
    "encoder": "encoder",
    "decoders": "decoder",
    "nodes": "decoder",
    "head": "heads",
    "heads": "heads",
    "guidance": "heads",
}


def decoder_formula(graph: Graph) -> list[LevelWeights]:
    """Write the paper's formula with the channels of a network, a line for each decoder level, finest first."""
    encoder = _channels(graph, "encoder")
    decoder, dims = _channels(graph, "decoder"), graph.network.spatial_dims
    if graph.is_full_scale:
        return unet3plus_decoder(encoder, decoder, graph.into("De1")[0].out_channels, spatial_dims=dims)
    nested = [
        [node.channels for node in sorted(graph.nodes.values()) if node.kind == "nested" and node.level == level]
        for level in range(len(decoder))
    ]
    return (
        unetplusplus_decoder(encoder, decoder, nested, spatial_dims=dims)
        if any(nested)
        else unet_decoder(encoder, decoder, spatial_dims=dims)
    )


def count_levels(graph: Graph) -> list[LevelCount]:
    """Count the decoder of a network level by level, finest first, beside the paper's formula."""
    return [
        LevelCount(level, formula, *_kernels(graph.blocks[f"De{level}"], graph.network.spatial_dims))
        for level, formula in enumerate(decoder_formula(graph), 1)
    ]


def _channels(graph: Graph, kind: str) -> Sequence[int]:
    found = {node.level: node.channels for node in graph.nodes.values() if node.kind == kind}
    return [found[level] for level in sorted(found)]


def _kernels(block: nn.Module, spatial_dims: int) -> tuple[int, int]:
    """Count the weights of all convolutions of a block, and what its transposed one has beyond a kernel of 3."""
    weights, beyond = 0, 0
    for part in block.modules():
        if isinstance(part, (nn.Conv2d, nn.Conv3d)):
            weights += part.weight.numel()
        elif isinstance(part, (nn.ConvTranspose2d, nn.ConvTranspose3d)):
            weights += part.weight.numel()
            beyond += part.weight.numel() - part.in_channels * part.out_channels * 3**spatial_dims
    return weights, beyond
