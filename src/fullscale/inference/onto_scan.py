"""Maps of the slices that a network saw, brought to the slices of the scan, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F


def onto_slices(
    slabs: Iterator[Tensor], network_shape: tuple[int, ...], shape: tuple[int, int, int], size: int
) -> Iterator[Tensor]:
    """Bring maps to another grid, edge to edge and linearly along each axis.

    Args:
        slabs: `[b, K, h, w]` of consecutive slices, any number at a time.
        network_shape: slices, rows and columns that they come in.
        shape: slices, rows and columns that are wanted.
        size: how many slices to give at a time.

    Yields:
        `[size, K, H, W]` of consecutive slices; the last may be fewer.
    """
    ready = _between(slabs, network_shape[0], shape[0]) if network_shape[0] != shape[0] else slabs
    for slab in _rechunked(ready, size):
        yield _resize(slab, shape[1:])


def _resize(maps: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Bring maps `[b, K, h, w]` to other rows and columns."""
    if maps.shape[2:] == shape:
        return maps
    with torch.inference_mode():
        return F.interpolate(maps, shape, mode="bilinear", align_corners=False)


def _between(slabs: Iterator[Tensor], slices: int, wanted: int) -> Iterator[Tensor]:
    """Interpolate between consecutive slices: `[b, K, h, w]` of those that become ready with each slab.

    Two slices are kept from one slab to the next: the next wanted one may lie between them.
    """
    centres = ((torch.arange(wanted, dtype=torch.float64) + 0.5) * slices / wanted - 0.5).clamp(0, slices - 1)
    below = centres.floor().long().clamp(max=max(slices - 2, 0))
    share = (centres - below).float()
    first, made, kept = 0, 0, None
    for slab in slabs:
        kept = slab if kept is None else torch.cat([kept, slab])
        seen = first + len(kept)
        ready = wanted if seen == slices else int((below + 1 < seen).sum())
        if ready > made:
            low = below[made:ready] - first
            high = (low + 1).clamp(max=len(kept) - 1)
            weight = share[made:ready, None, None, None].to(kept)
            yield torch.lerp(kept[low], kept[high], weight)
            made = ready
        drop = max(0, len(kept) - 2)
        first, kept = first + drop, kept[drop:]


def _rechunked(slabs: Iterator[Tensor], size: int) -> Iterator[Tensor]:
    """Give the same slices, `size` at a time."""
    kept: list[Tensor] = []
    held = 0
    for slab in slabs:
        kept.append(slab)
        held += len(slab)
        while held >= size:
            whole = kept[0] if len(kept) == 1 else torch.cat(kept)
            yield whole[:size]
            kept, held = [whole[size:]] if held > size else [], held - size
    if held:
        yield kept[0] if len(kept) == 1 else torch.cat(kept)
