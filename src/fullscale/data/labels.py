"""Label values and the structures they stand for: values that share a name are merged, written as the lowest of them.

So `{1: "liver", 2: "liver"}` counts a liver's tumours as liver, and `{3: "background"}` leaves the label 3 out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fullscale.geometry.volume import Volume

BACKGROUND = {0: "background"}


@dataclass(frozen=True)
class Algorithm:
    """What made a label map.

    Attributes:
        name: such as "fullscale unet3+".
        version: tells one trained model from another.
    """

    name: str
    version: str


def merge_labels(labels: Mapping[int, str]) -> dict[int, int]:
    """Map each label value, in rising order, to the value that its structure is written as."""
    first: dict[str, int] = {}
    for value, name in sorted(labels.items()):
        first.setdefault(name, value)
    return {value: first[name] for value, name in sorted(labels.items())}


def structures_of(labels: Mapping[int, str]) -> dict[int, str]:
    """Name each structure by the value that it is written as; background is none."""
    merged = merge_labels(BACKGROUND | dict(labels))
    return {value: labels[value] for value, written in merged.items() if value == written != 0}


def merge_label_map(mask: Volume, labels: Mapping[int, str]) -> Volume:
    """Write each structure of a label map as one value; values that `labels` does not name stay."""
    moved = {value: to for value, to in merge_labels(BACKGROUND | dict(labels)).items() if value != to}
    if not moved:
        return mask
    array = mask.array.copy()
    for value, to in moved.items():
        array[mask.array == value] = to
    return mask.with_array(array)


def keep_labels(mask: Volume, labels: Mapping[int, str]) -> Volume:
    """Keep the structures that `labels` names, each written as one value; all else becomes background."""
    merged = merge_label_map(mask, labels)
    return merged.with_array(np.where(np.isin(merged.array, list(structures_of(labels))), merged.array, 0))
