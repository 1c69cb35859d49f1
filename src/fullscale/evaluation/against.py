"""Two evaluations of the same cases beside each other, class by class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fullscale.errors import DataError
from fullscale.evaluation.statistics import PairedComparison, compare_paired, holm, paired_dice
from fullscale.evaluation.summary import Summary


@dataclass(frozen=True)
class Against:
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


def compare_summaries(summary: Summary, other: Summary) -> Against:
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
            continue  # the organ is in none of the cases that both have
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
    return Against(dict(sorted(classes.items())), mean, sorted(names[0] ^ names[1]))
