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
from fullscale.metrics.overlap import Scores, class_index

SLICES = ("slices", "slices_without_structure", "false_positive_slices", "false_positive_slices_ml")
"""Of one class in one case: all slices, those without the structure, those of them that got some, and how much."""


def slice_voxels(volume: Volume, labels: Sequence[int]) -> npt.NDArray[np.intp]:
    """Count the voxels `[S, labels]` of each label in each slice, from feet to head."""
    array = reorient(volume, "RAS").array
    classes = np.unique(labels)
    columns = np.searchsorted(classes, labels)
    counts = np.zeros((array.shape[2], len(classes) + 1), dtype=np.intp)
    for s in range(array.shape[2]):
        plane = array[:, :, s]
        counts[s] = np.bincount(class_index(plane[plane != 0], classes), minlength=len(classes) + 1)
    return counts[:, columns]


def slice_scores(prediction: Volume, reference: Volume, labels: Sequence[int]) -> dict[int, Scores]:
    """Count for each label the slices without the structure, and what the prediction holds of it there.

    Args:
        prediction: label map.
        reference: the truth, on the same grid.
        labels: values of the classes.

    Returns:
        For each label the counts named in `SLICES`.
    """
    if not labels:
        return {}
    found, real = slice_voxels(prediction, labels), slice_voxels(reference, labels)
    scores: dict[int, Scores] = {}
    for k, label in enumerate(labels):
        without = real[:, k] == 0
        invented = found[without, k]
        numbers = (
            *(len(real), int(without.sum()), int((invented > 0).sum())),
            float(invented.sum() * reference.voxel_ml),
        )
        scores[label] = dict(zip(SLICES, numbers, strict=True))
    return scores


def unscored_slices(reference: Volume) -> Scores:
    """What a class counts on a grid where neither the truth nor the prediction holds it."""
    slices = reference.shape[reorientation(reference.affine).axes[2]]
    return dict(zip(SLICES, (slices, slices, 0, 0.0), strict=True))
