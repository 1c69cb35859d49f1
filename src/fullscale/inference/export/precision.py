"""Whether bf16 leaves the masks of a model as they are: asked of phantoms, which it sees as it sees a scan.

A phantom is unlike the scans of most trainings, and a structure's edge is less sure in it than in those. What passes
there was found to pass on scans (docs/performance.md). A model that finds nothing in a phantom cannot be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fullscale.bundle.card import ModelCard
from fullscale.data.phantom import STRUCTURES, make_case
from fullscale.data.recipe import image_slices, slice_geometry
from fullscale.metrics.overlap import overlap_counts
from fullscale.views.slices import stack_images

MOST_CHANGED = 1e-3
"""Largest share of a structure's voxels that may change."""
MOST_DICE = 2e-3
"""Most that the Dice of the two masks of a structure may lack of 1: no Dice with a truth then changes by more."""
FEWEST = 1000
"""Voxels of a structure, in all phantoms together, below which they say nothing of it."""
PHANTOMS = {"slices": (4, 192, 8), "patches": (4, 128, 64)}
"""How many are made for models of slices and of patches, their voxels a side, and their slices."""

Compute = Callable[[Tensor], Tensor]
"""From images or volumes `[B, C, ...]` to logits `[B, channels, ...]`."""


@dataclass(frozen=True)
class Change:
    """What bf16 does to a structure.

    Attributes:
        structure: its name.
        voxels: of it in float32.
        changed: voxels that are of the structure in one of the two precisions alone.
        dice: of the two masks.
    """

    structure: str
    voxels: int
    changed: int
    dice: float

    @property
    def is_small(self) -> bool:
        """Whether it is small enough for the structure's mask to be called the same."""
        return self.changed <= MOST_CHANGED * self.voxels and 1 - self.dice <= MOST_DICE

    def describe(self) -> str:
        """Say it in a few words."""
        return f"{100 * self.changed / self.voxels:.2f} % of {self.structure}"


def changes(card: ModelCard, exact: Compute, quick: Compute) -> list[Change]:
    """Compare two ways to compute a model on phantoms, for each structure that it finds there.

    Args:
        card: of the model.
        exact: takes images `[B, C, ...]` to logits in float32.
        quick: does the same in bf16.
    """
    masks = [(_mask(card, exact, image), _mask(card, quick, image)) for image in _images(card)]
    expected, found = (np.concatenate([pair[index].ravel() for pair in masks]) for index in (0, 1))
    scheme = card.scheme
    counts = overlap_counts(found, expected, scheme.structures, scheme.members)
    return [
        Change(name, count.n_ref, count.fp + count.fn, count.dice or 0.0)
        for name, count in zip(scheme.structures.values(), counts, strict=True)
        if count.n_ref >= FEWEST
    ]


def objection(found: list[Change]) -> str:
    """Say why bf16 is not used, in a few words that follow "float32, since"; nothing where it may be."""
    if not found:
        return "bf16 could not be checked: the model finds nothing in the phantoms"
    large = [change for change in found if not change.is_small]
    if not large:
        return ""
    worst = max(large, key=lambda change: change.changed / change.voxels)
    return f"bf16 changes {worst.describe()} in phantoms, more than {100 * MOST_CHANGED:.1f} %"


def _images(card: ModelCard) -> Iterator[Tensor]:
    """Make phantoms as a model is shown them, at their own spacing: each slice, or the patch in the middle of each."""
    recipe = card.recipe.model_copy(update={"spacing_mm": None})
    number, side, slices = PHANTOMS[recipe.view]
    for seed in range(number):
        scan, _ = make_case(seed, side, slices, tuple(STRUCTURES))
        image = image_slices(dict.fromkeys(recipe.channels, scan), slice_geometry(scan, recipe), recipe)  # [C, S, H, W]
        if card.tile_size is None:
            yield from (stack_images(image, index, 1, recipe.neighbours) for index in range(image.shape[1]))
        else:
            yield torch.from_numpy(np.ascontiguousarray(image[:, *_middle(image.shape[1:], card.tile_size)]))[None]


def _middle(shape: tuple[int, ...], tile: tuple[int, ...]) -> tuple[slice, ...]:
    starts = [max(0, (side - size) // 2) for side, size in zip(shape, tile, strict=True)]
    return tuple(slice(start, start + size) for start, size in zip(starts, tile, strict=True))


def _mask(card: ModelCard, compute: Compute, image: Tensor) -> npt.NDArray[Any]:
    return card.scheme.values(card.scheme.decide(compute(image)).numpy().astype(np.uint8))
