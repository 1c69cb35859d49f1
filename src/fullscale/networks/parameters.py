"""What a network costs: the UNet 3+ paper's three formulas of decoder parameters, real counts, multiply-accumulates.

The formulas (section 2.1 of the paper) count the weights of convolution kernels in the decoder and no biases. Letters:
i the level, 1 the finest to N the deepest; d(X) the channels of X; En encoder, De decoder, Me nested nodes; De_N is
En_N; D the side of a kernel, D² its weights a pair of channels, in 3D D³.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fullscale.errors import UsageError
from fullscale.networks import create_network, network_options
from fullscale.networks.blocks import require_positive
from fullscale.networks.encoders import LEVELS, create_encoder
from fullscale.networks.kernels.forms import set_form
from fullscale.networks.protocol import TorchModule

PLAIN, RESNET = "plain", "resnet101"
"""The two encoders of the paper's tables."""


def unet_decoder(encoder: Sequence[int], decoder: Sequence[int], kernel: int = 3, spatial_dims: int = 2) -> int:
    """Sum D² [d(De_{i+1}) d(De_i) + d(De_i)² + d(En_i + De_i) d(De_i)] over the levels.

    Args:
        encoder: d(En_1) to d(En_N).
        decoder: d(De_1) to d(De_{N-1}).
        kernel: D; the paper's formula counts the up-sampling convolution as one of this size too.
        spatial_dims: axes of the kernel.

    Raises:
        UsageError: there is not one decoder level less than encoder levels.
    """
    deeper = _deeper(encoder, decoder)
    taps: int = kernel**spatial_dims
    return taps * sum(
        below * own + own * own + (skip + own) * own for below, own, skip in zip(deeper, decoder, encoder, strict=False)
    )


def unetplusplus_decoder(
    encoder: Sequence[int],
    decoder: Sequence[int],
    nested: Sequence[Sequence[int]],
    kernel: int = 3,
    spatial_dims: int = 2,
) -> int:
    """Sum D² [d(De_{i+1}) d(De_i) + d(De_i)² + d(En_i + Σ_k Me_{i,k} + De_i) d(De_i)] over the levels.

    It counts the last node of each level, with all that flows into it; the nested nodes' own kernels are not in it.

    Args:
        encoder: d(En_1) to d(En_N).
        decoder: d(De_1) to d(De_{N-1}).
        nested: for each level i below N, d(Me_{i,1}) to d(Me_{i,N-1-i}).
        kernel: D.
        spatial_dims: axes of the kernel.

    Raises:
        UsageError: the levels do not fit each other.
    """
    _deeper(encoder, decoder)
    expected = list(range(len(decoder) - 1, -1, -1))
    if [len(nodes) for nodes in nested] != expected:
        raise UsageError(f"nested has {[len(nodes) for nodes in nested]} nodes a level: expected {expected}")
    skips = [skip + sum(nodes) for skip, nodes in zip(encoder, nested, strict=False)]
    return unet_decoder([*skips, encoder[-1]], decoder, kernel, spatial_dims)


def unet3plus_decoder(
    encoder: Sequence[int], decoder: Sequence[int], skip_channels: int = 64, kernel: int = 3, spatial_dims: int = 2
) -> int:
    """Sum D² [(Σ_{k≤i} d(En_k) + Σ_{k>i} d(De_k)) · skip_channels + d(De_i)²] over the levels.

    Args:
        encoder: d(En_1) to d(En_N).
        decoder: d(De_1) to d(De_{N-1}); N times the skip channels in the paper.
        skip_channels: that each of the N maps is brought to.
        kernel: D.
        spatial_dims: axes of the kernel.

    Raises:
        UsageError: there is not one decoder level less than encoder levels.
    """
    deeper = _deeper(encoder, decoder)
    taps: int = kernel**spatial_dims
    return taps * sum(
        (sum(encoder[: level + 1]) + sum(deeper[level:])) * skip_channels + own * own
        for level, own in enumerate(decoder)
    )


def _deeper(encoder: Sequence[int], decoder: Sequence[int]) -> list[int]:
    """Return d(De_2) to d(De_N)."""
    if len(decoder) != len(encoder) - 1 or not decoder:
        raise UsageError(
            f"{len(encoder)} encoder and {len(decoder)} decoder levels: expected one decoder level less than "
            "encoder levels, and at least one"
        )
    return [*decoder[1:], encoder[-1]]


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
class _Row:
    """A row of the paper's tables; `formula` takes the encoder's channels, the width and the axes of space."""

    title: str
    network: str
    options: dict[str, Any] = field(default_factory=dict)
    formula: Callable[[Sequence[int], int, int], int] | None = None
    published_m: dict[str, float] = field(default_factory=dict)


def _unet(encoder: Sequence[int], width: int, spatial_dims: int) -> int:
    return unet_decoder(encoder, _doubling(width), spatial_dims=spatial_dims)


def _unetplusplus(encoder: Sequence[int], width: int, spatial_dims: int) -> int:
    decoder = _doubling(width)
    nested = [[channels] * (len(decoder) - 1 - level) for level, channels in enumerate(decoder)]
    return unetplusplus_decoder(encoder, decoder, nested, spatial_dims=spatial_dims)


def _unet3plus(encoder: Sequence[int], width: int, spatial_dims: int) -> int:
    return unet3plus_decoder(encoder, [LEVELS * width] * (LEVELS - 1), width, spatial_dims=spatial_dims)


def _doubling(width: int) -> list[int]:
    return [width * 2**level for level in range(LEVELS - 1)]


_TABLE_1 = (
    _Row("UNet", "unet", formula=_unet, published_m={PLAIN: 39.39, RESNET: 55.90}),
    _Row("UNet++", "unet++", formula=_unetplusplus, published_m={PLAIN: 47.18, RESNET: 63.76}),
    _Row(
        "UNet 3+ without deep supervision",
        "unet3+",
        {"deep_supervision": False, "classification_guided": False},
        _unet3plus,
        {PLAIN: 26.97, RESNET: 43.55},
    ),
    _Row("UNet 3+", "unet3+", {"classification_guided": False}, _unet3plus, {PLAIN: 26.97, RESNET: 43.55}),
    _Row("UNet 3+ with CGM", "unet3+", formula=_unet3plus),
)
_OWN_ENCODER = (_Row("Attention UNet", "attention-unet"), _Row("strided UNet", "strided-unet"))
_DILATED = (
    _Row("PSPNet", "pspnet"),
    _Row("DeepLabV2", "deeplabv2"),
    _Row("DeepLabV3", "deeplabv3"),
    _Row("DeepLabV3+", "deeplabv3+"),
)


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
    rows = _TABLE_1 + (_OWN_ENCODER if encoder == PLAIN else _DILATED)
    with torch.device("meta"):
        encoded = create_encoder(encoder, in_channels, width, spatial_dims=spatial_dims).channels
        image = torch.empty(1, in_channels, *(size,) * spatial_dims)
    return [_cost(row, encoder, encoded, image, classes, width) for row in rows]


def _cost(row: _Row, encoder: str, encoded: Sequence[int], image: Tensor, classes: int, width: int) -> Cost:
    in_channels, spatial_dims = image.shape[1], image.ndim - 2
    words = {"encoder": encoder, "width": width, "skip_channels": width}
    if spatial_dims == 3:
        words["spatial_dims"] = spatial_dims
    options = row.options | {word: words[word] for word in network_options(row.network) if word in words}
    published = (in_channels, classes, width, spatial_dims) == (3, 1, 64, 2)
    with torch.device("meta"):
        network = create_network(row.network, in_channels, classes, **options).eval()
    set_form(network, "direct")
    return Cost(
        title=row.title,
        network=row.network,
        options=options,
        parameters=_count(network),
        parts=_parts(network) if row.formula else {},
        formula=row.formula(encoded, width, spatial_dims) if row.formula else None,
        macs=count_macs(lambda: network.segment(image)),
        published_m=row.published_m.get(encoder) if published else None,
    )


def _parts(network: TorchModule) -> dict[str, int]:
    """Count the parameters of UNet, UNet++ and UNet 3+ by their parts."""
    parts = dict.fromkeys(("encoder", "decoder", "heads"), 0)
    for name, child in network.named_children():
        parts[_PART_OF[name]] += _count(child)
    return parts


_PART_OF = {
    "encoder": "encoder",
    "decoders": "decoder",
    "nodes": "decoder",
    "head": "heads",
    "heads": "heads",
    "guidance": "heads",
}


def _count(module: TorchModule | nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(task: Callable[[], object]) -> int:
    """Count the multiply-accumulates of the convolutions and matrix products in a task."""
    with FlopCounterMode(display=False) as counter:
        task()
    return int(counter.get_total_flops()) // 2
