"""How quickly a network is computed, on a slice or a tile of no content."""

from __future__ import annotations

import time

import torch

from fullscale.bundle.card import ModelCard
from fullscale.inference.runtimes.protocol import Runtime

_SIDES = {2: (192, 192), 3: (64, 64, 64)}
"""By the axes of an image: a network of the default plan takes 0.04 s for a slice."""
_ROUNDS = 5


def usual_sides(card: ModelCard) -> tuple[int, ...]:
    """Return the sides of a slice that is soon computed, or of a tile, no larger than the model's own."""
    sides = _SIDES[card.recipe.spatial_dims]
    return sides if card.tile_size is None else tuple(map(min, sides, card.tile_size))


def times_faster(runtime: Runtime, than: Runtime, card: ModelCard) -> float:
    """Measure how many times faster one runtime computes a model than another: in turn, the best of a few rounds."""
    image = torch.zeros(1, card.recipe.in_channels, *usual_sides(card))
    seconds: dict[Runtime, list[float]] = {runtime: [], than: []}
    for _ in range(1 + _ROUNDS):
        for each, taken in seconds.items():
            started = time.perf_counter()
            each.segment(image)
            taken.append(time.perf_counter() - started)
    best = {each: min(taken[1:]) for each, taken in seconds.items()}  # the first is to warm up
    return best[than] / best[runtime]
