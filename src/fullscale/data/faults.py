"""What speaks against learning from a case, or is odd about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.data.case import WHOLE_SET, Dataset, Problem
from fullscale.data.labels import BACKGROUND
from fullscale.geometry.volume import Volume, describe_mismatch
from fullscale.text import nearest

_MOST_LABELS = 256
_FEW_VALUES = 16
_MOSTLY = 0.995
_COUNTED_RANGE = 1 << 16
_COUNTED_AT_ONCE = 1 << 22


def faults(image: Volume, label: Volume, declared: dict[int, str] | None) -> Iterator[str]:
    """Say why image and label cannot be used together."""
    mismatch = describe_mismatch(image, label)
    if mismatch is not None:
        yield f"image and label lie on different grids: {mismatch}"
    yield from image_faults(image)
    present = sorted(count_labels(label.array))
    if len(present) > _MOST_LABELS:
        yield f"the label map holds {len(present)} different values; is it an image?"
    elif declared is not None and set(present) - set(declared):
        unknown = sorted(set(present) - set(declared))
        yield f"labels {unknown} are not among the declared {sorted(declared)}"
    elif mismatch is None and len(present) > 1 and np.array_equal(image.array, label.array):
        yield "image and label are the same; is the label map given as the scan?"
    elif present[0] < 0:
        yield f"labels {[value for value in present if value < 0]} are negative, expected 0, 1, 2 ..."


def image_faults(image: Volume) -> Iterator[str]:
    """Say why an image cannot be used, whatever its label."""
    if image.array.dtype.kind == "f":
        broken = int(image.array.size - np.isfinite(image.array).sum())
        if broken:
            yield f"{broken} of {image.array.size} voxels of the image are NaN or infinite; repair the file"
    if image.array.min() == image.array.max():
        yield f"every voxel of the image is {image.array.flat[0]:g}: there is nothing to see"


def oddities(image: Volume) -> Iterator[str]:
    """Say what is unusual about an image that can still be used."""
    zeros = 1 - np.count_nonzero(image.array) / image.array.size
    if zeros > _MOSTLY:
        yield f"{100 * zeros:.1f} % of the voxels of the image are 0"
    values = _few_values(image.array)
    if values:
        yield f"the image holds {len(values)} different values only ({', '.join(values[:5])} ...); is it a label map?"
    if min(image.shape) == 1 and image.unit == "mm":
        yield f"the scan has one slice only (shape {image.shape})"


def unknown_structures(dataset: Dataset, chosen: Iterable[str]) -> Iterator[Problem]:
    """Say which cases are labelled for a structure that does not exist; they cannot be used.

    Args:
        dataset: with the structures that it declares.
        chosen: names of the structures that are segmented.
    """
    known = {*(dataset.labels or {}).values(), *dataset.regions, *chosen} - {BACKGROUND[0]}
    for case in dataset.cases:
        strange = next((name for name in case.labelled or () if name not in known), None)
        if strange is not None and known:
            yield Problem(
                case.id, f"is labelled for '{strange}', which is no structure of the data set{nearest(strange, known)}"
            )
        elif strange is not None:
            remedy = f"name the labels, as in data.labels={{1: {strange}}}"
            yield Problem(case.id, f"is labelled for '{strange}', but no structure has a name: {remedy}")


def absent_labels(labels: dict[int, str], present: set[int]) -> list[Problem]:
    """Say which declared labels appear in no case."""
    absent = [f"{value} ({name})" for value, name in labels.items() if value not in present]
    return [Problem(WHOLE_SET, f"label {text} is declared but appears in no case", "warning") for text in absent]


def count_labels(labels: npt.NDArray[Any]) -> dict[int, int]:
    """Count the voxels of each value of an integer array."""
    flat = labels.ravel(order="K")
    low, high = int(flat.min()), int(flat.max())
    if high - low > _COUNTED_RANGE:
        values, counts = np.unique(flat, return_counts=True)
        return dict(zip(values.tolist(), counts.tolist(), strict=True))
    total = np.zeros(high - low + 1, np.int64)
    for start in range(0, flat.size, _COUNTED_AT_ONCE):
        part = flat[start : start + _COUNTED_AT_ONCE].astype(np.int64)
        total += np.bincount(part - low, minlength=total.size)
    return {low + int(k): int(total[k]) for k in np.flatnonzero(total)}


def _few_values(image: npt.NDArray[Any]) -> list[str]:
    """Return the values of an image that holds few different ones; empty where there are more."""
    sample = np.unique(image.ravel(order="K")[:: max(1, image.size // _COUNTED_RANGE)])
    if sample.size > _FEW_VALUES:
        return []
    values = np.unique(image)
    return [f"{value:g}" for value in values] if values.size <= _FEW_VALUES else []
