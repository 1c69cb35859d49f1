"""Labels as one file a structure, named after it: `segmentations/liver.nii.gz`, as TotalSegmentator writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.data.image_files import is_picture
from fullscale.data.labels import LabelScheme
from fullscale.data.volume_files import volume_stem, volume_suffix
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume, require_same_grid


def structure_files(folder: Path) -> dict[str, Path]:
    """Return the volume file of each structure in a folder, in the order of names; empty where it holds none.

    Raises:
        DataError: two files are called after one structure.
    """
    if not folder.is_dir():
        return {}
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        volume = volume_suffix(file) is not None and not is_picture(file)  # CHAOS has folders of PNG masks
        if not volume or not file.is_file() or file.name.startswith("."):
            continue
        other = found.setdefault(volume_stem(file), file)
        if other != file:
            raise DataError(f"{folder}: {other.name} and {file.name} are both called after one structure; remove one")
    return found


def read_structures(folder: Path, scheme: LabelScheme | None, read: Callable[[Path], Volume]) -> Volume:
    """Read a folder of one file a structure as a label map.

    Args:
        folder: whose files are called after structures; their voxels are 0, and one other number inside.
        scheme: the values of the structures, by their names; files of other names are not read. By default the
            structures have the values 1, 2, ... in the order of their names.
        read: reads one file as whole numbers.

    Raises:
        DataError: a file cannot be read or holds several structures, two of them overlap, or none is there.
        GeometryError: two files lie on different grids.
    """
    files = structure_files(folder)
    if scheme is None or not scheme.structures:
        scheme = LabelScheme(dict(enumerate(files, start=1)))
    values = _values(scheme)
    names = set().union(*values)
    wanted = {name: file for name, file in files.items() if name in names}
    if not wanted:
        raise DataError(f"{folder}: holds no file of {', '.join(sorted(names))}; it has {', '.join(files)}")
    index, sets = _sets_of(wanted, read)
    for number, held in enumerate(sets):
        if held not in values:
            raise DataError(f"{folder}: {_conflict(held, int((index.array == number).sum()))}")
    table = np.array([values[held] for held in sets])
    return index.with_array(table.astype(np.min_scalar_type(int(table.max())))[index.array])


def _values(scheme: LabelScheme) -> dict[frozenset[str], int]:
    """Return the label value of each set of structures that a voxel may be in."""
    return {frozenset(): 0} | {frozenset([name]): value for value, name in scheme.structures.items()}


def _sets_of(files: Mapping[str, Path], read: Callable[[Path], Volume]) -> tuple[Volume, list[frozenset[str]]]:
    """Number the sets of structures that voxels are in: the number of each voxel's set, and the sets; 0 is in none."""
    sets: list[frozenset[str]] = [frozenset()]
    index: Volume | None = None
    for name, file in files.items():
        mask = _read_mask(file, read)
        if index is None:
            index = mask.with_array(np.zeros(mask.shape, np.uint16))
        require_same_grid(index, mask, f"{next(iter(files.values()))} and {file}")
        _enter(name, mask.array != 0, index.array, sets)
    assert index is not None
    return index, sets


def _read_mask(file: Path, read: Callable[[Path], Volume]) -> Volume:
    mask = read(file)
    inside = np.unique(mask.array[mask.array != 0])
    if inside.size > 1:
        listed = ", ".join(map(str, inside[:5]))
        raise DataError(f"{file}: holds the labels {listed}, expected one structure alone, as 1")
    return mask


def _enter(name: str, inside: npt.NDArray[np.bool_], index: npt.NDArray[Any], sets: list[frozenset[str]]) -> None:
    """Put the voxels of a structure into the set of structures that they are in by now, and into a new one."""
    before = index[inside]
    moved = np.arange(len(sets), dtype=np.uint16)
    for number in np.unique(before):
        joined = sets[number] | {name}
        if joined not in sets:
            sets.append(joined)
        moved[number] = sets.index(joined)
    index[inside] = moved[before]


def _conflict(held: frozenset[str], voxels: int) -> str:
    first, *others = sorted(held)
    return (
        f"'{first}' and '{others[0]}' overlap in {voxels} voxels, where structures are exclusive; correct one of them, "
        "or declare regions"
    )
