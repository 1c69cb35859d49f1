"""Pure functions that move voxels between grids: reorient, resize, and the way back.

A grid is resized edge to edge: the first and the last voxel keep their outer faces where they were, so the spacing
becomes `old * n_old / n_new` exactly and nothing shifts by half a voxel. This is the convention of
`torch.nn.functional.interpolate(align_corners=False)`, which takes logits back to the scan's own grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.errors import UsageError
from fullscale.geometry.volume import Affine, Volume

AXIS_CODES = (("L", "R"), ("P", "A"), ("I", "S"))
"""For each world axis the letter of its negative and of its positive end (RAS+)."""


@dataclass(frozen=True)
class Reorientation:
    """A permutation of axes followed by flips: no voxel changes its value, and it can be undone.

    Attributes:
        axes: for each new axis, the old axis it shows.
        flips: for each new axis, whether it runs the other way.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def apply(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Take an array `[X, Y, Z]` to the new axes (a view, not a copy)."""
        return np.transpose(array, self.axes)[self._flip()]

    def undo(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Take an array on the new axes back to the old ones (a view, not a copy)."""
        return np.transpose(array[self._flip()], np.argsort(self.axes))

    def apply_affine(self, affine: Affine, shape: tuple[int, int, int]) -> Affine:
        """The affine of the reoriented array, given the old affine and the old shape."""
        to_old = np.zeros((4, 4))
        to_old[3, 3] = 1.0
        for new, (old, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            to_old[old, new] = -1.0 if flip else 1.0
            to_old[old, 3] = shape[old] - 1 if flip else 0.0
        return affine @ to_old

    def _flip(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1) if flip else slice(None) for flip in self.flips)


def axis_codes(affine: Affine) -> str:
    """Name the direction in which each voxel axis runs, such as `"RAS"` or `"LPS"`.

    Each voxel axis gets the patient axis it is closest to; of an oblique grid the assignment is the one of the six
    that fits best as a whole, so that no patient axis is named twice.
    """
    world, positive = _closest_axes(affine)
    return "".join(AXIS_CODES[axis][up] for axis, up in zip(world, positive, strict=True))


def reorientation(affine: Affine, codes: str = "RAS") -> Reorientation:
    """Find the permutation and the flips that bring a grid to the orientation `codes`.

    Raises:
        UsageError: `codes` is not three letters that name the three axes once each.
    """
    wanted = _parse_codes(codes)
    world, positive = _closest_axes(affine)
    axes = [world.index(axis) for axis, _ in wanted]
    flips = [positive[old] != up for old, (_, up) in zip(axes, wanted, strict=True)]
    return Reorientation((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))


def reorient(volume: Volume, codes: str = "RAS") -> Volume:
    """Bring a volume to the orientation `codes` by permuting and flipping axes; voxel values stay as they are.

    The result has no header, since a file's header describes the grid it was stored on.
    """
    change = reorientation(volume.affine, codes)
    return Volume(change.apply(volume.array), change.apply_affine(volume.affine, volume.shape), unit=volume.unit)


def _closest_axes(affine: Affine) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    world = max(permutations(range(3)), key=lambda p: sum(abs(directions[p[voxel], voxel]) for voxel in range(3)))
    return world, tuple(bool(directions[world[voxel], voxel] > 0) for voxel in range(3))


def _parse_codes(codes: str) -> list[tuple[int, bool]]:
    letters = {letter: (axis, up == 1) for axis, pair in enumerate(AXIS_CODES) for up, letter in enumerate(pair)}
    wanted = [letters[letter] for letter in codes if letter in letters]
    if len(codes) != 3 or {axis for axis, _ in wanted} != {0, 1, 2}:
        raise UsageError(f"orientation {codes!r} is not one of L/R, P/A and I/S each once, such as 'RAS'")
    return wanted
