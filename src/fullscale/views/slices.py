"""A scan as a 2D network sees it: slices with their neighbours, whole to predict, or cut into crops to train on.

First the dice are thrown, then a crop is cut. Crop number `i` depends on the seed and on `i` alone: not on the worker
that cuts it, nor on what was drawn before, so a resumed run sees the crops that it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from fullscale.data.cache import PreparedCase

Augment = Callable[[npt.NDArray[np.float32], npt.NDArray[np.uint8], int], tuple[Tensor, Tensor]]
"""Takes an image `[C, H, W]`, its class indices `[H, W]` and a seed; gives both as tensors, changed alike."""


def with_neighbours(slices: npt.NDArray[Any], index: int, neighbours: int) -> npt.NDArray[Any]:
    """Take slice `index` of `[S, H, W]` with its neighbours: `[2 n + 1, H, W]`, from feet to head; edges repeat."""
    around = np.clip(np.arange(index - neighbours, index + neighbours + 1), 0, len(slices) - 1)
    return slices[around]


def stack_images(slices: npt.NDArray[Any], start: int, size: int, neighbours: int) -> Tensor:
    """Stack up to `size` slices of `[S, H, W]` with their neighbours: float32 `[B, 2 neighbours + 1, H, W]`."""
    indices = range(start, min(start + size, len(slices)))
    images = np.stack([with_neighbours(slices, index, neighbours) for index in indices])
    return torch.from_numpy(images.astype(np.float32, copy=False))


class Crop(NamedTuple):
    """Where to cut: a case, a slice, and the first row and column (negative ones lie outside and repeat the edge)."""

    case: int
    slice: int
    row: int
    column: int


class CropDataset(Dataset[tuple[Tensor, Tensor]]):
    """Images `[2 n + 1, H, W]` and class indices `[H, W]`; any index is valid.

    Args:
        cases: prepared training cases.
        patch_size: rows and columns of a crop.
        neighbours: slices above and below that are shown with each slice.
        foreground_fraction: share of crops centred on a structure: a class by turns, a slice that holds it, a
            voxel of it. The others are cut anywhere.
        augment: changes a crop, see `Augment`.
        seed: of the whole series of crops.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        patch_size: tuple[int, int],
        neighbours: int,
        foreground_fraction: float,
        augment: Augment,
        seed: int,
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
        self.slices_with = {k: self.slices[present[:, k]] for k in range(1, present.shape[1]) if present[:, k].any()}

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([self.seed, index])
        crop = self.draw(rng)
        image, label = self.cut(crop)
        return self.augment(image, label, int(rng.integers(2**31)))

    def draw(self, rng: np.random.Generator) -> Crop:
        """Choose a slice and a place in it."""
        if self.slices_with and rng.random() < self.foreground_fraction:
            structure = rng.choice(list(self.slices_with))
            case, index = rng.choice(self.slices_with[structure])
            voxels = np.argwhere(self.cases[case].label[index] == structure)
            row, column = (
                _start_around(int(centre), size, side, rng)
                for centre, size, side in zip(
                    rng.choice(voxels), self.cases[case].label.shape[1:], self.patch_size, strict=True
                )
            )
        else:
            case, index = rng.choice(self.slices)
            row, column = (
                _start_anywhere(size, side, rng)
                for size, side in zip(self.cases[case].label.shape[1:], self.patch_size, strict=True)
            )
        return Crop(int(case), int(index), row, column)

    def cut(self, crop: Crop) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """Cut a crop; where it reaches beyond the slice, the slice's edge is repeated."""
        case = self.cases[crop.case]
        _, height, width = case.label.shape
        rows = np.clip(np.arange(crop.row, crop.row + self.patch_size[0]), 0, height - 1)
        columns = np.clip(np.arange(crop.column, crop.column + self.patch_size[1]), 0, width - 1)
        image = with_neighbours(case.image, crop.slice, self.neighbours)[:, rows][:, :, columns]
        return image.astype(np.float32), np.ascontiguousarray(case.label[crop.slice][rows][:, columns])


class CropSampler(Sampler[int]):
    """Indices of one epoch's crops, going on from the epoch before; each process of several takes its share."""

    def __init__(self, crops_per_epoch: int, rank: int = 0, world_size: int = 1) -> None:
        self.crops_per_epoch = crops_per_epoch
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose crops come next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.crops_per_epoch

    def __iter__(self) -> Iterator[int]:
        first = self.epoch * self.crops_per_epoch * self.world_size + self.rank
        yield from range(first, first + self.crops_per_epoch * self.world_size, self.world_size)


def _start_anywhere(size: int, side: int, rng: np.random.Generator) -> int:
    slack = size - side
    return int(rng.integers(slack + 1)) if slack > 0 else slack // 2


def _start_around(centre: int, size: int, side: int, rng: np.random.Generator) -> int:
    """Choose a start so that `centre` falls into the crop's middle half, kept inside the slice where it fits."""
    if size <= side:
        return (size - side) // 2
    start = centre - side // 2 + int(rng.integers(-(side // 4), side // 4 + 1))
    return int(np.clip(start, 0, size - side))
