"""Two evaluations of the same cases beside each other, class by class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fullscale.errors import DataError, UsageError
from fullscale.scoring.statistics import PairedComparison, Values, compare_paired, holm
from fullscale.scoring.summary import Summary


@dataclass(frozen=True)
class PairedEvaluation:
    """Dice of one set of predictions against that of another, paired by case.

    Attributes:
        classes: the comparison of each label that both score in some case; p-values are adjusted for their number.
        mean: that of the mean over the classes of each case; None where the two score different labels.
        alone: names of the cases that only one of the two has.
    """

    classes: Mapping[int, PairedComparison]
    mean: PairedComparison | None
    alone: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for strict JSON."""
        return {
            "classes": {str(label): comparison.as_dict() for label, comparison in self.classes.items()},
            "mean": self.mean and self.mean.as_dict(),
            "alone": self.alone,
        }


def compare_summaries(summary: Summary, other: Summary) -> PairedEvaluation:
    """Compare the Dice of two evaluations, label by label and over all labels.

    Raises:
        DataError: no case and label is scored in both.
    """
    names = [{case.case for case in part.cases} for part in (summary, other)]
    found: dict[int, PairedComparison] = {}
    for label in summary.labels.keys() & other.labels.keys():
        try:
            _, first, second = paired_dice(summary, other, label)
        except DataError:
            continue  # the structure is in none of the cases that both have
        found[label] = compare_paired(first, second)
    if not found:
        raise DataError(
            "the two evaluations have no scored case and class in common: names and labels must be the same"
        )
    adjusted = holm([comparison.p_value for comparison in found.values()])
    classes = {
        label: replace(comparison, adjusted_p=p) for (label, comparison), p in zip(found.items(), adjusted, strict=True)
    }
    same = summary.labels.keys() == other.labels.keys()
    mean = compare_paired(*paired_dice(summary, other)[1:]) if same else None
    return PairedEvaluation(dict(sorted(classes.items())), mean, sorted(names[0] ^ names[1]))


def paired_dice(summary: Summary, other: Summary, label: int | None = None) -> tuple[list[str], Values, Values]:
    """Pair the Dice of two evaluations of the same cases.

    A structure that the truth lacks is scored only where a prediction invents it. Where one of the two rightly left it
    out and the other did not, they compare as 1 and 0; where both left it out, the case says nothing.

    Args:
        summary: one evaluation.
        other: the other one.
        label: of the structure; None for the mean over the structures of each case.

    Returns:
        The cases that are in both, and their scores.

    Raises:
        UsageError: the label, or any label of one of the two where none is given, is not in both.
        DataError: no case is scored in both.
    """
    labels = list(summary.labels) if label is None else [label]
    missing = [value for value in labels if value not in summary.labels or value not in other.labels]
    if missing or (label is None and summary.labels.keys() != other.labels.keys()):
        named = (", ".join(f"{value}={name}" for value, name in s.labels.items()) for s in (summary, other))
        raise UsageError(
            f"the evaluations score different labels, {' and '.join(named)}: choose those of both (--labels)"
        )
    theirs = {case.case: case for case in other.cases}
    cases, pairs = [], []
    for case in summary.cases:
        if case.case not in theirs:
            continue
        scores = [(case.metrics[v]["Dice"], theirs[case.case].metrics[v]["Dice"]) for v in labels]
        scored = [[1.0 if dice is None else dice for dice in pair] for pair in scores if pair != (None, None)]
        if scored:
            cases.append(case.case)
            pairs.append(np.mean(scored, axis=0))
    if not pairs:
        raise DataError("the two evaluations have no scored case in common: their cases must have the same names")
    first, second = np.array(pairs, np.float64).T
    return cases, first, second
