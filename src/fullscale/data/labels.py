"""What label values stand for, and how a network's channels stand for them.

`LabelScheme` is the one home of the rule from the values of a label map to the structures they name, to the classes a
network learns, to its channels, and back from channels to a decision and a label map. Values that share a name are
merged, written as the lowest of them: `{1: "liver", 2: "liver"}` counts a liver's tumours as liver, and
`{3: "background"}` leaves the label 3 out. Structures that overlap are regions: sets of values, each with a channel of
its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import and_
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fullscale.errors import DataError, UsageError
from fullscale.geometry.volume import Volume
from fullscale.losses import IGNORED as IGNORED

BACKGROUND = {0: "background"}
MAX_CLASSES = IGNORED
"""Class indices are stored in one byte, whose highest value is taken."""


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
    """The meaning of label values: exclusive structures, or regions that overlap.

    Four words are told apart. A *value* is what a label map holds (0 is background). A *structure* is what is
    segmented: a named value, or a region, which is a set of values. A *class* is what a prepared label map holds: 0 for
    background, then 1, 2, ... for each value that is told apart, in rising order, and `IGNORED`. A *channel* is an
    output of the network: one for a single structure, one for each region, else one for each class, background first.

    Attributes:
        labels: name of each value. Background need not be named; values that share a name are one structure.
        regions: values of each structure where structures may overlap; a sigmoid decides each of them. Where there are
            regions, they alone are structures.
        order: value that each region is written as, one of its own, in the order of the regions (nnU-Net's
            `regions_class_order`). By default the one of its values that is in the fewest regions.
        ignore: value of voxels of which nothing is known, or None.

    Raises:
        UsageError: a region has no values, the values of another or none that can stand for it; the order does not fit;
            or the value to ignore is that of a structure.
    """

    labels: Mapping[int, str]
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    order: tuple[int, ...] = ()
    ignore: int | None = None

    def __post_init__(self) -> None:
        _require_regions(self.regions)
        if self.order or self.regions:
            order = self.order or _default_order(self.regions)
            _require_order(self.regions, order)
            object.__setattr__(self, "order", tuple(order))
        holding = [self.structures[v] for v, values in self.members.items() if self.ignore in values]
        if self.ignore == 0 or holding:
            raise UsageError(
                f"label {self.ignore} is to be ignored, and is {holding[0] if holding else 'background'} as well: give "
                "one of them another value"
            )

    @classmethod
    def of(cls, labels: LabelScheme | Mapping[int, str]) -> LabelScheme:
        """Return a scheme as it is, or that of exclusive structures by value."""
        return labels if isinstance(labels, LabelScheme) else cls(dict(labels))

    @property
    def merged(self) -> dict[int, int]:
        """Each value that is told apart, in rising order, and the value that it is written as; background is 0."""
        if self.regions:
            return {value: value for value in (0, *self.atoms)}
        first: dict[str, int] = {}
        named = sorted((BACKGROUND | dict(self.labels)).items())
        for value, name in named:
            first.setdefault(name, value)
        return {value: first[name] for value, name in named}

    @property
    def structures(self) -> dict[int, str]:
        """The value that each structure is written as, and its name: classes in their order, or regions in theirs."""
        if self.regions:
            return dict(zip(self.order, self.regions, strict=True))
        return {value: self.labels[value] for value, written in self.merged.items() if value == written != 0}

    @property
    def members(self) -> dict[int, tuple[int, ...]]:
        """Every value that each structure is made of, by the value that it is written as."""
        if self.regions:
            return {value: tuple(sorted(self.regions[name])) for value, name in self.structures.items()}
        merged = self.merged
        return {value: tuple(v for v, written in merged.items() if written == value) for value in self.structures}

    @property
    def atoms(self) -> tuple[int, ...]:
        """The value that each class but background is written as, in their order."""
        if self.regions:
            return tuple(sorted({value for values in self.regions.values() for value in values}))
        return tuple(self.structures)

    @property
    def membership(self) -> npt.NDArray[np.bool_]:
        """Whether each structure is made of each class, `[structures, classes]`; none is made of background."""
        return np.array([[False, *(atom in values for atom in self.atoms)] for values in self.members.values()])

    @property
    def classes(self) -> int:
        """Classes that a prepared label map tells apart, background included."""
        return 1 + len(self.atoms)

    @property
    def channels(self) -> int:
        """Channels of the network's logits: one for a single structure or each region, else one for each class."""
        if self.regions:
            return len(self.regions)
        return 1 if self.classes == 2 else self.classes

    @property
    def activation(self) -> Literal["sigmoid", "softmax"]:
        """What turns logits into probabilities: the sigmoid of each channel, or the softmax over all of them."""
        return "sigmoid" if self.regions or self.channels == 1 else "softmax"

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        labels = {str(value): name for value, name in self.labels.items()}
        regions = {name: list(values) for name, values in self.regions.items()}
        return {"labels": labels, "regions": regions, "order": list(self.order), "ignore": self.ignore}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> LabelScheme:
        """Return the scheme that `as_dict` wrote down.

        Raises:
            UsageError: it is none.
        """
        try:
            labels = {int(value): str(name) for value, name in content["labels"].items()}
            regions = {str(name): tuple(map(int, values)) for name, values in content["regions"].items()}
            ignore = content["ignore"]
            return cls(labels, regions, tuple(map(int, content["order"])), None if ignore is None else int(ignore))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UsageError(f"{str(content)[:80]} says nothing of labels") from error

    def targets(self, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Turn label values into class indices of the same shape; values without a name become background.

        Raises:
            DataError: there are more classes than one byte counts.
        """
        if self.classes > MAX_CLASSES:
            raise DataError(f"{self.classes - 1} structures are named: expected at most {MAX_CLASSES - 1}")
        order = [0, *self.atoms]
        classes = np.zeros(values.shape, dtype=np.uint8)
        for value, written in self.merged.items():
            if written != 0:
                classes[values == value] = order.index(written)
        if self.ignore is not None:
            classes[values == self.ignore] = IGNORED
        return classes

    def values(self, classes: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Turn class indices into label values, in the smallest unsigned type that holds them."""
        table = np.array([0, *self.atoms])
        if (table == np.arange(len(table))).all():
            return classes
        found: npt.NDArray[Any] = table.astype(np.min_scalar_type(table.max()))[classes]
        return found

    def decide(self, logits: Any) -> Any:
        """Turn logits `[B, channels, ...]` (NumPy or torch) into class indices `[B, ...]`.

        A structure alone is there above a logit of 0; of several classes the highest logit wins, the first of equals.
        Regions are there above 0 each. Where a value has just the regions that are there, its class is taken. Where
        none has, as of a core outside of its whole, each region writes its own value over those before it.
        """
        return self._decide(logits, 0.0)

    def decide_probabilities(self, probabilities: Any) -> Any:
        """Turn probabilities of the channels `[B, channels, ...]` (NumPy or torch) into class indices `[B, ...]`."""
        return self._decide(probabilities, 0.5)

    def decide_present(self, present: Any) -> Any:
        """Turn what is there, 0 or 1 of each channel `[B, channels, ...]`, into class indices of the same type."""
        return self._decide_regions(present) if self.regions else present[:, 0]

    def of_structures(self, channels: Any) -> Any:
        """Keep of `[B, channels, ...]` what stands for structures, in their order: background has no entry."""
        return channels[:, 1:] if self.activation == "softmax" else channels

    def without(self, value: int) -> dict[int, int]:
        """Say what each value becomes where a structure is taken out of a mask.

        It is background. Of regions it is the value with the most of those that are left: a region that lies within the
        one that is taken out goes with it.

        Args:
            value: that the structure is written as.
        """
        if not self.regions:
            return dict.fromkeys(self.members[value], 0)
        taken = set(self.members[value])
        gone = {written for written, values in self.members.items() if taken.issuperset(values)}
        held = {
            atom: {w for w, values in self.members.items() if atom in values} for atom in (*self.order, *self.atoms)
        }
        left = {atom: {w for w in regions if w not in gone} for atom, regions in held.items()}
        return {
            atom: max((a for a in held if held[a] <= left[atom]), key=lambda a: len(held[a]), default=0)
            for atom in sorted(taken)
        }

    def ignoring(self, value: int | None) -> LabelScheme:
        """Ignore a value, as a data set says, unless the scheme ignores another or the value has a name in it."""
        named = self.ignore is not None or value in self.merged
        return self if named else replace(self, ignore=value)

    def unknown(self, labelled: Iterable[str] | None) -> tuple[int, ...]:
        """Return the indices of the structures that are not among those drawn in a case; None means that all are."""
        drawn = set(self.structures.values() if labelled is None else labelled)
        return tuple(k for k, name in enumerate(self.structures.values()) if name not in drawn)

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
        return merged.with_array(np.where(np.isin(merged.array, self.atoms), merged.array, 0))

    def voxels(self, values: npt.NDArray[Any]) -> dict[str, int]:
        """Count the voxels of each structure in a label map in which each structure is written as one value."""
        counts = {atom: int((values == atom).sum()) for atom in self.atoms}
        return {
            self.structures[written]: sum(counts.get(value, 0) for value in members)
            for written, members in self.members.items()
        }

    def agrees_with(self, other: LabelScheme) -> bool:
        """Whether networks of both schemes learn the same channels, and write them as the same values."""
        same_names = list(self.structures.items()) == list(other.structures.items())
        return same_names and self.merged == other.merged and self.members == other.members

    def _decide(self, scores: Any, threshold: float) -> Any:
        if self.regions:
            return self._decide_regions(scores > threshold)
        if self.channels == 1:
            return scores[:, 0] > threshold
        if isinstance(scores, np.ndarray):
            return scores.argmax(1)
        return scores.max(1).indices  # the first of equals too, and five times as fast as torch's argmax on a CPU

    def _decide_regions(self, present: Any) -> Any:
        """Turn `[B, regions, ...]`, which are there, into class indices `[B, ...]`."""
        own = [1 + self.atoms.index(value) for value in self.order]
        classes = present[:, 0] * 0
        for channel, number in enumerate(own):
            classes = classes + present[:, channel] * (number - classes)
        sets: dict[tuple[bool, ...], int] = {}
        for number in (*own, *range(1, self.classes)):
            sets.setdefault(tuple(self.membership[:, number].tolist()), number)
        for held, number in sets.items():
            last = max(channel for channel, is_held in enumerate(held) if is_held)
            if own[last] != number:  # writing one over the other would say something else than this set
                exactly = reduce(and_, (present[:, channel] == is_held for channel, is_held in enumerate(held)))
                classes = classes + exactly * (number - classes)
        return classes


def _require_regions(regions: Mapping[str, tuple[int, ...]]) -> None:
    seen: dict[frozenset[int], str] = {}
    for name, values in regions.items():
        if not values or min(values) < 1 or name == BACKGROUND[0]:
            raise UsageError(f"region {name!r} is {list(values)}: expected the label values of a structure, from 1 on")
        other = seen.setdefault(frozenset(values), name)
        if other != name:
            raise UsageError(f"regions {other!r} and {name!r} are the same values, {sorted(values)}: leave one out")


def _default_order(regions: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Choose for each region a value of its own: the lowest of those that are in the fewest regions."""
    shared = Counter(value for values in regions.values() for value in set(values))
    taken: dict[str, int] = {}
    for name, values in sorted(regions.items(), key=lambda region: len(set(region[1]))):
        free = sorted(set(values) - set(taken.values()), key=lambda value: (shared[value], value))
        if not free:
            raise UsageError(
                f"region {name!r} has no value of its own to be written as: all of {sorted(values)} stand for others; "
                "leave it out, it is their union"
            )
        taken[name] = free[0]
    return tuple(taken[name] for name in regions)


def _require_order(regions: Mapping[str, tuple[int, ...]], order: tuple[int, ...]) -> None:
    if len(order) != len(regions) or len(set(order)) != len(order):
        raise UsageError(
            f"the order of the regions is {list(order)}: expected {len(regions)} values, one of each of "
            f"{', '.join(regions) or 'no regions'}, all different"
        )
    for value, (name, values) in zip(order, regions.items(), strict=True):
        if value not in values:
            raise UsageError(f"region {name!r} is to be written as {value}: expected one of its values {list(values)}")
