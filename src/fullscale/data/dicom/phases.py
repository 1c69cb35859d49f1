"""One SeriesInstanceUID, several volumes: byte copies are dropped, and phases, echoes or repetitions told apart.

A scanner may put an arterial and a portal phase, or the echoes of an MR, under one series. Their slices lie at the
same positions, so what tells them apart must come from their headers; nothing is split by file name or by number.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fullscale.data.dicom.headers import PHASE_TAGS, PassedOver, Slice, data_set_start
from fullscale.data.dicom.store import digest, file_size

Vector = npt.NDArray[np.float64]

_IN_ORDER_OF = (
    *("TriggerTime", "NominalCardiacTriggerDelayTime", "TemporalPositionTimeOffset", "AcquisitionTime"),
    *("AcquisitionDateTime", "FrameAcquisitionDateTime", "ContentTime"),
)
"""Times that differ a little from slice to slice within one phase: only their order at each position tells phases."""
_ALSO_PASSES = ("AcquisitionNumber", "StackID")
_UNEVEN = 1e-2
"""Largest deviation of the steps of a stack from each other, as a share of them."""
_MOST_ATTRIBUTES = 3
_SAME_POSITION_MM = 1e-3
_SAME_NORMAL = 0.02
_APART_MM = 1e7


def drop_copies(slices: list[Slice]) -> tuple[list[Slice], list[PassedOver]]:
    """Leave out files that hold the same as another file of the series, the later by name.

    A copy may have another meta header, which programs write anew when they store a file.
    """
    if len({(s.path, s.frame) for s in slices}) == len({(_place(s), s.frame) for s in slices}):
        return slices, []
    alike: dict[Hashable, list[Path]] = defaultdict(list)
    named = {s.path: s.uid for s in slices}
    for path in sorted(named, key=lambda p: (len(p.as_posix()), p)):
        alike[named[path] or file_size(path)].append(path)
    first: dict[Hashable, Path] = {}
    copies: dict[Path, Path] = {}
    for path in (path for paths in alike.values() if len(paths) > 1 for path in paths):
        original = first.setdefault(digest(path, data_set_start(path)), path)
        if original != path:
            copies[path] = original
    dropped = [PassedOver(path, f"a byte copy of {original.name}") for path, original in sorted(copies.items())]
    return [s for s in slices if s.path not in copies], dropped


def split_phases(slices: list[Slice]) -> list[tuple[str, list[Slice]]]:
    """Split a series whose slices share positions into volumes.

    Returns:
        Name, such as `"EchoTime 2.3"`, and slices of each phase, in the order of what tells them apart. One phase
        without a name where no two slices share a position, or where nothing in their headers tells them apart.
    """
    positions = _positions(slices)
    most = max(Counter(positions).values(), default=1)
    if most == 1:
        return _interleaved(slices) or [("", slices)]
    varying = [name for name in PHASE_TAGS if len({s.phase.get(name) for s in slices}) > 1]
    for names in _sets_of(varying):
        keys: list[Hashable] = [tuple(s.phase.get(name, "") for name in names) for s in slices]
        if _are_phases(keys, positions, most):
            return _grouped(slices, keys, lambda key, chosen=names: _name(chosen, key))
    for name in (name for name in _IN_ORDER_OF if name in varying):
        ranks = _ranks(slices, positions, name)
        if ranks is not None and _are_phases(ranks, positions, most):
            return _grouped(slices, ranks, lambda rank, chosen=name: f"{chosen} {int(rank) + 1} of {most}")
    return [("", slices)]


def _interleaved(slices: list[Slice]) -> list[tuple[str, list[Slice]]] | None:
    """Split a series whose phases lie between each other's slices; None where no attribute says that they do.

    An attribute does where its values take turns from slice to slice and each value's slices make an even stack. One
    that also numbers the passes of a single volume does so only where the stated slice distance is that of its stacks.
    """
    normals: list[Vector] = []
    heights = np.array([_height(s, normals) for s in slices])
    if len(normals) != 1 or not np.isfinite(heights).all():
        return None
    order = [slices[k] for k in np.argsort(heights, kind="stable")]
    gaps = np.diff(np.sort(heights))
    for name in (name for name in PHASE_TAGS if name not in _IN_ORDER_OF):
        keys = [(s.phase.get(name, ""),) for s in order]
        turns = len(set(keys))
        if turns < 2 or len(keys) < 2 * turns or keys != (keys[:turns] * len(keys))[: len(keys)]:
            continue
        steps = np.lib.stride_tricks.sliding_window_view(gaps, turns).sum(axis=1)
        even = np.abs(steps - np.median(steps)).max() <= _UNEVEN * np.median(steps)
        if len(set(keys[:turns])) == turns and even and (name not in _ALSO_PASSES or _states(order, steps[0], gaps)):
            return _grouped(order, keys, lambda key, chosen=name: _name((chosen,), key))
    return None


def _states(slices: list[Slice], step_mm: float, gaps: Vector) -> bool:
    """Tell whether the distance that the slices state is nearer to one step than to the gaps between them."""
    for name in ("SpacingBetweenSlices", "SliceThickness"):
        stated = _number(str(slices[0].tags[name]))
        if stated:
            return abs(stated - step_mm) < abs(stated - float(np.median(gaps)))
    return False


def _sets_of(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Sets of attributes to try, single ones first."""
    for count in range(1, _MOST_ATTRIBUTES + 1):
        yield from combinations(names, count)


def _are_phases(keys: Sequence[Hashable], positions: Sequence[Hashable], most: int) -> bool:
    """Tell whether keys split slices into phases: no position twice in one, and no phase of stray slices."""
    if len(set(zip(keys, positions, strict=True))) < len(keys):
        return False
    sizes = Counter(keys).values()
    return len(sizes) == most and (min(sizes) > 1 or max(sizes) == 1)


def _ranks(slices: list[Slice], positions: list[int], name: str) -> list[Hashable] | None:
    """Number the slices at each position by a time; None where a time is missing."""
    times = [_number(s.phase.get(name, "")) for s in slices]
    if None in times:
        return None
    order = sorted(range(len(slices)), key=lambda k: times[k] or 0.0)
    met: dict[int, int] = defaultdict(int)
    ranks: list[Hashable] = [0] * len(slices)
    for k in order:
        ranks[k] = met[positions[k]]
        met[positions[k]] += 1
    return ranks


def _grouped(slices: list[Slice], keys: Sequence[Hashable], name: Callable[..., str]) -> list[tuple[str, list[Slice]]]:
    groups: dict[Hashable, list[Slice]] = defaultdict(list)
    for key, image in zip(keys, slices, strict=True):
        groups[key].append(image)
    return [(name(key), groups[key]) for key in sorted(groups, key=_order)]


def _order(key: Hashable) -> list[tuple[float, str]]:
    """Order texts that are numbers by size, others by letter."""
    texts = key if isinstance(key, tuple) else (str(key),)
    numbers = [_number(text) for text in texts]
    return [(np.inf if n is None else n, text) for n, text in zip(numbers, texts, strict=True)]


def _name(names: Iterable[str], values: Iterable[str]) -> str:
    return ", ".join(f"{name} {value or 'empty'}" for name, value in zip(names, values, strict=True))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _positions(slices: list[Slice]) -> list[int]:
    """Number the positions of slices along their normal; each slice that cannot be placed has a number of its own."""
    normals: list[Vector] = []
    heights = np.array([_height(s, normals) for s in slices])
    order = np.argsort(heights, kind="stable")
    steps = np.diff(heights[order], prepend=-np.inf)
    numbers = np.empty(len(slices), int)
    numbers[order] = np.cumsum(~(steps < _SAME_POSITION_MM))  # NaN, of slices without a place, is a step too
    return [int(number) for number in numbers]


def _height(image: Slice, normals: list[Vector]) -> float:
    """Return the height of a slice along the first normal that nearly is its own, in mm, apart from other normals'."""
    try:
        along_row, along_column = np.array([float(v) for v in image.tags["ImageOrientationPatient"]]).reshape(2, 3)
        position = np.array([float(v) for v in image.tags["ImagePositionPatient"]]).reshape(3)
    except (TypeError, ValueError):
        return float("nan")
    normal = np.cross(along_row, along_column)
    near = [k for k, other in enumerate(normals) if np.abs(other - normal).max() < _SAME_NORMAL]
    if not near:
        normals.append(normal)
        near = [len(normals) - 1]
    return float(normals[near[0]] @ position) + near[0] * _APART_MM


def _place(image: Slice) -> str:
    return f"{image.tags['ImagePositionPatient']} {image.tags['ImageOrientationPatient']}"
