"""Maps of the slices that a network saw, brought to the slices of the scan, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fullscale.data.labels import LabelScheme
from fullscale.inference.combine import Combination


def onto_slices(slabs: Iterator[Tensor], slices: int, wanted: int, size: int) -> Iterator[Tensor]:
    """Bring maps to another number of slices, edge to edge and linearly, and give them a few at a time.

    Args:
        slabs: `[b, K, h, w]` of consecutive slices, any number at a time.
        slices: that they come in.
        wanted: slices of the scan.
        size: how many slices to give at a time.

    Yields:
        `[size, K, h, w]` of consecutive slices; the last may be fewer.
    """
    yield from _rechunked(_between(slabs, slices, wanted) if slices != wanted else slabs, size)


def onto_plane(maps: Tensor, plane: Sequence[int]) -> Tensor:
    """Bring maps `[b, K, h, w]` to the rows and columns `[H, W]` of the scan: edge to edge and linearly."""
    if tuple(maps.shape[2:]) == tuple(plane):
        return maps
    with torch.inference_mode():
        return F.interpolate(maps, tuple(plane), mode="bilinear", align_corners=False)


@torch.inference_mode()
def decide_onto(members: Sequence[Tensor], plane: Sequence[int], scheme: LabelScheme) -> Tensor:
    """Decide the classes of slices at the size of the scan, as if each member's logits were brought there first.

    A voxel of the scan lies between four of the network's. Where all members are of one mind at all four, so they are
    between them: what is higher at each of four places is higher in any weighted mean of them. Only the other voxels,
    those at the border of a structure, are computed; of fourteen classes that saves nearly all memory and time.

    Args:
        members: logits of each `[b, channels, h, w]`; their rows and columns may differ.
        plane: rows and columns `[H, W]` of the scan.
        scheme: what the channels stand for.

    Returns:
        Class indices, uint8 `[b, H, W]`.
    """
    if all(tuple(logits.shape[2:]) == tuple(plane) for logits in members):
        return _combined(members, scheme)
    taps = [
        (_taps(logits.shape[2], plane[0], logits.device), _taps(logits.shape[3], plane[1], logits.device))
        for logits in members
    ]
    known = [_Minds.of(logits, scheme) for logits in members]
    classes = torch.zeros((len(members[0]), *plane), dtype=torch.uint8, device=members[0].device)
    window = _window([found.reach(*along) for found, along in zip(known, taps, strict=True)])
    taps = [(rows.within(window[0]), columns.within(window[1])) for rows, columns in taps]
    minds, settled = known[0].onto(*taps[0])
    for found, along in zip(known[1:], taps[1:], strict=True):
        others, also = found.onto(*along)
        settled &= also & (others == minds).all(dim=1)
    inside = minds[:, 0] if scheme.activation == "softmax" else scheme.decide_present(minds)
    unsettled = (~settled).nonzero(as_tuple=True)
    inside[unsettled] = _combined(
        [_blend(logits, along, unsettled) for logits, along in zip(members, taps, strict=True)], scheme
    )
    classes[:, window[0], window[1]] = inside
    return classes


class _Taps(NamedTuple):
    """Along one axis, for each wanted place the one below it, the one above, and the share of the latter."""

    below: Tensor
    above: Tensor
    share: Tensor

    def within(self, window: slice) -> _Taps:
        """Keep the places of a window."""
        return _Taps(*(values[window] for values in self))

    def reached_by(self, found: Tensor) -> tuple[int, int]:
        """Return the first and behind the last place whose place below is found, from a bool for each."""
        reached = found[self.below].nonzero()[:, 0]
        return (int(reached[0]), int(reached[-1]) + 1) if len(reached) else (0, 0)


class _Minds(NamedTuple):
    """What a member decides at its own size.

    Attributes:
        minds: of exclusive classes the class, uint8 `[b, 1, h, w]`; of others whether each is there, 0 or 1
            `[b, channels, h, w]`: the same class may come of different sets of regions.
        of_one: whether a place, the one to its right and the two under them are of one mind, `[b, h, w]`.
    """

    minds: Tensor
    of_one: Tensor

    @classmethod
    def of(cls, logits: Tensor, scheme: LabelScheme) -> _Minds:
        """Decide logits `[b, channels, h, w]`."""
        exclusive = scheme.activation == "softmax"
        minds = (scheme.decide(logits)[:, None] if exclusive else logits > 0).to(torch.uint8)
        beside = F.pad(minds[..., 1:] == minds[..., :-1], (0, 1), value=True)
        under = F.pad(minds[..., 1:, :] == minds[..., :-1, :], (0, 0, 0, 1), value=True)
        return cls(minds, (beside & under & torch.cat([beside[..., 1:, :], beside[..., -1:, :]], dim=-2)).all(dim=1))

    def reach(self, rows: _Taps, columns: _Taps) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the rows and columns of the scan outside of which all is background."""
        found = (self.minds.any(dim=1) | ~self.of_one).any(dim=0)  # [h, w]
        return rows.reached_by(found.any(dim=1)), columns.reached_by(found.any(dim=0))

    def onto(self, rows: _Taps, columns: _Taps) -> tuple[Tensor, Tensor]:
        """Return, for voxels of the scan, the minds of the place below each, and whether all around it are of one."""
        minds = self.minds.index_select(2, rows.below).index_select(3, columns.below)
        return minds, self.of_one.index_select(1, rows.below).index_select(2, columns.below)


def _taps(size: int, wanted: int, device: torch.device | None = None) -> _Taps:
    """Work out where `wanted` places lie between `size` others, edge to edge."""
    centres = ((torch.arange(wanted, dtype=torch.float64) + 0.5) * size / wanted - 0.5).clamp(0, size - 1)
    below = centres.floor().long().clamp(max=max(size - 2, 0))
    found = below, (below + 1).clamp(max=size - 1), centres - below
    return _Taps(*(values.to(device) for values in found))


def _combined(members: Sequence[Tensor], scheme: LabelScheme) -> Tensor:
    combined = Combination(scheme)
    for logits in members:
        combined.add(logits)
    return combined.decide()


def _window(reaches: Sequence[tuple[tuple[int, int], tuple[int, int]]]) -> tuple[slice, slice]:
    """Return the least window of rows and columns that holds what every member reaches."""
    held = [[reach[axis] for reach in reaches if reach[axis][1] > 0] or [(0, 0)] for axis in (0, 1)]
    rows, columns = (slice(min(low for low, _ in of), max(high for _, high in of)) for of in held)
    return rows, columns


def _blend(logits: Tensor, taps: tuple[_Taps, _Taps], at: tuple[Tensor, ...]) -> Tensor:
    """Interpolate logits `[b, K, h, w]` at voxels of the scan, given by slice, row and column: `[n, K]`."""
    (_, channels, height, width), (slices, *places) = logits.shape, at
    values = logits.permute(0, 2, 3, 1).reshape(-1, channels)
    rows, columns = (_Taps(*(tap[place] for tap in along)) for along, place in zip(taps, places, strict=True))

    def along_row(row: Tensor) -> Tensor:
        start = (slices * height + row) * width
        left, right = (values.index_select(0, start + column) for column in (columns.below, columns.above))
        return torch.lerp(left, right, columns.share[:, None].to(values))

    return torch.lerp(along_row(rows.below), along_row(rows.above), rows.share[:, None].to(values))


def _between(slabs: Iterator[Tensor], slices: int, wanted: int) -> Iterator[Tensor]:
    """Interpolate between consecutive slices: `[b, K, h, w]` of those that become ready with each slab.

    Two slices are kept from one slab to the next: the next wanted one may lie between them.
    """
    below, _, share = _taps(slices, wanted)
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
