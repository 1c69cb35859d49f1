"""The Dice that is to be expected of a mask without a truth, with an interval, learned from cross-validated cases.

The model's own word comes first: the soft Dice of its calibrated probabilities and its mask. What it is usually off by
is a ridge regression of a few features, whose penalty is chosen by leaving out one case at a time. So the expected Dice
falls with the soft Dice where a scan is worse than all that it was learned from. The interval is that of the jackknife
(Barber et al. 2021, "Predictive inference with the jackknife+", without the plus): quantiles of the errors in cases
left out, each in parts of what the expected Dice lacks of 1, so that it is wide where little is expected.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fullscale.bundle.trust import Evaluated, Quality
from fullscale.inference.trust.calibration import CENTRES, entropy_bits, parts_of
from fullscale.inference.trust.shape import Shape

FEWEST_CASES = 20
"""Cases with a mask of the structure below which nothing is learned: a 90 % interval needs 19 errors to lie between."""
LEVEL = 0.9
REVIEW = 0.1
"""Share of the cases, those of the lowest expected Dice, that would have been looked at."""

OTHERS = ("log_entropy", "log_volume", "log_area", "outside_largest_part")
"""Features besides the soft Dice; a card names those that it was learned of."""

UNUSUAL = "unusual_volume"
"""A further one: how far the logarithm of the volume lies from its mean, in standard deviations."""

_VOLUME = OTHERS.index("log_volume")
_PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 10000.0)
_FARTHEST = 4.0
"""Standard deviations from the mean that a feature counts as at most."""
_LEAST_LACK = 0.02
_LEAST_ENTROPY = 1e-3

Floats = npt.NDArray[np.float64]


class Features(NamedTuple):
    """What is known of the mask of one structure without its truth.

    Attributes:
        soft_dice: of the calibrated probabilities and the mask.
        others: those of `OTHERS`: the logarithm of the entropy on each unit of surface; that of the volume; that of the
            area in parts of a cube's of the same volume; and the share of the mask outside of its largest part.
    """

    soft_dice: float
    others: tuple[float, float, float, float]


def features_of(counts: npt.NDArray[Any], shape: Shape, temperature: float, size: float = 1.0) -> Features:
    """Return what is known of the mask of one structure without its truth.

    Args:
        counts: voxels `[mask, BINS]`, outside of the mask and within, that are `SEEN`.
        shape: of the mask.
        temperature: of the structure.
        size: voxels of the mask for each that is counted.
    """
    from scipy.special import expit  # not needed by every model, which starts the sooner

    held = counts.astype(np.float64)
    both, found = held.sum(axis=0), expit(CENTRES / temperature)
    soft = 2 * (held[1] * found).sum() / ((both * found).sum() + held[1].sum())
    doubt = (both * entropy_bits(found)).sum() * shape.voxel_mm3 * size / shape.area_mm2
    volume = shape.voxels * shape.voxel_mm3
    area = math.log(shape.area_mm2 / (6 * volume ** (2 / 3)))
    others = (math.log(float(doubt) + _LEAST_ENTROPY), math.log(volume), area, 1 - shape.largest)
    return Features(float(soft), others)


def fit_quality(rows: Sequence[Features], dice: Floats, present: float) -> Quality | None:
    """Learn the expected Dice of one structure.

    Args:
        rows: `features_of` each case whose mask holds it.
        dice: true Dice of each.
        present: share of all cases that hold the structure.

    Returns:
        None where there are fewer than `FEWEST_CASES`.
    """
    if len(rows) < FEWEST_CASES:
        return None
    cases = _Cases(np.array([row.soft_dice for row in rows]), np.array([row.others for row in rows]))
    fitted, left_out = _fit(cases, dice)
    return Quality(
        features=(*OTHERS, UNUSUAL),
        mean=tuple(fitted.mean.tolist()),
        scale=tuple(fitted.scale.tolist()),
        weights=tuple(fitted.weights.tolist()),
        intercept=fitted.intercept,
        interval=fitted.interval,
        level=LEVEL,
        review_below=float(np.quantile(left_out, REVIEW)),
        present=present,
        cases=len(rows),
        evaluated=_evaluate(cases, dice),
    )


def knows(quality: Quality) -> bool:
    """Whether the features that something was learned of are those of this version."""
    return quality.features == (*OTHERS, UNUSUAL)


def expected_dice(quality: Quality, row: Features) -> tuple[float, float, float]:
    """Return the expected Dice of a mask, and the lower and the upper end of its interval.

    Args:
        quality: what was learned, of features that `knows` finds here.
        row: `features_of` the mask.
    """
    mean, scale, weights = (np.array(numbers) for numbers in (quality.mean, quality.scale, quality.weights))
    fitted = _Fitted(mean, scale, weights, quality.intercept, quality.interval)
    case = _Cases(np.array([row.soft_dice]), np.array([row.others]))
    middle, low, high = fitted.expect(case)
    return float(middle[0]), float(low[0]), float(high[0])


class _Cases(NamedTuple):
    """Soft Dice `[cases]` and the other features `[cases, features]`."""

    soft_dice: Floats
    others: Floats

    def of(self, chosen: npt.NDArray[np.bool_]) -> _Cases:
        return _Cases(self.soft_dice[chosen], self.others[chosen])


@dataclass(frozen=True)
class _Fitted:
    """A ridge regression of what the soft Dice is off by.

    The last of its features is how far the volume lies from its mean.
    """

    mean: Floats
    scale: Floats
    weights: Floats
    intercept: float
    interval: tuple[float, float]

    def expect(self, cases: _Cases) -> tuple[Floats, Floats, Floats]:
        off = self.design(cases) @ self.weights + self.intercept
        return _with_interval(cases.soft_dice + off, self.interval)

    def design(self, cases: _Cases) -> Floats:
        unusual = np.abs(cases.others[:, _VOLUME] - self.mean[_VOLUME]) / self.scale[_VOLUME]
        full = np.column_stack([cases.others, np.minimum(unusual, _FARTHEST)])
        return np.clip((full - self.mean) / self.scale, -_FARTHEST, _FARTHEST)


def _with_interval(expected: Floats, interval: tuple[float, float]) -> tuple[Floats, Floats, Floats]:
    lack = np.maximum(1 - expected, _LEAST_LACK)
    ends = (expected + end * lack for end in interval)
    low, high = (np.clip(end, 0, 1) for end in ends)
    return np.clip(expected, 0, 1), low, high


def _fit(cases: _Cases, dice: Floats) -> tuple[_Fitted, Floats]:
    """Fit with the penalty whose errors in cases left out are the smallest; return those cases' expected Dice too."""
    off, sizes = dice - cases.soft_dice, cases.others[:, _VOLUME]
    unusual = np.abs(sizes - sizes.mean()) / (sizes.std() or 1.0)
    full = np.column_stack([cases.others, np.minimum(unusual, _FARTHEST)])
    spread = full.std(axis=0)
    blank = _Fitted(full.mean(axis=0), np.where(spread > 0, spread, 1.0), spread, 0.0, (0.0, 0.0))
    design = blank.design(cases)
    penalty = min(_PENALTIES, key=lambda tried: float(((_left_out(design, off, tried) - off) ** 2).sum()))
    weights, intercept = _ridge(design, off, penalty)
    left_out = cases.soft_dice + _left_out(design, off, penalty)
    errors = np.sort((dice - left_out) / np.maximum(1 - left_out, _LEAST_LACK))
    rank = max(1, math.floor((len(dice) + 1) * (1 - LEVEL) / 2))
    interval = float(errors[rank - 1]), float(errors[-rank])
    return replace(blank, weights=weights, intercept=intercept, interval=interval), left_out


def _ridge(design: Floats, target: Floats, penalty: float) -> tuple[Floats, float]:
    centre = design.mean(axis=0)
    centred = design - centre
    gram = centred.T @ centred + penalty * np.eye(design.shape[1])
    weights: Floats = np.linalg.solve(gram, centred.T @ (target - target.mean()))
    return weights, float(target.mean() - centre @ weights)


def _left_out(design: Floats, target: Floats, penalty: float) -> Floats:
    """Return what is expected of each case by a fit to all others, in closed form."""
    weights, intercept = _ridge(design, target, penalty)
    centred = design - design.mean(axis=0)
    gram = centred.T @ centred + penalty * np.eye(design.shape[1])
    leverage = 1 / len(target) + np.einsum("nf,fn->n", centred, np.linalg.solve(gram, centred.T))
    found = design @ weights + intercept
    left_out: Floats = target - (target - found) / (1 - leverage)
    return left_out


def _evaluate(cases: _Cases, dice: Floats) -> Evaluated:
    from scipy.stats import spearmanr  # not needed where scans are segmented, which starts the sooner

    expected, held = np.zeros(len(dice)), np.zeros(len(dice), dtype=bool)
    for part in parts_of(len(dice)):
        fitted, _ = _fit(cases.of(~part), dice[~part])
        expected[part], low, high = fitted.expect(cases.of(part))
        held[part] = (low <= dice[part]) & (dice[part] <= high)
    constant = np.ptp(expected) == 0 or np.ptp(dice) == 0
    return Evaluated(
        spearman=None if constant else float(spearmanr(expected, dice).statistic),
        mean_error=float(np.abs(expected - dice).mean()),
        coverage=float(held.mean()),
        spread=float(np.abs(dice - np.median(dice)).mean()),
    )
