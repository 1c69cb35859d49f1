"""Pure functions that move voxels between grids: reorient, resize, and the way back.

A grid is resized edge to edge: the first and the last voxel keep their outer faces where they were, so the spacing
becomes `old * n_old / n_new` exactly and nothing shifts by half a voxel. This is the convention of
`torch.nn.functional.interpolate(align_corners=False)`, which takes logits back to the scan's own grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

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
    return Volume(change.apply(volume.array), change.apply_affine(volume.affine, volume.shape))


def resize_slices(slices: npt.NDArray[np.float32], shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Resize each slice of `[S, H, W]` to `shape`, linearly; the kernel widens when shrinking, against aliasing."""
    if slices.shape[1:] == shape:
        return slices
    rows = interpolation_matrix(slices.shape[1], shape[0])
    columns = interpolation_matrix(slices.shape[2], shape[1])
    return np.asarray(rows @ slices @ columns.T, dtype=np.float32)


def resize_label_slices(labels: npt.NDArray[np.uint8], shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Resize label slices `[S, H, W]`: each new voxel takes the label that covers most of it. No label is invented."""
    if labels.shape[1:] == shape:
        return labels
    resized = np.zeros((len(labels), *shape), dtype=np.uint8)
    for s, label_slice in enumerate(labels):
        values = np.unique(label_slice)
        cover = np.stack([resize_slices((label_slice == v).astype(np.float32)[None], shape)[0] for v in values])
        resized[s] = values[cover.argmax(axis=0)]
    return resized


def resample_labels(mask: Volume, like: Volume) -> Volume:
    """Bring a label map onto another grid: each new voxel takes the label at its centre, 0 outside the mask's grid.

    No label is invented, whatever the two grids' orientations and spacings; detail finer than the new grid is lost.
    """
    to_mask = np.linalg.inv(mask.affine) @ like.affine
    array = ndimage.affine_transform(
        mask.array, to_mask[:3, :3], to_mask[:3, 3], output_shape=like.shape, order=0, mode="grid-constant", cval=0
    )
    return Volume(array, like.affine)


@lru_cache(maxsize=64)
def interpolation_matrix(size: int, new_size: int) -> npt.NDArray[np.float32]:
    """Weights `[new_size, size]` of linear interpolation edge to edge; rows sum to 1.

    When shrinking, the triangle is as wide as the new voxel, so every old voxel counts.
    """
    scale = size / new_size
    centres = (np.arange(new_size) + 0.5) * scale - 0.5
    reach = max(scale, 1.0)
    inside = np.clip(centres, 0, size - 1) if scale < 1 else centres
    weights = np.maximum(0.0, 1.0 - np.abs(np.arange(size)[None] - inside[:, None]) / reach)
    matrix: npt.NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    matrix.setflags(write=False)
    return matrix


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
