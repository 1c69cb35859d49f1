"""What label values stand for, and how a network's channels stand for them.

`LabelScheme` is the one home of the rule from the values of a label map to the structures they name, to the classes a
network learns, to its channels, and back from channels to a decision and a label map. Values that share a name are
merged, written as the lowest of them: `{1: "liver", 2: "liver"}` counts a liver's tumours as liver, and
`{3: "background"}` leaves the label 3 out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fullscale.errors import DataError
from fullscale.geometry.volume import Volume

BACKGROUND = {0: "background"}
MAX_CLASSES = 256
"""Class indices are stored in one byte."""
IGNORED = 255
"""Stands in class indices for a voxel of which nothing is known."""


@dataclass(frozen=True)
class Algorithm:
    """What made a label map.

    Attributes:
        name: such as "fullscale unet3+".
        version: tells one trained model from another.
        members: of an ensemble, what tells each member from another, by its name.
    """

    name: str
    version: str
    members: Mapping[str, str] | None = None


@dataclass(frozen=True)
class LabelScheme:
    """The meaning of label values: exclusive structures, one of which is decided by a sigmoid, several by a softmax.

    Three words are told apart. A *value* is what a label map holds (0 is background). A *class* is what a network
    learns: 0 for background, then 1, 2, ... in the order of the structures' values. A *channel* is an output of the
    network: one for a single structure, else one for each class, background first.

    Attributes:
        labels: name of each value. Background need not be named; values that share a name are one structure.
    """

    labels: Mapping[int, str]

    @property
    def merged(self) -> dict[int, int]:
        """Each named value, in rising order, and the value that its structure is written as; background is 0."""
        first: dict[str, int] = {}
        named = sorted((BACKGROUND | dict(self.labels)).items())
        for value, name in named:
            first.setdefault(name, value)
        return {value: first[name] for value, name in named}

    @property
    def structures(self) -> dict[int, str]:
        """The value that each structure is written as, and its name, in the order of the classes."""
        return {value: self.labels[value] for value, written in self.merged.items() if value == written != 0}

    @property
    def classes(self) -> int:
        """Classes that a network tells apart, background included."""
        return 1 + len(self.structures)

    @property
    def channels(self) -> int:
        """Channels of the network's logits: one for a single structure, else one for each class."""
        return 1 if self.classes == 2 else self.classes

    @property
    def activation(self) -> Literal["sigmoid", "softmax"]:
        """What turns logits into probabilities: the sigmoid of each channel, or the softmax over all of them."""
        return "sigmoid" if self.channels == 1 else "softmax"

    def targets(self, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Turn label values into class indices of the same shape; values without a name become background.

        Raises:
            DataError: there are more classes than one byte counts.
        """
        if self.classes > MAX_CLASSES:
            raise DataError(f"{self.classes - 1} structures are named: expected at most {MAX_CLASSES - 1}")
        order = [0, *self.structures]
        classes = np.zeros(values.shape, dtype=np.uint8)
        for value, written in self.merged.items():
            if written != 0:
                classes[values == value] = order.index(written)
        return classes

    def values(self, classes: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Turn class indices into label values, in the smallest unsigned type that holds them."""
        table = np.array([0, *self.structures])
        found: npt.NDArray[Any] = table.astype(np.min_scalar_type(table.max()))[classes]
        return found

    def decide(self, logits: Any) -> Any:
        """Turn logits `[B, channels, ...]` (NumPy or torch) into class indices `[B, ...]`.

        A structure alone is there above a logit of 0; of several classes the highest logit wins, the first of equals.
        """
        return self._decide(logits, 0.0)

    def decide_probabilities(self, probabilities: Any) -> Any:
        """Turn probabilities of the channels `[B, channels, ...]` (NumPy or torch) into class indices `[B, ...]`."""
        return self._decide(probabilities, 0.5)

    def of_structures(self, channels: Any) -> Any:
        """Keep of `[B, channels, ...]` what stands for structures, in their order: background has no entry."""
        return channels if self.channels == 1 else channels[:, 1:]

    def merge(self, mask: Volume) -> Volume:
        """Write each structure of a label map as one value; values without a name stay."""
        moved = {value: written for value, written in self.merged.items() if value != written}
        if not moved:
            return mask
        array = mask.array.copy()
        for value, written in moved.items():
            array[mask.array == value] = written
        return mask.with_array(array)

    def keep(self, mask: Volume) -> Volume:
        """Keep the named structures of a label map, each written as one value; all else becomes background."""
        merged = self.merge(mask)
        return merged.with_array(np.where(np.isin(merged.array, list(self.structures)), merged.array, 0))

    def agrees_with(self, other: LabelScheme) -> bool:
        """Whether networks of both schemes learn the same classes, and write them as the same values."""
        return self.structures == other.structures and self.merged == other.merged

    def _decide(self, scores: Any, threshold: float) -> Any:
        return scores[:, 0] > threshold if self.channels == 1 else scores.argmax(1)
