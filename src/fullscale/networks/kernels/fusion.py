"""How UNet 3+ fuses maps of all scales: in the way that is quickest, or keeps the least, for what is asked.

Letters: B batch, C channels of a map, S channels of each skip, F = 5 S.

Whatever the way, the result is that of equation 1, with each skip a convolution over a resized map and its norm:

    fuse(cat([relu(skip(x)) for skip, x in zip(skips, maps)]))
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from fullscale.networks.blocks import ConvNorm, ConvNormAct
from fullscale.networks.kernels.norm_act import norm_act, norm_act_applies
from fullscale.networks.kernels.recompute import recompute
from fullscale.networks.kernels.remade import remade


def fuse_scales(
    maps: list[Tensor], skips: Sequence[ConvNorm], fuse: ConvNormAct, gradient_checkpointing: bool = False
) -> Tensor:
    """Bring maps to one scale, S channels each, join them and convolve them.

    Args:
        maps: `[B, C, h, w]` each, C and size of its own.
        skips: for each map, what brings it to `[B, S, H, W]`; the ReLU follows here.
        fuse: takes the joined `[B, F, H, W]` to `[B, F, H, W]`.
        gradient_checkpointing: keep only the maps for the backward pass, and compute everything else again there. Where
            `norm_act` applies (training on a CPU), that keeps little enough and is quicker.

    Returns:
        `[B, F, H, W]`.
    """
    if _norm_act_applies(maps[0], skips, fuse):  # keeps less at its peak than what is computed again with torch's own
        return _fuse_keeping_little(maps, skips, fuse)
    return recompute(lambda *maps: _fuse(maps, skips, fuse), maps, [*skips, fuse], gradient_checkpointing)


def _fuse(maps: Sequence[Tensor], skips: Sequence[ConvNorm], fuse: ConvNormAct) -> Tensor:
    """Fuse with torch's own operations.

    The ReLU is taken of the joined map: it is the same, and the backward pass keeps one map less. A compiler would make
    one slow loop of join and ReLU, so in a compiled graph it is taken before.
    """
    brought = [skip(x) for skip, x in zip(skips, maps, strict=True)]  # [B, S, H, W] each
    if torch.compiler.is_compiling():
        joined = torch.cat([F.relu(x, inplace=True) for x in brought], dim=1)
    else:
        joined = F.relu(torch.cat(brought, dim=1), inplace=True)
    fused: Tensor = fuse(joined)  # [B, F, H, W]
    return fused


def _norm_act_applies(x: Tensor, skips: Sequence[ConvNorm], fuse: ConvNormAct) -> bool:
    """Whether `norm_act` may do all the norms. The form "direct" asks for torch's own operations throughout."""
    parts = (*skips, fuse)
    return fuse.conv.form != "direct" and all(
        part.takes_statistics and norm_act_applies(x, part.norm) for part in parts
    )


def _fuse_keeping_little(maps: list[Tensor], skips: Sequence[ConvNorm], fuse: ConvNormAct) -> Tensor:
    """Fuse in training; of norms, ReLU and join nothing is kept for the backward pass."""
    convolved = [skip.conv(x) for skip, x in zip(skips, maps, strict=True)]
    joined, make_again = norm_act(convolved, [skip.norm for skip in skips])
    with remade(joined, make_again):
        fused = fuse.conv(joined)
    del joined  # a large map
    return norm_act([fused], [fuse.norm])[0]
