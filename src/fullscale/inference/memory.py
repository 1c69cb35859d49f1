"""Memory that a scan needs to be segmented, said before the work."""

from __future__ import annotations

import math
from collections.abc import Collection

from fullscale.bundle.card import ModelCard
from fullscale.data.recipe import slice_geometry
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume
from fullscale.work.machine import GIB, available_memory

_BYTES_AS_STORED = 3
"""Of each voxel of a scan: its class, its label, and a structure of it that post-processing looks at."""
_BYTES_OF_PARTS = 2
"""Of each voxel where rules look at parts of structures: half of what they take where one fills the whole scan."""
_BYTES_OF_STATISTICS = 9
"""Of each voxel of a scan whose statistics are its own: two float32, and whether it counts."""
_BYTES_RESIZED = 4
"""Of each voxel of what a recipe makes, and of each number of the maps of it."""


def require_memory(scan: Volume, cards: Collection[ModelCard], kept: int = 0, rules: bool = False) -> None:
    """Refuse a scan that would not fit into memory, before anything is allocated.

    The scan itself is there already. Counted are its mask, what each recipe makes of it, and for patches the maps of
    one layer of tiles.

    Args:
        scan: that was read.
        cards: of the members.
        kept: bytes of each voxel that are kept besides, such as probabilities.
        rules: whether the mask is post-processed.

    Raises:
        DataError: they would not fit.
    """
    needed, free = needed_memory(scan, cards, rules) + kept * math.prod(scan.shape), available_memory()
    if needed > free:
        shape = "x".join(map(str, scan.shape))
        slices = slice_geometry(scan, next(iter(cards)).recipe).shape[0]
        fitting = int(slices * free / needed)
        crop = f"crop it to {fitting} of its {slices} slices, " if fitting else ""
        raise DataError(
            f"a scan of {shape} voxels needs {needed / GIB:.1f} GiB of memory to be segmented, {free / GIB:.1f} GiB "
            f"are free; {crop}{_remedy(cards, kept)}or use a machine with more"
        )


def _remedy(cards: Collection[ModelCard], kept: int) -> str:
    if kept:
        return "leave out --probabilities and --uncertainty, "
    return "take one member with --quick, " if len(cards) > 1 else ""


def needed_memory(scan: Volume, cards: Collection[ModelCard], rules: bool = False) -> int:
    """Return the bytes that are needed beside the scan, the libraries and a batch of a network's maps."""
    shapes = {card.recipe: slice_geometry(scan, card.recipe).network_shape for card in cards}
    numbers = sum(len(recipe.channels) * math.prod(shape) for recipe, shape in shapes.items())
    for card in cards:
        if card.tile_size is not None:
            depth, height, width = shapes[card.recipe]
            numbers += (card.scheme.channels + 1) * min(depth, card.tile_size[0]) * height * width
    own = any(intensity.per == "scan" for recipe in shapes for intensity in recipe.intensities.values())
    stored = _BYTES_AS_STORED + (_BYTES_OF_STATISTICS if own else 0) + (_BYTES_OF_PARTS if rules else 0)
    return stored * math.prod(scan.shape) + _BYTES_RESIZED * numbers
