"""Bringing voxels to another grid."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fullscale.errors import GeometryError
from fullscale.geometry.volume import Volume


def resize_slices(slices: npt.NDArray[np.float32], shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Resize each slice of `[S, H, W]` to `shape`, linearly; the kernel widens when shrinking, against aliasing."""
    if slices.shape[1:] == shape:
        return slices
    rows = interpolation_matrix(slices.shape[1], shape[0])
    columns = interpolation_matrix(slices.shape[2], shape[1])
    return np.asarray(rows @ slices @ columns.T, dtype=np.float32)


def resize_volume(slices: npt.NDArray[np.float32], shape: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """Resize `[S, H, W]` to `shape`: each slice, and then across slices where their number changes."""
    resized = resize_slices(slices, shape[1:])
    if len(resized) == shape[0]:
        return resized
    across = interpolation_matrix(len(resized), shape[0])
    return np.asarray(np.tensordot(across, resized, axes=1), dtype=np.float32)


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


def resize_label_volume(labels: npt.NDArray[np.uint8], shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """Resize labels `[S, H, W]` to `shape`: each new voxel takes the label that covers most of it.

    Of labels that cover as much, the lowest. No label is invented.
    """
    if len(labels) == shape[0]:
        return resize_label_slices(labels, shape[1:])
    resized, most = np.zeros(shape, dtype=np.uint8), np.full(shape, -1, dtype=np.float32)
    for value in np.unique(labels):
        cover = resize_volume((labels == value).astype(np.float32), shape)
        more = cover > most
        resized[more], most[more] = value, cover[more]
    return resized


def resample_labels(mask: Volume, like: Volume) -> Volume:
    """Bring a label map onto another grid: each new voxel takes the label at its centre, 0 outside the mask's grid.

    No label is invented, whatever the two grids' orientations and spacings; detail finer than the new grid is lost.
    """
    from scipy import ndimage  # not needed where a scan is segmented on its own grid, which starts the sooner

    to_mask = np.linalg.inv(mask.affine) @ like.affine
    array = ndimage.affine_transform(
        mask.array, to_mask[:3, :3], to_mask[:3, 3], output_shape=like.shape, order=0, mode="grid-constant", cval=0
    )
    return Volume(array, like.affine, unit=like.unit)


def resample_image(image: Volume, like: Volume) -> Volume:
    """Bring an image onto another grid by linear interpolation; outside its own grid it has its lowest value.

    Raises:
        GeometryError: no voxel of the other grid lies on it.
    """
    from scipy import ndimage

    to_image = np.linalg.inv(image.affine) @ like.affine
    inside = ndimage.affine_transform(
        np.ones(image.shape, np.uint8), to_image[:3, :3], to_image[:3, 3], output_shape=like.shape, order=0, cval=0
    )
    if not inside.any():
        raise GeometryError("the two grids have no place in common; are they of one patient, and of one session?")
    array = ndimage.affine_transform(
        image.array.astype(np.float32),
        *(to_image[:3, :3], to_image[:3, 3]),
        output_shape=like.shape,
        order=1,
        cval=float(image.array.min()),
    )
    return Volume(array, like.affine, notes=image.notes)


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
