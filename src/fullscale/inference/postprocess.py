"""Post-processing of a mask: parts that are left out, holes that are filled, and which of it validation chooses.

A rule looks at the mask as it was decided, never at what another rule made of it, but for holes, which are filled last.
Rules are kept only where they help the cases that no training saw. Everything is computed within the box around a
structure, in a few bytes a voxel of it besides the mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from fullscale.bundle.rules import Evidence, PostprocessRule
from fullscale.data.labels import LabelScheme
from fullscale.errors import UsageError
from fullscale.inference.parts import PartNumbers
from fullscale.metrics.overlap import is_of
from fullscale.metrics.surface import Box, around, boxes_of

MARGIN = 0.001
"""By how much a rule must raise the mean Dice of its structure to be kept."""
FEWEST_CASES = 5
"""Validation cases below which nothing is chosen: a rule that helps two of three cases may do so by chance."""
MINIMUM_ML = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Sizes that `drop_small` is tried with."""


Labels = npt.NDArray[np.integer]


@dataclass(frozen=True)
class CaseMasks:
    """One validation case.

    Attributes:
        prediction: label values `[X, Y, Z]`, as the model decided them.
        truth: label values of the same shape.
        voxel_ml: volume of a voxel.
        ignored: voxels of which nothing is known, of the same shape; the truth is background there.
        unknown: values of the structures that were not drawn.
    """

    prediction: Labels
    truth: Labels
    voxel_ml: float
    ignored: npt.NDArray[np.bool_] | None = None
    unknown: tuple[int, ...] = ()

    def known(self, mask: npt.NDArray[np.bool_], box: Box | tuple[()] = ()) -> npt.NDArray[np.bool_]:
        """Take out of a mask, that of a box, what is ignored."""
        return mask if self.ignored is None else mask & ~self.ignored[box]


def apply_rules(labels: Labels, voxel_ml: float, scheme: LabelScheme, rules: Iterable[PostprocessRule]) -> Labels:
    """Post-process a mask.

    Args:
        labels: label values `[X, Y, Z]` of any integer type.
        voxel_ml: volume of a voxel.
        scheme: names of the values.
        rules: in any order.

    Returns:
        A new array of the same type. Voxels of a structure become background, or background within it becomes it; no
        voxel changes from one structure to another. Of regions, what a rule takes out of one is left to the regions
        that it does not contain; see `LabelScheme.without`.

    Raises:
        UsageError: a rule names a structure that the scheme does not know.
    """
    rules, done = list(rules), labels.copy()
    values = {name: value for value, name in scheme.structures.items()}
    unknown = [rule.structure for rule in rules if rule.structure not in values]
    if unknown:
        raise UsageError(f"a rule of post-processing is for {unknown[0]!r}: expected one of {', '.join(values)}")
    boxes, all_parts = structure_boxes(labels, scheme), None
    members = scheme.members
    for rule in rules:
        value = values[rule.structure]
        if rule.action == "fill_holes" or value not in boxes:
            continue
        if rule.action == "keep_largest_of_all":
            all_parts = all_parts or Parts.of_all(labels, scheme, boxes)
            parts = all_parts
        else:
            parts = Parts.of(labels, members[value], boxes[value])
        _drop(done, scheme.without(value), parts, parts.dropped_by(rule, voxel_ml))
    filled = {values[rule.structure] for rule in rules if rule.action == "fill_holes"}
    for value, box in sorted(structure_boxes(done, scheme).items(), key=_size_of_box):
        if value in filled:  # a hole within a tumour within a liver is the tumour's: it comes first
            holes = Holes(done, members[value], box)
            done[box][holes.voxels] = value
    return done


def structure_boxes(labels: Labels, scheme: LabelScheme) -> dict[int, Box]:
    """Return the box around each structure that the mask holds, by its value."""
    return boxes_of([labels], scheme.structures, scheme.members)


class Parts:
    """Connected parts of a mask, numbered from 1.

    Args:
        mask: what is parted, within `box`.
        box: where it lies in the whole mask.
    """

    def __init__(self, mask: npt.NDArray[np.bool_], box: Box) -> None:
        self.box = box
        self.index = PartNumbers(mask, corners=True)

    @classmethod
    def of(cls, labels: Labels, values: Sequence[int], box: Box) -> Parts:
        """Part one structure."""
        return cls(is_of(labels[box], values), box)

    @classmethod
    def of_all(cls, labels: Labels, scheme: LabelScheme, boxes: dict[int, Box]) -> Parts:
        """Part all structures together."""
        box = around(boxes.values())
        return cls(np.stack([np.isin(plane, scheme.atoms) for plane in labels[box]]), box)

    def voxels(self, where: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.int64]:
        """Count the voxels of each part, from part 1 on; only those of a mask `where` of the box, if it is given."""
        counts = np.zeros(self.index.number + 1, dtype=np.int64)
        for row, plane in enumerate(self.index):  # at once, the numbers of a large scan would take 8 bytes each
            inside = plane.ravel() if where is None else plane[where[row]]
            counts += np.bincount(inside, minlength=len(counts))
        return counts[1:]

    def dropped_by(self, rule: PostprocessRule, voxel_ml: float) -> npt.NDArray[np.bool_]:
        """Say of each part, from part 1 on, whether a rule drops it; of equal parts the first is the largest."""
        return _dropped(rule, self.voxels(), voxel_ml)


class Holes:
    """Background that a structure encloses, whatever else it encloses.

    Args:
        labels: the whole mask.
        values: of the structure.
        box: around the structure.

    Attributes:
        voxels: bool, within the box.
    """

    def __init__(self, labels: Labels, values: Sequence[int], box: Box) -> None:
        self.box = box
        inside = labels[box]
        outside = np.ones([side + 2 for side in inside.shape], dtype=bool)  # so that all that lies outside is one part
        np.logical_not(is_of(inside, values), out=outside[1:-1, 1:-1, 1:-1])
        self.voxels: npt.NDArray[np.bool_] = inside == 0
        planes = islice(PartNumbers(outside, corners=False), 1, len(outside) - 1)
        for plane, index in zip(self.voxels, planes, strict=True):
            plane &= index[1:-1, 1:-1] > 1  # the padding comes first, so that the outside is part 1


def choose_rules(
    cases: Sequence[Callable[[], CaseMasks]],
    scheme: LabelScheme,
    margin: float = MARGIN,
    fewest_cases: int = FEWEST_CASES,
) -> list[PostprocessRule]:
    """Choose the rules that help masks of cases that the model was not trained on.

    Of the rules that leave parts of a structure out, the one with the highest mean Dice is kept, if it raises the mean
    by more than `margin` and makes no more cases worse than better. Then the same is asked of filling its holes. A case
    that neither mask nor truth holds the structure in is not counted, nor is one in which the structure was not drawn.
    One whose false structure goes away entirely counts as 1 from then on. What is ignored counts nowhere.

    Args:
        cases: each gives its masks when it is called, which is twice; one case is in memory at a time.
        scheme: names of the values.
        margin: least rise of the mean Dice.
        fewest_cases: of a structure, below which nothing is chosen for it.
    """
    tried = [rule for name in scheme.structures.values() for rule in _candidates(name, len(scheme.structures))]
    chosen = _kept(tried, [_after_dropping(load(), scheme, tried) for load in cases], margin, fewest_cases)
    filling = [PostprocessRule(structure=name, action="fill_holes") for name in scheme.structures.values()]
    filled = [_after_filling(load(), scheme, chosen, filling) for load in cases]
    return [*chosen, *_kept(filling, filled, margin, fewest_cases)]


Change = tuple[float, float]
"""Dice of a structure in a case before a rule and after it."""


def _candidates(structure: str, structures: int) -> list[PostprocessRule]:
    drops = [PostprocessRule(structure=structure, action="drop_small", minimum_ml=size) for size in MINIMUM_ML]
    of_all = [PostprocessRule(structure=structure, action="keep_largest_of_all")] if structures > 1 else []
    return [PostprocessRule(structure=structure, action="keep_largest"), *of_all, *drops]


def _after_dropping(
    case: CaseMasks, scheme: LabelScheme, rules: Sequence[PostprocessRule]
) -> dict[PostprocessRule, Change]:
    """Return what each rule changes; all of it follows from how many voxels of each part are right."""
    boxes = structure_boxes(case.prediction, scheme)
    together = Parts.of_all(case.prediction, scheme, boxes) if boxes else None
    changes: dict[PostprocessRule, Change] = {}
    for value, name in scheme.structures.items():
        mine = [rule for rule in rules if rule.structure == name and value not in case.unknown]
        values = scheme.members[value]
        in_truth = int(is_of(case.truth, values).sum())
        if value not in boxes:
            changes |= {rule: (0.0, 0.0) for rule in mine if in_truth}
            continue
        alone = Parts.of(case.prediction, values, boxes[value])
        for rule in mine:
            parts = together if together is not None and rule.action == "keep_largest_of_all" else alone
            predicted = case.known(is_of(case.prediction[parts.box], values), parts.box)
            voxels = parts.voxels(predicted)
            if not voxels.sum() + in_truth:
                continue
            right = parts.voxels(predicted & is_of(case.truth[parts.box], values))
            kept = ~_dropped(rule, parts.voxels(), case.voxel_ml)
            before, after = (_dice(right[k].sum(), voxels[k].sum(), in_truth) for k in (np.s_[:], kept))
            changes[rule] = before, after
    return changes


def _after_filling(
    case: CaseMasks, scheme: LabelScheme, chosen: Sequence[PostprocessRule], rules: Sequence[PostprocessRule]
) -> dict[PostprocessRule, Change]:
    """Return what filling holes changes, of masks that the rules chosen before have gone over."""
    labels = apply_rules(case.prediction, case.voxel_ml, scheme, chosen)
    boxes, values = structure_boxes(labels, scheme), {name: value for value, name in scheme.structures.items()}
    changes: dict[PostprocessRule, Change] = {}
    for rule in rules:
        value = values[rule.structure]
        members = scheme.members[value]
        truth, mask = is_of(case.truth, members), case.known(is_of(labels, members))
        right, predicted, in_truth = int((truth & mask).sum()), int(mask.sum()), int(truth.sum())
        if value in case.unknown or not predicted + in_truth:
            continue
        before = after = _dice(right, predicted, in_truth)
        if value in boxes:
            holes = Holes(labels, members, boxes[value])
            gained = int((truth[holes.box] & holes.voxels).sum())
            filled = int(case.known(holes.voxels, holes.box).sum())
            after = _dice(right + gained, predicted + filled, in_truth)
        changes[rule] = before, after
    return changes


def _kept(
    rules: Sequence[PostprocessRule],
    cases: Sequence[dict[PostprocessRule, Change]],
    margin: float,
    fewest_cases: int,
) -> list[PostprocessRule]:
    """Keep of each structure's rules the best, if it helps, with the figures that say so."""
    best: dict[str, PostprocessRule] = {}
    for rule in rules:
        changes = np.array([case[rule] for case in cases if rule in case]).reshape(-1, 2)
        if len(changes) < max(1, fewest_cases):
            continue
        before, after = changes.T
        better, worse = int((after > before).sum()), int((after < before).sum())
        rival = best.get(rule.structure)
        beaten = rival is not None and rival.evidence is not None and rival.evidence.dice_after >= after.mean()
        if after.mean() - before.mean() > margin and worse <= better and not beaten:
            evidence = Evidence(
                dice_before=before.mean(), dice_after=after.mean(), cases=len(changes), better=better, worse=worse
            )
            best[rule.structure] = rule.model_copy(update={"evidence": evidence})
    return list(best.values())


def _dropped(rule: PostprocessRule, voxels: npt.NDArray[np.int64], voxel_ml: float) -> npt.NDArray[np.bool_]:
    if rule.minimum_ml is not None:
        return voxels * voxel_ml < rule.minimum_ml
    dropped: npt.NDArray[np.bool_] = np.arange(len(voxels)) != voxels.argmax()
    return dropped


def _drop(labels: Labels, becomes: Mapping[int, int], parts: Parts, dropped: npt.NDArray[np.bool_]) -> None:
    """Turn what is dropped into what is left without the structure, as far as it is of the structure; plane by plane.

    Args:
        labels: changed in place.
        becomes: the value that each value of the structure becomes.
        parts: of the structure, or of all together.
        dropped: whether each part is.
    """
    table = np.concatenate([[False], dropped])
    for plane, index in zip(labels[parts.box], parts.index, strict=True):
        before, gone = plane.copy(), table[index]
        for value, left in becomes.items():
            plane[gone & (before == value)] = left


def _size_of_box(structure: tuple[int, Box]) -> int:
    _, box = structure
    return math.prod(side.stop - side.start for side in box)


def _dice(right: float, predicted: float, in_truth: float) -> float:
    return float(2 * right / (predicted + in_truth)) if predicted + in_truth else 1.0
