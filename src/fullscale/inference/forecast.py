"""What segmenting a scan will cost on a CPU, from one slice of noise: the seconds, and the peak of memory."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from functools import lru_cache

import torch

from fullscale.data.recipe import slice_geometry
from fullscale.geometry.volume import Volume
from fullscale.inference.memory import needed_memory
from fullscale.inference.predictor import Predictor
from fullscale.inference.runtimes.load import RunningMember
from fullscale.inference.runtimes.torch import TorchRuntime
from fullscale.text import counted
from fullscale.views.protocol import voxels_at_once
from fullscale.work.machine import GIB, available_memory, process_memory

_SIDE = 192
"""Rows and columns of the slice: a network of the default plan takes 0.06 s for it."""
_WARM_UP = 32
_GATED = 0.65
"""Of the time of a slice that is decoded: what one takes on average where guidance leaves out the slices without a
structure. It lies between 0.4, where no slice has one, and 1."""


@dataclass(frozen=True)
class Cost:
    """What a voxel of a slice costs, as the network sees it.

    Attributes:
        seconds: of each member, its mirror images with it.
        maps: bytes that a network holds at once, of the member that holds most; None where they could not be seen.
    """

    seconds: tuple[float, ...]
    maps: float | None


@lru_cache(maxsize=1)
def cost_of(predictor: Predictor) -> Cost | None:
    """Measure a predictor, once: on a slice of noise, after a small one to warm up.

    Returns:
        None where it would not say enough, or take too long: on a GPU, in tiles, and in another runtime, which compiles
        each size.
    """
    members = predictor.members
    if not all(isinstance(m.runtime, TorchRuntime) and m.runtime.device.type == "cpu" for m in members):
        return None
    if any(member.card.recipe.view != "slices" for member in members):
        return None
    of_kind: dict[str, tuple[float, float | None]] = {}  # the folds of a run are of one kind
    for member in members:
        kind = _kind(member)
        of_kind[kind] = of_kind.get(kind) or _measure(member)
    turns = [1 if predictor.quick else 2 ** len(member.card.mirrors) for member in members]
    seconds = tuple(turn * of_kind[_kind(member)][0] for turn, member in zip(turns, members, strict=True))
    maps = [maps for _, maps in of_kind.values() if maps is not None]
    return Cost(seconds, max(maps) if len(maps) == len(of_kind) else None)


def _kind(member: RunningMember) -> str:
    return repr((member.card.network, member.card.options, member.card.recipe.in_channels))


def _measure(member: RunningMember) -> tuple[float, float | None]:
    """Return the seconds and the bytes of a voxel."""
    channels, voxels = member.card.recipe.in_channels, _SIDE**2
    member.runtime.segment(torch.zeros(1, channels, _WARM_UP, _WARM_UP))
    before, started = process_memory(), time.perf_counter()
    _, presence = member.runtime.segment(torch.zeros(1, channels, _SIDE, _SIDE))
    seconds, after = time.perf_counter() - started, process_memory()
    seconds *= 1 if presence is None else _GATED
    maps = None if before is None or after is None or after.most == before.most else after.most - before.now
    return seconds / voxels, None if maps is None else maps / voxels


def fitted(predictor: Predictor, scan: Volume, cost: Cost | None) -> Predictor:
    """Return a predictor that computes fewer slices at once, where those that it would compute do not fit into memory.

    Args:
        predictor: the model.
        scan: that was read.
        cost: of the predictor.
    """
    if cost is None or cost.maps is None or predictor.batch_size is not None:
        return predictor
    cards = [member.card for member in predictor.members]
    room = available_memory() - needed_memory(scan, cards, bool(predictor.rules))
    planes = [slice_geometry(scan, card.recipe).network_shape[1:] for card in cards]
    largest = max(planes, key=math.prod)
    fitting = max(1, int(room / (cost.maps * math.prod(largest))))
    if fitting >= voxels_at_once(largest, torch.device("cpu")):
        return predictor
    smaller = copy.copy(predictor)
    smaller.batch_size = fitting
    return smaller


def describe_forecast(predictor: Predictor, scan: Volume, cost: Cost) -> str:
    """Say what a scan is expected to cost from here on, once it is read.

    Args:
        predictor: as `fitted` returns it.
        scan: that was read.
        cost: of the predictor.
    """
    cards = [member.card for member in predictor.members]
    shapes = [slice_geometry(scan, card.recipe).network_shape for card in cards]
    seconds = sum(each * math.prod(shape) for each, shape in zip(cost.seconds, shapes, strict=True))
    most = "at most " if predictor.region == "coarse" else ""
    said = f"{'x'.join(map(str, scan.shape))} voxels, about {most}{max(1, round(seconds))} s"
    held = process_memory()
    if held is None or cost.maps is None:
        return said
    plane = math.prod(max((shape[1:] for shape in shapes), key=math.prod))
    slices = min(predictor.batch_size or max(1, voxels_at_once((plane,), torch.device("cpu"))), shapes[0][0])
    peak = max(held.most, held.now + needed_memory(scan, cards, bool(predictor.rules)) + slices * plane * cost.maps)
    fewer = f", {counted(slices, 'slice')} at once" if predictor.batch_size else ""
    return f"{said} and {peak / GIB:.1f} GiB of memory{fewer}"
