"""Statistics over cases: intervals of a mean, paired comparisons, and the smallest detectable difference.

The unit is always the case: slices and voxels of one patient are not independent of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from fullscale.errors import DataError

LEVEL = 0.95
"""Confidence of every interval; its complement is the level of every test."""
FEWEST_CASES = 4
"""The ends of the interval of fewer are the lowest and the highest case, or nearly: it holds the mean of all cases in
half (of two cases) to three quarters (of three) of all draws, not in 95 %."""
POWER = 0.8
RESAMPLES = 10_000
_SAME = 1e-12
"""Scores that differ by less differ by rounding."""
_MOST_EXACT = 50
"""Up to so many signs, all ways to give them are counted; beyond, the normal distribution is close enough."""

Values = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class PairedComparison:
    """Scores of one set of predictions against those of another, case by case.

    Attributes:
        cases: pairs.
        mean: of the scores.
        other_mean: of the scores that they are compared with.
        difference: of the means, positive where the first is higher.
        interval: of the difference, bootstrapped over cases; None for fewer than `FEWEST_CASES`.
        p_value: of the two-sided Wilcoxon signed-rank test.
        effect_size: matched-pairs rank-biserial correlation, from -1 (every case lower) to 1 (every case higher).
        smallest_difference: the smallest difference detectable with this many cases; see `smallest_difference`.
        adjusted_p: `p_value` after Holm's correction for all comparisons of one table, where there are several.
    """

    cases: int
    mean: float
    other_mean: float
    difference: float
    interval: Interval | None
    p_value: float
    effect_size: float
    smallest_difference: float | None
    adjusted_p: float | None = None

    @property
    def reported_p(self) -> float:
        """The p-value to report: adjusted where it is one of several."""
        return self.p_value if self.adjusted_p is None else self.adjusted_p

    @property
    def shown(self) -> bool:
        """Whether a difference is shown at the level of the test."""
        return self.reported_p < 1 - LEVEL

    @property
    def verdict(self) -> str:
        """What the comparison says, in words."""
        if self.shown:
            return "higher" if self.effect_size > 0 else "lower"
        if least_p(self.cases) >= 1 - LEVEL:
            return f"no difference shown ({self.cases} cases are too few to show any)"
        return "no difference shown"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"interval": self.interval and list(self.interval), "verdict": self.verdict}


def steady_scores(scores: Sequence[float]) -> list[float]:
    """Return for each epoch the mean of its score and of the two before, by which the best epoch is chosen.

    The score of one epoch is that of a few cases and of weights that still swing: the highest of many is a lucky one.
    The mean of three rises with the training, and is highest late.

    Args:
        scores: of the epochs, in order, such as their mean Dice.
    """
    windows = (scores[max(0, last - 2) : last + 1] for last in range(len(scores)))
    return [window[-1] + fmean(score - window[-1] for score in window) for window in windows]  # equal ones stay equal


def bootstrap_interval(values: Sequence[float] | Values, level: float = LEVEL, seed: int = 0) -> Interval | None:
    """Return the interval of the mean of `values`, one a case: bias-corrected and accelerated bootstrap (Efron 1987).

    None for fewer than `FEWEST_CASES`.
    """
    cases = np.asarray(values, np.float64)
    if len(cases) < FEWEST_CASES:
        return None
    if np.ptp(cases) < _SAME:
        return Interval(float(cases.mean()), float(cases.mean()))
    low, high = stats.bootstrap(
        (cases,), np.mean, confidence_level=level, n_resamples=RESAMPLES, batch=1000, method="BCa", rng=seed
    ).confidence_interval
    return Interval(float(low), float(high))


def compare_paired(values: Sequence[float] | Values, others: Sequence[float] | Values) -> PairedComparison:
    """Compare scores of the same cases, in the same order.

    Pairs that are equal have no sign and are left out of the test and of the effect size (Wilcoxon 1945).

    Raises:
        DataError: the numbers of cases differ, or there is none.
    """
    first, second = (np.asarray(v, np.float64) for v in (values, others))
    if first.shape != second.shape or first.ndim != 1 or len(first) == 0:
        raise DataError(f"{len(first)} and {len(second)} scores cannot be paired, expected those of the same cases")
    differences = first - second
    return PairedComparison(
        cases=len(first),
        mean=float(first.mean()),
        other_mean=float(second.mean()),
        difference=float(differences.mean()),
        interval=bootstrap_interval(differences),
        p_value=_signed_rank_p(differences),
        effect_size=_rank_biserial(differences),
        smallest_difference=smallest_difference(differences),
    )


def _signed_rank_p(differences: Values) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test: exact for up to 50 signs, with ties as well."""
    signed = differences[differences != 0]
    if len(signed) > _MOST_EXACT:
        return float(stats.wilcoxon(signed, method="asymptotic").pvalue)
    ranks = np.rint(2 * stats.rankdata(np.abs(signed))).astype(int)  # twice the ranks: those of ties end in a half
    chance = np.ones(1)  # of each sum of the ranks in favour, where all ways to give signs are equally likely
    for rank in ranks:
        chance = (np.pad(chance, (0, rank)) + np.pad(chance, (rank, 0))) / 2
    in_favour = ranks[signed > 0].sum()
    return float(min(1.0, 2 * chance[: min(in_favour, ranks.sum() - in_favour) + 1].sum()))


def _rank_biserial(differences: Values) -> float:
    """Return the share of rank sum in favour less that against (Kerby 2014); 0 where all pairs are equal."""
    signed = differences[differences != 0]
    ranks = stats.rankdata(np.abs(signed))
    return float((ranks * np.sign(signed)).sum() / ranks.sum()) if len(signed) else 0.0


def smallest_difference(differences: Sequence[float] | Values, power: float = POWER) -> float | None:
    """Return the smallest mean difference detectable with this many cases that vary as these do, with a power of 80 %.

    That of a two-sided paired t test; Wilcoxon's needs about 2 % more. None for fewer than two cases.
    """
    cases = np.asarray(differences, np.float64)
    if len(cases) < 2:
        return None
    degrees = len(cases) - 1
    quantiles = stats.t.ppf((1 + LEVEL) / 2, degrees) + stats.t.ppf(power, degrees)
    return float(quantiles * cases.std(ddof=1) / np.sqrt(len(cases)))


def least_p(cases: int) -> float:
    """Return the least p-value that a signed-rank test of so many pairs can have: all differences of one sign."""
    return float(min(1.0, 2.0 ** (1 - cases)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number, step by step down (Holm 1979), in the order given."""
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted
