"""Masks of structures, one by one, become a label map: each voxel by the set of structures that it is in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.data.labels import LabelScheme
from fullscale.errors import DataError

Structures = frozenset[str]


def values_by_structures(scheme: LabelScheme) -> dict[Structures, int]:
    """Return the label value of each set of structures that a voxel may be in, by their names."""
    values = {frozenset[str](): 0}
    for atom in (*scheme.order, *scheme.atoms):
        held = frozenset(name for written, name in scheme.structures.items() if atom in scheme.members[written])
        values.setdefault(held, atom)
    return values


def unique_names(names: Mapping[int, str]) -> dict[int, str]:
    """Return the names of segments; those of one name are told apart by their numbers."""
    count = Counter(names.values())
    return {number: name if count[name] == 1 else f"{name} (segment {number})" for number, name in names.items()}


def values_of_segments(
    names: Mapping[int, str], scheme: LabelScheme | None, by_name: bool = False
) -> dict[Structures, int]:
    """Return the label value of each set of segments: what regions of their names say, else of one alone its number.

    Args:
        names: of the segments, by their numbers; no name twice.
        scheme: whose regions say what segments of their names are; None says nothing of it.
        by_name: the scheme has a value for each name, whatever its number is here; other segments are background.
    """
    if by_name and scheme is not None:
        known = values_by_structures(scheme)
        held = set().union(*known)
        return known | {frozenset([name]): 0 for name in names.values() if name not in held}
    numbers = {frozenset([name]): number for number, name in names.items()}
    return numbers | (values_by_structures(scheme) if scheme is not None and scheme.regions else {frozenset(): 0})


def label_map(
    masks: Iterable[tuple[str, npt.NDArray[np.bool_]]],
    shape: Sequence[int],
    values: Mapping[Structures, int],
    source: str = "",
) -> npt.NDArray[Any]:
    """Write masks of structures as one label map.

    Args:
        masks: name of each structure, and where it is, bool of `shape`; no name twice.
        shape: of the label map.
        values: label value of each set of structures that a voxel may be in.
        source: where the masks are from, which begins the message of an error.

    Returns:
        Label values of `shape`, in the smallest unsigned type that holds them.

    Raises:
        DataError: voxels are in a set of structures that has no value; both are told, by names and by number.
    """
    sets: list[Structures] = [frozenset()]
    index = np.zeros(shape, np.uint16)
    for name, inside in masks:
        _enter(name, inside, index, sets)
    for number, held in enumerate(sets):
        voxels = 0 if held in values else int((index == number).sum())
        if voxels:
            raise DataError(f"{source}{voxels} voxels {_conflict(sorted(held), max(map(len, values)) > 1)}")
    table = np.array([values.get(held, 0) for held in sets])
    written: npt.NDArray[Any] = table.astype(np.min_scalar_type(int(table.max())))[index]
    return written


def _enter(name: str, inside: npt.NDArray[np.bool_], index: npt.NDArray[np.uint16], sets: list[Structures]) -> None:
    """Move the voxels of a structure from the sets that they are in by now to those that have it too."""
    before = index[inside]
    moved = np.arange(len(sets), dtype=np.uint16)
    for number in np.unique(before):
        joined = sets[number] | {name}
        if joined not in sets:
            sets.append(joined)
        moved[number] = sets.index(joined)
    index[inside] = moved[before]


def _conflict(held: list[str], overlap: bool) -> str:
    """Say what is wrong with a set of structures, where others may or may not overlap."""
    names = " and ".join(f"'{name}'" for name in held)
    if overlap:
        return f"are in {names} and nothing else, which no label value of the regions stands for; correct the masks"
    regions = ", ".join(f"{name}: [{number}, {len(held) + 1}]" for number, name in enumerate(held, start=1))
    return (
        f"are in {names}, where structures are exclusive; correct the masks, or let structures overlap by "
        f"data.regions={{{regions}}}"
    )
