"""Labels as one file a structure, named after it: `segmentations/liver.nii.gz`, as TotalSegmentator writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fullscale.data.case import Case
from fullscale.data.image_files import is_picture
from fullscale.data.labels import LabelScheme
from fullscale.data.overlaps import label_map, values_by_structures
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


def structures_of(case: Case) -> dict[str, Path]:
    """Return the file of each structure of a case, in the order of names; empty where its label is one map.

    Raises:
        DataError: two files of a folder are called after one structure.
    """
    if case.structures or case.label is None or case.empty:
        return dict(sorted(case.structures.items()))
    return structure_files(case.label)


def read_structures(
    files: Mapping[str, Path], scheme: LabelScheme | None, read: Callable[[Path], Volume], source: str = ""
) -> Volume:
    """Read one file a structure as a label map.

    Args:
        files: of the structures, by their names; their voxels are 0, and one other number inside.
        scheme: the values of the structures, by their names; files of other names are not read. By default the
            structures have the values 1, 2, ... in the order of their names.
        read: reads one file as whole numbers.
        source: where they are from, which begins the message of an error.

    Raises:
        DataError: a file cannot be read or holds several structures, two of them overlap, or none is there.
        GeometryError: two files lie on different grids.
    """
    if scheme is None or not scheme.structures:
        scheme = LabelScheme(dict(enumerate(files, start=1)))
    values = values_by_structures(scheme)
    names = set().union(*values)
    wanted = {name: file for name, file in files.items() if name in names}
    if not wanted:
        raise DataError(f"{source}holds no file of {', '.join(sorted(names))}; it has {', '.join(files)}")
    first = _read_mask(next(iter(wanted.values())), read)
    return first.with_array(label_map(_masks(wanted, first, read), first.shape, values, source))


def _masks(
    files: Mapping[str, Path], first: Volume, read: Callable[[Path], Volume]
) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Read the masks of structures one after the other, each on the grid of the first."""
    for number, (name, file) in enumerate(files.items()):
        mask = _read_mask(file, read) if number else first
        require_same_grid(first, mask, f"{next(iter(files.values()))} and {file.name}")
        yield name, mask.array != 0


def _read_mask(file: Path, read: Callable[[Path], Volume]) -> Volume:
    mask = read(file)
    inside = np.unique(mask.array[mask.array != 0])
    if inside.size > 1:
        listed = ", ".join(map(str, inside[:5]))
        raise DataError(f"{file}: holds the labels {listed}, expected one structure alone, as 1")
    return mask
