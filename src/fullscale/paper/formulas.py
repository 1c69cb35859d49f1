"""The three formulas of decoder parameters in the UNet 3+ paper (section 2.1), level by level.

They count the weights of convolution kernels and no biases. Letters: i the level, 1 the finest to N the deepest; d(X)
the channels of X; En encoder, De decoder, Me nested nodes; De_N is En_N; D the side of a kernel, D² its weights a pair
of channels, in 3D D³.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fullscale.errors import UsageError


class LevelWeights(NamedTuple):
    """What a formula says of one level.

    Attributes:
        numbers: the formula with its numbers.
        weights: their result.
    """

    numbers: str
    weights: int


def total(levels: Sequence[LevelWeights]) -> int:
    """Return the weights of all levels together."""
    return sum(level.weights for level in levels)


def unet_decoder(
    encoder: Sequence[int], decoder: Sequence[int], kernel: int = 3, spatial_dims: int = 2
) -> list[LevelWeights]:
    """D² [d(De_{i+1}) d(De_i) + d(De_i)² + d(En_i + De_i) d(De_i)] of each level, finest first.

    Args:
        encoder: d(En_1) to d(En_N).
        decoder: d(De_1) to d(De_{N-1}).
        kernel: D; the paper's formula counts the up-sampling convolution as one of this size too.
        spatial_dims: axes of the kernel.

    Raises:
        UsageError: there is not one decoder level less than encoder levels.
    """
    return unetplusplus_decoder(encoder, decoder, [()] * len(decoder), kernel, spatial_dims)


def unetplusplus_decoder(
    encoder: Sequence[int],
    decoder: Sequence[int],
    nested: Sequence[Sequence[int]],
    kernel: int = 3,
    spatial_dims: int = 2,
) -> list[LevelWeights]:
    """D² [d(De_{i+1}) d(De_i) + d(De_i)² + d(En_i + Σ_k Me_{i,k} + De_i) d(De_i)] of each level, finest first.

    It counts the last node of each level, with all that flows into it; the nested nodes' own kernels are not in it.

    Args:
        encoder: d(En_1) to d(En_N).
        decoder: d(De_1) to d(De_{N-1}).
        nested: for each level i below N, d(Me_{i,1}) to d(Me_{i,N-1-i}); none of any level is UNet.
        kernel: D.
        spatial_dims: axes of the kernel.

    Raises:
        UsageError: the levels do not fit each other.
    """
    deeper = _deeper(encoder, decoder)
    expected = list(range(len(decoder) - 1, -1, -1))
    nodes = [len(level) for level in nested]
    if any(nodes) and nodes != expected:
        raise UsageError(f"nested has {nodes} nodes a level: expected {expected}")
    levels = []
    for below, own, skip, between in zip(deeper, decoder, encoder, nested, strict=False):
        joined = " + ".join(map(str, (skip, *between, own)))
        inner = below * own + own * own + (skip + sum(between) + own) * own
        levels.append(_level(f"{below}·{own} + {own}² + ({joined})·{own}", inner, kernel, spatial_dims))
    return levels


def unet3plus_decoder(
    encoder: Sequence[int], decoder: Sequence[int], skip_channels: int = 64, kernel: int = 3, spatial_dims: int = 2
) -> list[LevelWeights]:
    """D² [(Σ_{k≤i} d(En_k) + Σ_{k>i} d(De_k)) · skip_channels + d(De_i)²] of each level, finest first.

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
    levels = []
    for level, own in enumerate(decoder):
        sources = (*encoder[: level + 1], *deeper[level:])
        numbers = f"({' + '.join(map(str, sources))})·{skip_channels} + {own}²"
        levels.append(_level(numbers, sum(sources) * skip_channels + own * own, kernel, spatial_dims))
    return levels


def _level(numbers: str, inner: int, kernel: int, spatial_dims: int) -> LevelWeights:
    taps: int = kernel**spatial_dims
    return LevelWeights(f"{taps}·[{numbers}]", taps * inner)


def _deeper(encoder: Sequence[int], decoder: Sequence[int]) -> list[int]:
    """Return d(De_2) to d(De_N)."""
    if len(decoder) != len(encoder) - 1 or not decoder:
        raise UsageError(
            f"{len(encoder)} encoder and {len(decoder)} decoder levels: expected one decoder level less than "
            "encoder levels, and at least one"
        )
    return [*decoder[1:], encoder[-1]]
