"""Probabilities that mean what they say: a temperature for each structure, fitted on counts of validation voxels.

Voxels are counted by their log-odds, so that a case takes a few hundred numbers whatever its size, and fitting a
temperature takes milliseconds. Temperature scaling is that of Guo et al. 2017 ("On Calibration of Modern Neural
Networks"), of each structure against all else: its log-odds are divided by the temperature. A log-odds of 0 stays 0,
and masks are decided before it, so that it changes no mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.bundle.trust import Calibration, ReliabilityBin

REACH = 10.0
"""Log-odds beyond which voxels are counted together; a probability of 0.99995."""
BINS = 200
"""Of the log-odds, of equal width; one begins at 0, so that they tell on which side of one half a voxel lies."""
CENTRES = (np.arange(BINS) + 0.5) * 2 * REACH / BINS - REACH
"""Log-odds in the middle of each."""

FEWEST_CASES = 5
"""Validation cases that hold a structure, or get some of it, below which no temperature is fitted."""
BOUNDS = 0.2, 5.0
"""Of temperatures."""
RELIABILITY_BINS = 10
PARTS = 5
"""Each part of the cases is measured with what the others taught."""

Floats = npt.NDArray[np.float64]


def calibrated(probabilities: npt.NDArray[Any], temperature: npt.NDArray[Any] | float) -> npt.NDArray[Any]:
    """Divide the log-odds of probabilities by a temperature, which is broadcast; 0, one half and 1 stay exactly."""
    if np.all(np.asarray(temperature) == 1):
        return probabilities
    power = 1 / np.asarray(temperature, dtype=probabilities.dtype)
    here, not_here = probabilities**power, (1 - probabilities) ** power
    found: npt.NDArray[Any] = here / (here + not_here)
    return found


def entropy_bits(probabilities: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the entropy of being there or not, from 0 to 1 bit."""
    sides = (np.clip(side, np.finfo(np.float32).tiny, 1) for side in (probabilities, 1 - probabilities))
    found: npt.NDArray[Any] = np.clip(-sum(side * np.log2(side) for side in sides), 0, 1)
    return found


def bins_of(probabilities: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the bin of each probability."""
    from scipy.special import logit  # not needed by every model, which starts the sooner

    with np.errstate(divide="ignore"):
        odds = logit(probabilities.astype(np.float32))
    # the middle is a bin's beginning: rounding must not carry a voxel over it
    found: npt.NDArray[np.int64] = np.clip(np.floor(odds * (BINS / 2 / REACH)) + BINS // 2, 0, BINS - 1).astype(int)
    return found


def fit_calibration(counts: npt.NDArray[Any]) -> Calibration | None:
    """Fit the temperature of one structure.

    Args:
        counts: voxels `[cases, truth, BINS]`, without the structure and with it.

    Returns:
        None where there are fewer than `FEWEST_CASES` cases with any voxel.
    """
    weights = counts[counts.sum(axis=(1, 2)) > 0].astype(np.float64)
    if len(weights) < FEWEST_CASES:
        return None
    weights /= weights.sum(axis=(1, 2), keepdims=True) * len(weights)
    together = weights.sum(axis=0)
    temperature = _fit(together)
    return Calibration(
        temperature=temperature,
        cases=len(weights),
        ece_before=_error(together, 1.0),
        ece_after=_held_out_error(weights),
        before=reliability(together, 1.0),
        after=reliability(together, temperature),
    )


def reliability(weights: Floats, temperature: float) -> tuple[ReliabilityBin, ...]:
    """Return the points of a reliability diagram, bins of a tenth of probability; those without a voxel are left out.

    Args:
        weights: voxels `[truth, BINS]`.
        temperature: that their log-odds are divided by.
    """
    predicted, observed, share = _binned(weights, temperature)
    return tuple(
        ReliabilityBin(predicted=min(p, 1.0), observed=min(o, 1.0), share=min(s, 1.0))
        for p, o, s in zip(predicted, observed, share / share.sum(), strict=True)
    )


def parts_of(cases: int) -> Sequence[npt.NDArray[np.bool_]]:
    """Part cases into fifths; of each, which cases lie in it."""
    return [np.arange(cases) % PARTS == part for part in range(PARTS)]


def _fit(weights: Floats) -> float:
    from scipy import optimize  # not needed where scans are segmented, which starts the sooner

    def loss(log_temperature: float) -> float:
        odds = CENTRES / np.exp(log_temperature)
        return float((weights[1] * np.logaddexp(0, -odds) + weights[0] * np.logaddexp(0, odds)).sum())

    low, high = np.log(BOUNDS)
    return float(np.exp(optimize.minimize_scalar(loss, bounds=(low, high), method="bounded").x))


def _held_out_error(weights: Floats) -> float:
    """Measure the error of voxels whose temperature was fitted on other cases; each case counts alike."""
    merged = [np.zeros(RELIABILITY_BINS) for _ in range(3)]
    for held in parts_of(len(weights)):
        binned = _sums(weights[held].sum(axis=0), _fit(weights[~held].sum(axis=0)))
        merged = [so_far + more for so_far, more in zip(merged, binned, strict=True)]
    predicted, observed, share = merged
    return float(np.abs(predicted - observed).sum() / share.sum())


def _error(weights: Floats, temperature: float) -> float:
    """Expected calibration error: how far observed shares lie from probabilities, averaged over the voxels."""
    predicted, observed, share = _sums(weights, temperature)
    return float(np.abs(predicted - observed).sum() / share.sum())


def _binned(weights: Floats, temperature: float) -> tuple[Floats, Floats, Floats]:
    predicted, observed, share = _sums(weights, temperature)
    held = share > 0
    return predicted[held] / share[held], observed[held] / share[held], share[held]


def _sums(weights: Floats, temperature: float) -> list[Floats]:
    """Add up, in tenths of probability, probabilities, voxels of the structure, and voxels."""
    from scipy.special import expit

    found = expit(CENTRES / temperature)
    tenth = np.minimum((found * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
    both = weights.sum(axis=0)
    return [np.bincount(tenth, w, RELIABILITY_BINS).astype(np.float64) for w in (both * found, weights[1], both)]
