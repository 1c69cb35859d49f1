"""Slices without a structure: how many of them got voxels of it, and how much.

The paper's reason for its classification-guided module is over-segmentation in slices that hold no structure. Slices
lie across the axis closest to head-foot, from feet to head, as the networks see them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fullscale.geometry.orientation import reorient, reorientation
from fullscale.geometry.volume import Volume
from fullscale.metrics.overlap import Members, Scores, class_index, members_of

SLICES = ("slices", "slices_without_structure", "false_positive_slices", "false_positive_slices_ml")
"""Of one class in one case: all slices, those without the structure, those of them that got some, and how much.

A slice of which a part is not known is without the structure for nobody: it is none of these but the first."""


def slice_voxels(volume: Volume, labels: Sequence[int], members: Members | None = None) -> npt.NDArray[np.intp]:
    """Count the voxels `[S, labels]` of each label in each slice, from feet to head."""
    array = reorient(volume, "RAS").array
    parts = members_of(labels, members)
    classes = np.unique([value for part in parts for value in part])
    columns = [np.searchsorted(classes, part) for part in parts]
    counts = np.zeros((array.shape[2], len(classes) + 1), dtype=np.intp)
    for s in range(array.shape[2]):
        plane = array[:, :, s]
        counts[s] = np.bincount(class_index(plane[plane != 0], classes), minlength=len(classes) + 1)
    return np.stack([counts[:, part].sum(axis=1) for part in columns], axis=1)


def known_slices(reference: Volume, ignored: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_]:
    """Say of each slice, from feet to head, whether every voxel of it is known, `[S]`."""
    if ignored is None:
        return np.ones(_number_of_slices(reference), dtype=bool)
    return np.logical_not(reorient(reference.with_array(ignored), "RAS").array.any(axis=(0, 1)))


def slice_scores(
    prediction: Volume,
    reference: Volume,
    labels: Sequence[int],
    members: Members | None = None,
    ignored: npt.NDArray[np.bool_] | None = None,
) -> dict[int, Scores]:
    """Count for each label the slices without the structure, and what the prediction holds of it there.

    Args:
        prediction: label map.
        reference: the truth, on the same grid.
        labels: values of the classes.
        members: values of the classes that are made of several.
        ignored: voxels of which nothing is known, of the reference's shape.

    Returns:
        For each label the counts named in `SLICES`.
    """
    if not labels:
        return {}
    found, real = slice_voxels(prediction, labels, members), slice_voxels(reference, labels, members)
    known = known_slices(reference, ignored)
    scores: dict[int, Scores] = {}
    for k, label in enumerate(labels):
        without = known & (real[:, k] == 0)
        invented = found[without, k]
        numbers = (
            *(len(real), int(without.sum()), int((invented > 0).sum())),
            float(invented.sum() * reference.voxel_ml),
        )
        scores[label] = dict(zip(SLICES, numbers, strict=True))
    return scores


def unscored_slices(reference: Volume) -> Scores:
    """What a class counts on a grid where neither the truth nor the prediction holds it."""
    slices = _number_of_slices(reference)
    return dict(zip(SLICES, (slices, slices, 0, 0.0), strict=True))


def _number_of_slices(volume: Volume) -> int:
    return volume.shape[reorientation(volume.affine).axes[2]]
