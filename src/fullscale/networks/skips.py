"""Full-scale skips: how a decoder level of UNet 3+ draws on the maps of every scale; as the paper has it, and leaner.

Letters: B batch, N levels, S skip channels, `...` a map's size. The maps come finest first; at a level, those of finer
levels are the encoder's, those of coarser ones already decoded. What brings a map to a level's size (`scales`) is given
as `log2_scale` of each source: halved where negative (max-pooling), doubled where positive (linear).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.networks.blocks import ConvNorm, ConvNormAct, Normalization, scaled_conv
from fullscale.networks.kernels.forms import eager_on_cpu
from fullscale.networks.kernels.fusion import fuse_scales
from fullscale.networks.kernels.recompute import recompute
from fullscale.networks.norms import InstanceNorm
from fullscale.networks.spatial import LAYERS, resize

Fusion = Literal["paper", "reduce", "refine", "sum"]
Scales = Sequence[Sequence[int]]


class DecoderLevel(nn.Module):
    """One decoder level as the paper has it (equation 1): N maps brought to its scale, S channels each, fused to N S.

    Args:
        scales: `log2_scale` of each map, finest first.
        channels: of each map.
        skip_channels: S.
        out_channels: of the fused map.
        normalization: "batch" or "instance".
        gradient_checkpointing: see `fuse_scales`.
    """

    def __init__(
        self,
        scales: Scales,
        channels: Sequence[int],
        skip_channels: int,
        out_channels: int,
        normalization: Normalization = "batch",
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.skips = nn.ModuleList(
            ConvNorm(source, skip_channels, scale, normalization)
            for source, scale in zip(channels, scales, strict=True)
        )
        same = (0,) * len(scales[0])
        self.fuse = ConvNormAct(len(channels) * skip_channels, out_channels, same, normalization)
        self.gradient_checkpointing = gradient_checkpointing

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Fuse the maps, finest first, into `[B, out_channels, ...]`, the size of the map at this level."""
        return fuse_scales(maps, cast("Sequence[ConvNorm]", self.skips), self.fuse, self.gradient_checkpointing)


class ReducedLevel(nn.Module):
    """A decoder level of which every map is reduced to S channels by a 1x1 convolution at the smaller of the two sizes.

    It is then brought up, joined to the others, and fused. A skip costs a 27th, in 2D a ninth, of the paper's, and sees
    one voxel where that sees its neighbours.

    Args:
        scales, channels, skip_channels, out_channels, normalization, gradient_checkpointing: as of `DecoderLevel`.
        refined: join the map of the level itself as it is, and convolve what is fused once more.
    """

    def __init__(
        self,
        scales: Scales,
        channels: Sequence[int],
        skip_channels: int,
        out_channels: int,
        normalization: Normalization = "batch",
        gradient_checkpointing: bool = False,
        refined: bool = False,
    ) -> None:
        super().__init__()
        self.scales = tuple(tuple(scale) for scale in scales)
        same = (0,) * len(scales[0])
        conv = LAYERS[len(same)].conv
        self.skips = nn.ModuleList(
            nn.Identity() if refined and scale == same else conv(source, skip_channels, kernel_size=1)
            for source, scale in zip(channels, self.scales, strict=True)
        )
        joined = sum(
            source if isinstance(skip, nn.Identity) else skip_channels
            for source, skip in zip(channels, self.skips, strict=True)
        )
        self.fuse = ConvNormAct(joined, out_channels, same, normalization)
        self.refine = ConvNormAct(out_channels, out_channels, same, normalization) if refined else None
        self.gradient_checkpointing = gradient_checkpointing

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Fuse the maps, finest first, into `[B, out_channels, ...]`, the size of the map at this level."""
        return recompute(lambda *maps: self._fuse(maps), maps, [self], self.gradient_checkpointing)

    def _fuse(self, maps: Sequence[Tensor]) -> Tensor:
        skips = cast("Sequence[nn.Conv2d | nn.Conv3d | nn.Identity]", self.skips)
        brought = [
            resize(_mix(skip, resize(x, [min(number, 0) for number in scale])), [max(number, 0) for number in scale])
            for skip, x, scale in zip(skips, maps, self.scales, strict=True)
        ]  # [B, S, ...] each
        fused: Tensor = self.fuse(torch.cat(brought, dim=1))
        return fused if self.refine is None else self.refine(fused)


def _mix(conv: nn.Conv2d | nn.Conv3d | nn.Identity, x: Tensor) -> Tensor:
    """Convolve 1x1.

    On a CPU it is a matrix product of the pixels. Torch's convolution of small maps is slow there, and its last digits
    depend on the number of threads.
    """
    if isinstance(conv, nn.Identity) or not eager_on_cpu(x):
        return conv(x)  # type: ignore[no-any-return]
    return F.linear(x.movedim(1, -1), conv.weight.flatten(1), conv.bias).movedim(-1, 1)


class SummedLevel(nn.Module):
    """A decoder level that adds the 3x3 convolutions of all scales, in place of joining them; then it fuses.

    It is one convolution over the joined maps, so that S is the channels of the level.

    Args:
        scales, channels, out_channels, normalization, gradient_checkpointing: as of `DecoderLevel`.
    """

    def __init__(
        self,
        scales: Scales,
        channels: Sequence[int],
        out_channels: int,
        normalization: Normalization = "batch",
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        dims = len(scales[0])
        self.skips = nn.ModuleList(
            scaled_conv(source, out_channels, scale, bias=False) for source, scale in zip(channels, scales, strict=True)
        )
        self.norm = LAYERS[dims].batch_norm(out_channels) if normalization == "batch" else InstanceNorm(out_channels)
        self.fuse = ConvNormAct(out_channels, out_channels, (0,) * dims, normalization)
        self.gradient_checkpointing = gradient_checkpointing

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Fuse the maps, finest first, into `[B, out_channels, ...]`, the size of the map at this level."""
        return recompute(lambda *maps: self._fuse(maps), maps, [self], self.gradient_checkpointing)

    def _fuse(self, maps: Sequence[Tensor]) -> Tensor:
        first, *others = (skip(x) for skip, x in zip(self.skips, maps, strict=True))
        for other in others:
            first = first + other
        fused: Tensor = self.fuse(F.relu(self.norm(first), inplace=True))
        return fused


def create_level(
    fusion: Fusion,
    scales: Scales,
    channels: Sequence[int],
    skip_channels: int,
    out_channels: int,
    normalization: Normalization,
    gradient_checkpointing: bool,
) -> nn.Module:
    """Make a decoder level: "paper", "reduce", "refine" or "sum"; the arguments are those of `DecoderLevel`."""
    own = (out_channels, normalization, gradient_checkpointing)
    if fusion == "sum":
        return SummedLevel(scales, channels, *own)
    if fusion == "paper":
        return DecoderLevel(scales, channels, skip_channels, *own)
    return ReducedLevel(scales, channels, skip_channels, *own, refined=fusion == "refine")
