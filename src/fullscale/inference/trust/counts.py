"""Counts of voxels by probability, mask and truth, taken while a scan is predicted: all that trust is learned from.

Voxels that no structure may hold are not looked at: only those in which one has a probability of at least `LEAST`, and
where the truth is known, those near it. Letters: K structures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fullscale.data.labels import IGNORED, LabelScheme
from fullscale.data.recipe import SliceGeometry
from fullscale.inference.combine import Combination
from fullscale.inference.trust.calibration import BINS, bins_of
from fullscale.inference.trust.shape import Shape, shapes_of
from fullscale.inference.trust.watch import Slab, Watcher

LEAST = 0.01
"""Probability from which a voxel is counted wherever it lies."""
MARGIN_MM = 10.0
"""Voxels this near to the box around a structure of the truth are counted whatever their probability."""

_ALL = -1

Counts = npt.NDArray[np.int64]
"""`[K, 3, mask, BINS]`: voxels that the truth does not give to a structure, and those that it does, as far as it is
known; then, whether it is known or not, all with a probability of `LEAST` and more, `SEEN`: what prediction sees."""
SEEN = 2
Box = tuple[slice, slice, slice]


class Counting(Watcher):
    """Counts the voxels of a scan.

    Args:
        scheme: what channels and classes stand for.
        truth: classes `[S, H, W]`, `IGNORED` where nothing is known, or None.
        spacing_mm: of the truth.
        full_size: count what all members say together, too, at the size of the scan; a truth needs it.

    Attributes:
        shapes: of each structure's mask, once the scan is done; None where it is empty.
    """

    def __init__(
        self,
        scheme: LabelScheme,
        truth: npt.NDArray[np.uint8] | None = None,
        spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
        full_size: bool = True,
    ) -> None:
        self.scheme, self.truth, self.full_size = scheme, truth, full_size
        self.shapes: list[Shape | None] = []
        members = np.zeros((len(scheme.structures), IGNORED + 1), dtype=bool)
        members[:, : scheme.classes] = scheme.membership
        self._holding = members.T
        self._boxes = [] if truth is None else [_near(members[k][truth], spacing_mm) for k in range(len(members))]
        self._parts: dict[int, dict[tuple[int, int], Counts]] = {}
        self._planes: dict[int, int] = {}

    @property
    def together(self) -> Counts:
        """Counts by what all members say, of the voxels of the scan."""
        return self._sum(_ALL)

    @property
    def of_members(self) -> list[tuple[Counts, float]]:
        """Counts by what each member says, of which there is at least one, and voxels of the scan for each counted."""
        numbers = sorted(number for number in self._parts if number != _ALL) or [_ALL]
        return [(self._sum(number), self._plane / self._planes[number]) for number in numbers]

    def member(self, where: slice, number: int, logits: Tensor) -> None:
        """Count by what one member says."""
        self._planes[number] = logits[0, 0].numel()
        alone = Combination(self.scheme)
        alone.add(logits)
        self._keep(number, where, self._count(Slab(where, alone, alone.decide())))

    def slab(self, slab: Slab) -> None:
        """Count by what all members say."""
        self._planes[_ALL] = slab.decided[0].numel()
        self._keep(_ALL, slab.where, self._count(slab))

    def done(self, classes: npt.NDArray[np.uint8], geometry: SliceGeometry) -> None:
        """Measure the shape of each mask."""
        self._plane = classes[0].size
        self.shapes = shapes_of(classes, self.scheme, geometry.spacing_mm)

    def _sum(self, number: int) -> Counts:
        found: Counts = np.sum(list(self._parts[number].values()), axis=0)
        return found

    def _keep(self, number: int, where: slice, counts: Counts) -> None:
        """Keep the counts of some slices, in place of those that were taken before a box grew."""
        kept = self._parts.setdefault(number, {})
        for start, stop in [part for part in kept if part[0] < where.stop and where.start < part[1]]:
            del kept[start, stop]
        kept[where.start, where.stop] = counts

    def _count(self, slab: Slab) -> Counts:
        where, combined, decided = slab
        voxels, soft = combined.possible(LEAST, self._near_truth(where, decided))
        probabilities = soft.numpy()
        mask = self._holding[decided[voxels].cpu().numpy()]
        bins = _Bins(mask, probabilities)
        seen = probabilities >= LEAST
        if self.truth is None:
            nothing = np.zeros_like(seen)
            return np.stack([bins.count(nothing), bins.count(nothing), bins.count(seen)], axis=1)
        places = torch.nonzero(voxels).cpu().numpy()
        classes = self.truth[where][tuple(places.T)]
        near = np.stack([_within(places, box, where.start) for box in self._boxes], axis=1)
        known, truth = (near | seen) & (classes != IGNORED)[:, None], self._holding[classes]
        return np.stack([bins.count(known & ~truth), bins.count(known & truth), bins.count(seen)], axis=1)

    def _near_truth(self, where: slice, decided: Tensor) -> Tensor | None:
        if self.truth is None:
            return None
        near = torch.zeros_like(decided, dtype=torch.bool)
        for box in self._boxes:
            if box is not None:
                across, rows, columns = box
                first, stop = max(across.start - where.start, 0), max(across.stop - where.start, 0)
                near[first:stop, rows, columns] = True
        return near


class _Bins:
    """Some voxels, by structure, mask and probability.

    Args:
        mask: whether the mask gives each to each structure `[voxels, K]`.
        probabilities: of the structures in each `[voxels, K]`.
    """

    def __init__(self, mask: npt.NDArray[np.bool_], probabilities: npt.NDArray[np.float32]) -> None:
        self._mask, self._probabilities = mask, probabilities

    def count(self, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Count those that are chosen `[voxels, K]`: `[K, mask, BINS]`."""
        row, structure = np.nonzero(chosen)
        index = (structure * 2 + self._mask[row, structure]) * BINS + bins_of(self._probabilities[row, structure])
        shape = (chosen.shape[1], 2, BINS)
        return np.bincount(index, minlength=int(np.prod(shape))).reshape(shape)


def _near(held: npt.NDArray[np.bool_], spacing_mm: Sequence[float]) -> Box | None:
    """Return the box around a mask, grown on all sides; None around nothing."""
    if not held.any():
        return None
    sides = []
    for axis, step in enumerate(spacing_mm):
        others = tuple(other for other in range(3) if other != axis)
        places = np.flatnonzero(held.any(axis=others))
        more = round(MARGIN_MM / step)
        sides.append(slice(max(0, int(places[0]) - more), min(held.shape[axis], int(places[-1]) + 1 + more)))
    return sides[0], sides[1], sides[2]


def _within(places: npt.NDArray[np.int64], box: Box | None, first: int) -> npt.NDArray[np.bool_]:
    if box is None:
        return np.zeros(len(places), dtype=bool)
    moved = places + np.array([first, 0, 0])
    inside: npt.NDArray[np.bool_] = np.all(
        [(side.start <= at) & (at < side.stop) for side, at in zip(box, moved.T, strict=True)], axis=0
    )
    return inside
