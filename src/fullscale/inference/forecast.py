"""What segmenting a scan will cost on a CPU, from one empty slice or tile: the seconds, and the peak of memory."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from fullscale.bundle.card import ModelCard
from fullscale.data.recipe import slice_geometry
from fullscale.geometry.volume import Volume
from fullscale.inference.memory import needed_memory
from fullscale.inference.postprocess import apply_rules
from fullscale.inference.predictor import Predictor
from fullscale.inference.region import SMALLEST, coarse_sides
from fullscale.inference.runtimes.load import RunningMember
from fullscale.inference.runtimes.torch import TorchRuntime
from fullscale.inference.timing import usual_sides
from fullscale.text import counted
from fullscale.views.patches import starts
from fullscale.views.protocol import voxels_at_once
from fullscale.work.machine import GIB, available_memory, process_memory

_WARM_UP = 32
_GATED = 0.65
"""Of the time of a slice that is decoded: what one takes on average where guidance leaves out the slices without a
structure. It lies between 0.4, where no slice has one, and 1."""
_RULED = 128
"""Rows and columns of the mask that post-processing is measured on."""


@dataclass(frozen=True)
class Cost:
    """What segmenting costs for each voxel.

    Attributes:
        seconds: of each member for what it is shown, its mirror images with it.
        maps: bytes that a network holds at once, of the member that holds most; None where they could not be seen.
        rules: seconds of post-processing, for each voxel of the scan.
    """

    seconds: tuple[float, ...]
    maps: float | None
    rules: float = 0.0


@lru_cache(maxsize=1)
def cost_of(predictor: Predictor) -> Cost | None:
    """Measure a predictor, once: on an empty slice or tile, after a small one to warm up.

    Returns:
        None on a GPU, and where graphs of other runtimes compute.
    """
    if not all(isinstance(m.runtime, TorchRuntime) and m.runtime.device.type == "cpu" for m in predictor.members):
        return None

    def measure(member: RunningMember) -> tuple[float, float | None]:
        sides = usual_sides(member.card)
        return _measure(member, [_WARM_UP] * len(sides), sides)

    return _cost(predictor, measure)


def _cost_of_graphs(predictor: Predictor, scan: Volume) -> Cost | None:
    """Measure a predictor of graphs of other runtimes on images of the sizes that the scan needs.

    A runtime compiles its graph for each size, which takes longer than to compute it once: no other size is asked for.

    Returns:
        None where PyTorch computes.
    """
    if any(isinstance(member.runtime, TorchRuntime) for member in predictor.members):
        return None

    def measure(member: RunningMember) -> tuple[float, float | None]:
        plane = slice_geometry(scan, member.card.recipe).network_shape[1:]
        coarse = predictor.region == "coarse" and min(plane) >= SMALLEST
        sides = member.card.tile_size or (coarse_sides(plane) if coarse else plane)
        seconds, _ = _measure(member, sides, sides)  # they take one image after the other, whatever is given together
        return seconds, None

    return _cost(predictor, measure)


def _cost(predictor: Predictor, measure: Callable[[RunningMember], tuple[float, float | None]]) -> Cost:
    of_kind: dict[str, tuple[float, float | None]] = {}  # the folds of a run are of one kind
    for member in predictor.members:
        kind = _kind(member)
        of_kind[kind] = of_kind.get(kind) or measure(member)
    turns = [1 if predictor.quick else 2 ** len(member.card.mirrors) for member in predictor.members]
    seconds = tuple(turn * of_kind[_kind(member)][0] for turn, member in zip(turns, predictor.members, strict=True))
    maps = [maps for _, maps in of_kind.values() if maps is not None]
    return Cost(seconds, max(maps) if len(maps) == len(of_kind) else None, _seconds_of_rules(predictor))


def _kind(member: RunningMember) -> str:
    return repr((member.card.network, member.card.options, member.card.recipe.in_channels, member.card.tile_size))


def _measure(member: RunningMember, first: Sequence[int], sides: Sequence[int]) -> tuple[float, float | None]:
    """Return the seconds and the bytes of a voxel of an image, after a first one."""
    channels = member.card.recipe.in_channels
    member.runtime.segment(torch.zeros(1, channels, *first))
    before, started = process_memory(), time.perf_counter()
    _, presence = member.runtime.segment(torch.zeros(1, channels, *sides))
    seconds, after = time.perf_counter() - started, process_memory()
    seconds *= 1 if presence is None else _GATED
    maps = None if before is None or after is None or after.most == before.most else after.most - before.now
    voxels = math.prod(sides)
    return seconds / voxels, None if maps is None else maps / voxels


def _seconds_of_rules(predictor: Predictor) -> float:
    """Post-process a mask of which each structure fills a part of the middle, and return the seconds of a voxel."""
    if not predictor.rules:
        return 0.0
    values = list(predictor.card.scheme.structures)
    labels = np.zeros((_RULED, _RULED, 16), np.min_scalar_type(max(values)))
    for value, middle in zip(values, np.array_split(labels[_RULED // 4 : -_RULED // 4], len(values)), strict=True):
        middle[:, _RULED // 4 : -_RULED // 4, 4:-4] = value
    apply_rules(labels, 1.0, predictor.card.scheme, predictor.rules)  # what it loads takes its time once
    started = time.perf_counter()
    apply_rules(labels, 1.0, predictor.card.scheme, predictor.rules)
    return (time.perf_counter() - started) / labels.size


class _Shown(NamedTuple):
    """What a member is shown of a scan: slices or tiles of one size."""

    what: str
    sides: tuple[int, ...]
    number: int

    @property
    def voxels(self) -> int:
        return math.prod(self.sides)


def _shown(card: ModelCard, scan: Volume) -> _Shown:
    shape = slice_geometry(scan, card.recipe).network_shape
    if card.tile_size is None:
        return _Shown("slice", shape[1:], shape[0])
    along = (len(starts(size, side, card.tile_overlap)) for size, side in zip(shape, card.tile_size, strict=True))
    return _Shown("tile", card.tile_size, math.prod(along))


def can_be_fitted(predictor: Predictor) -> bool:
    """Whether several images would be computed at once, so that `fitted` can make them fewer."""
    tiles = [member.card.tile_size for member in predictor.members]
    return predictor.batch_size is None and any(
        tile is None or voxels_at_once(tile, torch.device("cpu")) > 1 for tile in tiles
    )


def fitted(predictor: Predictor, scan: Volume, cost: Cost | None) -> Predictor:
    """Return a predictor that computes fewer images at once, where those that it would compute do not fit into memory.

    Args:
        predictor: the model.
        scan: that was read.
        cost: of the predictor.
    """
    if cost is None or cost.maps is None or predictor.batch_size is not None:
        return predictor
    cards = [member.card for member in predictor.members]
    room = available_memory() - needed_memory(scan, cards, bool(predictor.rules))
    largest = max((_shown(card, scan) for card in cards), key=lambda shown: shown.voxels)
    fitting = max(1, int(room / (cost.maps * largest.voxels)))
    if fitting >= voxels_at_once(largest.sides, torch.device("cpu")):
        return predictor
    smaller = copy.copy(predictor)
    smaller.batch_size = fitting
    return smaller


def describe_forecast(predictor: Predictor, scan: Volume, cost: Cost | None) -> str | None:
    """Say what a scan is expected to cost from here on, once it is read.

    Args:
        predictor: as `fitted` returns it.
        scan: that was read.
        cost: of the predictor; graphs are measured now.

    Returns:
        None on a GPU.
    """
    cost = cost or _cost_of_graphs(predictor, scan)
    if cost is None:
        return None
    cards = [member.card for member in predictor.members]
    shown = [_shown(card, scan) for card in cards]
    of_members = (each * part.number * part.voxels for each, part in zip(cost.seconds, shown, strict=True))
    seconds = sum(of_members) + cost.rules * math.prod(scan.shape)
    most = "at most " if predictor.region == "coarse" else ""
    said = f"{'x'.join(map(str, scan.shape))} voxels, about {most}{max(1, round(seconds))} s"
    held = process_memory()
    if held is None or cost.maps is None:
        return said
    largest = max(shown, key=lambda part: part.voxels)
    at_once = min(predictor.batch_size or voxels_at_once(largest.sides, torch.device("cpu")), largest.number)
    work = needed_memory(scan, cards, bool(predictor.rules)) + at_once * largest.voxels * cost.maps
    peak = max(held.most, held.now + work)
    fewer = f", {counted(at_once, largest.what)} at once" if predictor.batch_size else ""
    return f"{said} and {peak / GIB:.1f} GiB of memory{fewer}"
