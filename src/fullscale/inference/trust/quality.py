"""The Dice that is to be expected of a mask without a truth, with an interval, learned from cross-validated cases.

A ridge regression of a few features, whose penalty is chosen by leaving out one case at a time. The interval is that
of the jackknife (Barber et al. 2021, "Predictive inference with the jackknife+", without the plus): quantiles of the
errors that are made in cases left out, each in parts of what the expected Dice lacks of 1, so that it is wide where
little is expected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.stats import spearmanr

from fullscale.bundle.trust import Evaluated, Quality
from fullscale.errors import DataError
from fullscale.inference.trust.calibration import BINS, CENTRES, REACH, entropy_bits, parts_of
from fullscale.inference.trust.counts import LEAST
from fullscale.inference.trust.shape import Shape

FEWEST_CASES = 20
"""Cases with a mask of the structure below which nothing is learned: a 90 % interval needs 19 errors to lie between."""
LEVEL = 0.9
REVIEW = 0.1
"""Share of the cases, those of the lowest expected Dice, that would have been looked at."""

VOLUME, UNUSUAL = "log_volume", "unusual_volume"
"""Two of the features: the second is how far the first lies from its mean, in standard deviations."""

_PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_FARTHEST = 4.0
"""Standard deviations from the mean that a feature counts as at most."""
_LEAST_LACK = 0.02
_PROBABILITIES = expit(CENTRES)
_COUNTED = np.greater_equal(CENTRES - REACH / BINS, math.log(LEAST / (1 - LEAST)))
"""Bins whose voxels are counted wherever they lie; those near the truth alone must not tell of it."""

Floats = npt.NDArray[np.float64]


def features_of(counts: npt.NDArray[Any], shape: Shape) -> dict[str, float]:
    """Return what is known of the mask of one structure without its truth.

    Args:
        counts: voxels `[mask, BINS]`, outside of the mask and within; see `Counting`.
        shape: of the mask.

    Returns:
        By name: the soft Dice of the probabilities and the mask; the logarithm of the entropy on each unit of surface;
        that of the volume; that of the area in parts of a cube's of the same volume; and the share of the mask outside
        of its largest part.
    """
    held = counts.astype(np.float64)
    held[0, ~_COUNTED] = 0
    both = held.sum(axis=0)
    soft = 2 * (held[1] * _PROBABILITIES).sum() / ((both * _PROBABILITIES).sum() + held[1].sum())
    doubt = (both * entropy_bits(_PROBABILITIES)).sum() * shape.voxel_mm3 / shape.area_mm2
    volume = shape.voxels * shape.voxel_mm3
    return {
        "soft_dice": float(soft),
        "entropy_per_area": float(np.log(doubt + 1e-3)),
        VOLUME: math.log(volume),
        "log_area": math.log(shape.area_mm2 / (6 * volume ** (2 / 3))),
        "outside_largest_part": 1 - shape.largest,
    }


def fit_quality(rows: Sequence[Mapping[str, float]], dice: Floats, present: float) -> Quality | None:
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
    matrix = np.array([list(row.values()) for row in rows])
    names = tuple(rows[0])
    fitted, left_out = _fit(names, matrix, dice)
    return Quality(
        features=(*names, UNUSUAL),
        mean=tuple(fitted.mean.tolist()),
        scale=tuple(fitted.scale.tolist()),
        weights=tuple(fitted.weights.tolist()),
        intercept=fitted.intercept,
        interval=fitted.interval,
        level=LEVEL,
        review_below=float(np.quantile(left_out, REVIEW)),
        present=present,
        cases=len(rows),
        evaluated=_evaluate(names, matrix, dice),
    )


def expected_dice(quality: Quality, row: Mapping[str, float]) -> tuple[float, float, float]:
    """Return the expected Dice of a mask, and the lower and the upper end of its interval.

    Args:
        quality: what was learned.
        row: `features_of` the mask.

    Raises:
        DataError: the model was made by a version that knows other features.
    """
    *names, unusual = quality.features
    if unusual != UNUSUAL or not set(names) <= row.keys():
        raise DataError("the model's card knows other features of a mask than this version: train it again")
    mean, scale, weights = (np.array(numbers) for numbers in (quality.mean, quality.scale, quality.weights))
    fitted = _Fitted(
        *(mean, scale, weights),
        quality.intercept,
        quality.interval,
        names.index(VOLUME),
    )
    middle, low, high = fitted.expect(np.array([[row[name] for name in names]]))
    return float(middle[0]), float(low[0]), float(high[0])


@dataclass(frozen=True)
class _Fitted:
    """A ridge regression; the last of its features is how far the one at `volume` lies from its mean."""

    mean: Floats
    scale: Floats
    weights: Floats
    intercept: float
    interval: tuple[float, float]
    volume: int

    def expect(self, matrix: Floats) -> tuple[Floats, Floats, Floats]:
        return _with_interval(self.design(matrix) @ self.weights + self.intercept, self.interval)

    def design(self, matrix: Floats) -> Floats:
        unusual = np.abs(matrix[:, self.volume] - self.mean[self.volume]) / self.scale[self.volume]
        full = np.column_stack([matrix, np.minimum(unusual, _FARTHEST)])
        return np.clip((full - self.mean) / self.scale, -_FARTHEST, _FARTHEST)


def _with_interval(expected: Floats, interval: tuple[float, float]) -> tuple[Floats, Floats, Floats]:
    lack = np.maximum(1 - expected, _LEAST_LACK)
    ends = (expected + end * lack for end in interval)
    low, high = (np.clip(end, 0, 1) for end in ends)
    return np.clip(expected, 0, 1), low, high


def _fit(names: Sequence[str], matrix: Floats, dice: Floats) -> tuple[_Fitted, Floats]:
    """Fit with the penalty whose errors in cases left out are the smallest; return those cases' expected Dice too."""
    volume = list(names).index(VOLUME)
    unusual = np.abs(matrix[:, volume] - matrix[:, volume].mean()) / (matrix[:, volume].std() or 1.0)
    full = np.column_stack([matrix, np.minimum(unusual, _FARTHEST)])
    spread = full.std(axis=0)
    blank = _Fitted(full.mean(axis=0), np.where(spread > 0, spread, 1.0), spread, float(dice.mean()), (0, 0), volume)
    design = blank.design(matrix)
    penalty = min(_PENALTIES, key=lambda tried: float(((_left_out(design, dice, tried) - dice) ** 2).sum()))
    weights, intercept = _ridge(design, dice, penalty)
    left_out = _left_out(design, dice, penalty)
    errors = np.sort((dice - left_out) / np.maximum(1 - left_out, _LEAST_LACK))
    rank = max(1, math.floor((len(dice) + 1) * (1 - LEVEL) / 2))
    interval = float(errors[rank - 1]), float(errors[-rank])
    return replace(blank, weights=weights, intercept=intercept, interval=interval), left_out


def _ridge(design: Floats, dice: Floats, penalty: float) -> tuple[Floats, float]:
    centre = design.mean(axis=0)
    centred = design - centre
    gram = centred.T @ centred + penalty * np.eye(design.shape[1])
    weights: Floats = np.linalg.solve(gram, centred.T @ (dice - dice.mean()))
    return weights, float(dice.mean() - centre @ weights)


def _left_out(design: Floats, dice: Floats, penalty: float) -> Floats:
    """Return what is expected of each case by a fit to all others, in closed form."""
    weights, intercept = _ridge(design, dice, penalty)
    centred = design - design.mean(axis=0)
    gram = centred.T @ centred + penalty * np.eye(design.shape[1])
    leverage = 1 / len(dice) + np.einsum("nf,fn->n", centred, np.linalg.solve(gram, centred.T))
    found = design @ weights + intercept
    left_out: Floats = dice - (dice - found) / (1 - leverage)
    return left_out


def _evaluate(names: Sequence[str], matrix: Floats, dice: Floats) -> Evaluated:
    expected, held = np.zeros(len(dice)), np.zeros(len(dice), dtype=bool)
    for part in parts_of(len(dice)):
        fitted, _ = _fit(names, matrix[~part], dice[~part])
        expected[part], low, high = fitted.expect(matrix[part])
        held[part] = (low <= dice[part]) & (dice[part] <= high)
    constant = np.ptp(expected) == 0 or np.ptp(dice) == 0
    return Evaluated(
        spearman=None if constant else float(spearmanr(expected, dice).statistic),
        mean_error=float(np.abs(expected - dice).mean()),
        coverage=float(held.mean()),
        spread=float(np.abs(dice - np.median(dice)).mean()),
    )
