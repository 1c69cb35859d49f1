"""Overlap of two label maps, their volumes, and the one table of what an empty mask scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.errors import DataError, GeometryError, UsageError

Scores = dict[str, float | None]
"""Scores by name; None where a score is not defined."""

Members = Mapping[int, Sequence[int]]
"""Every value that a structure is made of, by the value that stands for it; of itself alone where it is not listed."""

_DIAGONAL = math.inf
_EMPTY_MASK_SCORES: dict[tuple[bool, bool], tuple[float | None, ...]] = {
    # (truth holds the structure, prediction does)
    #               Dice  IoU   Precision Recall HD95       ASSD       NSD
    (False, False): (None, None, None, None, None, None, None),
    (False, True): (0.0, 0.0, 0.0, None, _DIAGONAL, _DIAGONAL, 0.0),
    (True, False): (0.0, 0.0, 0.0, 0.0, _DIAGONAL, _DIAGONAL, 0.0),
}
_OVERLAP = ("Dice", "IoU", "Precision", "Recall")
_SURFACE = ("HD95", "ASSD", "NSD")

POLICY = (
    "Every class is scored in every case by itself. If neither the truth nor the prediction holds the class, the case "
    "is not scored for it and counts as a true negative. If only the prediction holds it, Dice, IoU, precision and NSD "
    "are 0, HD95 and ASSD are set to the diagonal of the volume, and recall and the relative volume error are "
    "undefined. If only the truth holds it, the prediction missed it: Dice, IoU, precision, recall and NSD are 0, and "
    "HD95 and ASSD are set to the diagonal of the volume. Means are taken over the cases that are scored; the means of "
    "recall and of the relative volume error, over the cases whose truth holds the class."
)
"""What an empty mask scores, in words."""


@dataclass(frozen=True)
class Counts:
    """Voxels of one class in a prediction and its truth.

    Attributes:
        tp: in both.
        fp: in the prediction only.
        fn: in the truth only.
        tn: in neither.
    """

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def n_pred(self) -> int:
        """Voxels of the prediction."""
        return self.tp + self.fp

    @property
    def n_ref(self) -> int:
        """Voxels of the truth."""
        return self.tp + self.fn

    @property
    def dice(self) -> float | None:
        """Dice coefficient, 0 where one of the two masks is empty; None where both are, see `POLICY`."""
        voxels = self.n_pred + self.n_ref
        return 2 * self.tp / voxels if voxels else None

    def as_scores(self) -> Scores:
        """The counts by their names in summary.json."""
        counts: Scores = {"TP": self.tp, "FP": self.fp, "FN": self.fn, "TN": self.tn}
        return counts | {"n_pred": self.n_pred, "n_ref": self.n_ref}


def overlap_counts(
    prediction: npt.NDArray[Any],
    reference: npt.NDArray[Any],
    labels: Iterable[int],
    members: Members | None = None,
    ignored: npt.NDArray[np.bool_] | None = None,
) -> list[Counts]:
    """Count true and false positives and negatives of every class in one pass.

    Args:
        prediction: label map of any shape, integers or booleans, 0 for background.
        reference: the truth, of the same shape.
        labels: values of the classes, from 1; voxels of any other value belong to none of them.
        members: values of the classes that are made of several, and may overlap.
        ignored: voxels that are left out, of the same shape.

    Returns:
        The counts of each class, in the order of `labels`.

    Raises:
        GeometryError: the shapes differ.
        DataError: an array does not hold whole numbers.
        UsageError: a label is below 1.
    """
    wanted = [int(label) for label in labels]
    _require_comparable(prediction, reference, wanted)
    if not wanted:
        return []
    parts = members_of(wanted, members)
    classes = np.unique([value for part in parts for value in part])
    table = _confusion(prediction, reference, classes, ignored)
    voxels = prediction.size - (0 if ignored is None else int(np.count_nonzero(ignored)))
    counts = []
    for part in parts:
        k = np.searchsorted(classes, part)
        tp = int(table[np.ix_(k, k)].sum())
        fp, fn = int(table[k].sum()) - tp, int(table[:, k].sum()) - tp
        counts.append(Counts(tp, fp, fn, voxels - tp - fp - fn))
    return counts


def members_of(labels: Iterable[int], members: Members | None) -> list[Sequence[int]]:
    """List the values that each class is made of."""
    return [(members or {}).get(label, (label,)) for label in labels]


def is_of(array: npt.NDArray[Any], values: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Say which voxels of a label map have one of these values."""
    inside: npt.NDArray[np.bool_] = array == values[0] if len(values) == 1 else np.isin(array, values)
    return inside


def overlap_scores(counts: Counts) -> Scores:
    """Dice, IoU, precision and recall of two masks of which neither is empty."""
    return {
        "Dice": counts.dice,
        "IoU": counts.tp / (counts.tp + counts.fp + counts.fn),
        "Precision": counts.tp / counts.n_pred,
        "Recall": counts.tp / counts.n_ref,
    }


def empty_mask_scores(counts: Counts, diagonal_mm: float, surface: bool = True) -> Scores | None:
    """Look up what two masks score of which at least one is empty; None where neither is.

    Args:
        counts: of one class.
        diagonal_mm: what a distance is set to where there is nothing to measure to.
        surface: whether HD95, ASSD and NSD are wanted.
    """
    row = _EMPTY_MASK_SCORES.get((counts.n_ref > 0, counts.n_pred > 0))
    if row is None:
        return None
    names = _OVERLAP + _SURFACE if surface else _OVERLAP
    scores = zip(names, row[: len(names)], strict=True)
    return {name: diagonal_mm if score == _DIAGONAL else score for name, score in scores}


def volume_scores(counts: Counts, voxel_ml: float) -> Scores:
    """Volumes in ml and the error of the predicted one, signed, as an amount, and in percent of the true one.

    The errors are None where both masks are empty, the relative one also where the truth is.
    """
    scored, has_structure = counts.n_pred + counts.n_ref > 0, counts.n_ref > 0
    difference = counts.n_pred - counts.n_ref
    return {
        "volume_ml": counts.n_pred * voxel_ml,
        "reference_volume_ml": counts.n_ref * voxel_ml,
        "volume_error_ml": difference * voxel_ml if scored else None,
        "absolute_volume_error_ml": abs(difference) * voxel_ml if scored else None,
        "volume_error_percent": 100 * difference / counts.n_ref if has_structure else None,
    }


def unscored(voxels: int) -> Scores:
    """What a class scores in a volume of so many voxels where neither the truth nor the prediction holds it."""
    counts = Counts(0, 0, 0, voxels)
    return (empty_mask_scores(counts, 0.0) or {}) | counts.as_scores() | volume_scores(counts, 0.0)


def class_index(values: npt.NDArray[Any], classes: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Return the place of each value among the sorted `classes`; a value that is none of them gets their number."""
    values = values.astype(np.int64)
    index = np.minimum(np.searchsorted(classes, values), len(classes) - 1)
    return np.where(classes[index] == values, index, len(classes))


def _require_comparable(prediction: npt.NDArray[Any], reference: npt.NDArray[Any], labels: list[int]) -> None:
    if prediction.shape != reference.shape:
        raise GeometryError(f"a prediction of shape {prediction.shape} and a truth of shape {reference.shape}")
    for name, array in (("prediction", prediction), ("truth", reference)):
        if array.dtype.kind not in "biu":
            raise DataError(f"the {name} holds {array.dtype}, labels are whole numbers; threshold it first")
    if any(label < 1 for label in labels):
        raise UsageError(f"the labels to score are {labels}, expected values from 1; 0 is the background")


def _confusion(
    prediction: npt.NDArray[Any],
    reference: npt.NDArray[Any],
    classes: npt.NDArray[Any],
    ignored: npt.NDArray[np.bool_] | None,
) -> npt.NDArray[np.intp]:
    """Count voxels by predicted and true class; the last row and column stand for every other value.

    Voxels that are background in both are left out.
    """
    either = (prediction != 0) | (reference != 0)
    if ignored is not None:
        either &= ~ignored
    n = len(classes) + 1
    cells = class_index(prediction[either], classes) * n + class_index(reference[either], classes)
    return np.bincount(cells, minlength=n * n).reshape(n, n)
