"""Crops of prepared cases to train on: a slice with its neighbours, or a patch of three dimensions.

First the dice are thrown, then a crop is cut. Crop number `i` depends on the seed and on `i` alone: not on the worker
that cuts it, nor on what was drawn before, so a resumed run sees the crops that it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from fullscale.data.cache import PreparedCase
from fullscale.views.boxes import cut
from fullscale.views.slices import with_neighbours

Augment = Callable[[npt.NDArray[np.float32], npt.NDArray[np.uint8], int], tuple[Tensor, Tensor]]
"""Takes an image `[C, H, W]` or `[C, D, H, W]`, its class indices `[H, W]` or `[D, H, W]`, and a seed; gives both as
tensors, changed alike."""


class Crop(NamedTuple):
    """Where to cut: a case, and the first slice, row and column (what lies outside repeats the edge)."""

    case: int
    slice: int
    row: int
    column: int


class CropDataset(Dataset[tuple[Tensor, ...]]):
    """Images and class indices of one size; any index is valid.

    Where structures are unknown in some of the cases, a crop has a third part: whether each structure was drawn, bool
    `[structures]`.

    Args:
        cases: prepared training cases.
        patch_size: rows and columns of a crop, for images `[C (2 n + 1), H, W]` and class indices `[H, W]`; or slices,
            rows and columns, for `[C, D, H, W]` and `[D, H, W]`.
        neighbours: slices above and below that are shown with a slice; 0 for patches of three dimensions.
        foreground_fraction: share of crops centred on a structure: a class by turns, a slice that holds it, a
            voxel of it. The others are cut anywhere.
        augment: changes a crop, see `Augment`.
        seed: of the whole series of crops.
        structures: how many there are; of a set of cases in which all were drawn it does not matter.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        patch_size: tuple[int, ...],
        neighbours: int,
        foreground_fraction: float,
        augment: Augment,
        seed: int,
        structures: int = 0,
    ) -> None:
        self.cases = list(cases)
        self.patch_size = patch_size
        self.neighbours = neighbours
        self.foreground_fraction = foreground_fraction
        self.augment = augment
        self.seed = seed
        counts = [case.voxels for case in self.cases]
        self.slices = np.array([(c, s) for c, n in enumerate(counts) for s in range(len(n))])
        present = np.concatenate(counts) > 0
        known = np.ones((len(self.cases), structures), dtype=bool)
        for row, case in zip(known, self.cases, strict=True):
            row[list(case.unknown)] = False
        self.known = None if known.all() else torch.from_numpy(known)
        self.slices_with = {k: self.slices[present[:, k]] for k in range(1, present.shape[1]) if present[:, k].any()}

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        rng = np.random.default_rng([self.seed, index])
        crop = self.draw(rng)
        image, label = self.cut(crop)
        changed = self.augment(image, label, int(rng.integers(2**31)))
        return changed if self.known is None else (*changed, self.known[crop.case])

    def draw(self, rng: np.random.Generator) -> Crop:
        """Choose a slice and a place in it; for a patch, slices around that one."""
        if self.slices_with and rng.random() < self.foreground_fraction:
            structure = rng.choice(list(self.slices_with))
            case, index = rng.choice(self.slices_with[structure])
            voxels = np.argwhere(self.cases[case].label[index] == structure)
            centre = (index, *rng.choice(voxels))[-len(self.patch_size) :]
            starts = [
                _start_around(int(middle), size, side, rng)
                for middle, size, side in zip(centre, self._sizes(case), self.patch_size, strict=True)
            ]
        else:
            case, index = rng.choice(self.slices)
            starts = [
                _start_anywhere(size, side, rng) for size, side in zip(self._sizes(case), self.patch_size, strict=True)
            ]
        return Crop(int(case), *starts) if len(starts) == 3 else Crop(int(case), int(index), *starts)

    def cut(self, crop: Crop) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """Cut a crop; where it reaches beyond the case, the case's edge is repeated."""
        label, image = self.cases[crop.case].label, self.cases[crop.case].image
        if len(self.patch_size) == 2:
            label, image = label[crop.slice], with_neighbours(image, crop.slice, self.neighbours)
        starts = crop[-len(self.patch_size) :]
        return cut(image, starts, self.patch_size).astype(np.float32), cut(label, starts, self.patch_size)

    def _sizes(self, case: int) -> tuple[int, ...]:
        """Return the sides of a case along the axes that a crop has."""
        return self.cases[case].label.shape[-len(self.patch_size) :]


class CropSampler(Sampler[int]):
    """Indices of one epoch's crops, going on from the epoch before; each process of several takes its share."""

    def __init__(self, crops_per_epoch: int, rank: int = 0, world_size: int = 1) -> None:
        self.crops_per_epoch = crops_per_epoch
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.done_in = {0: 0}

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose crops come next."""
        self.epoch = epoch

    def go_on(self, epoch: int, done: int) -> None:
        """Choose an epoch of which so many crops are done in this process already: they are left out."""
        self.epoch, self.done_in = epoch, {epoch: done}

    def __len__(self) -> int:
        return self.crops_per_epoch

    def __iter__(self) -> Iterator[int]:
        first = self.epoch * self.crops_per_epoch * self.world_size + self.rank
        crops = range(first, first + self.crops_per_epoch * self.world_size, self.world_size)
        yield from crops[self.done_in.get(self.epoch, 0) :]


def _start_anywhere(size: int, side: int, rng: np.random.Generator) -> int:
    slack = size - side
    return int(rng.integers(slack + 1)) if slack > 0 else slack // 2


def _start_around(centre: int, size: int, side: int, rng: np.random.Generator) -> int:
    """Choose a start so that `centre` falls into the crop's middle half, kept inside the slice where it fits."""
    if size <= side:
        return (size - side) // 2
    start = centre - side // 2 + int(rng.integers(-(side // 4), side // 4 + 1))
    return int(np.clip(start, 0, size - side))
