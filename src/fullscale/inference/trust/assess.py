"""What is said of a mask without a truth: the Dice to be expected, the width of its boundary, and whether to look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.bundle.trust import Quality, Trust
from fullscale.inference.trust.calibration import BINS, REACH
from fullscale.inference.trust.counts import SEEN, Counting
from fullscale.inference.trust.quality import expected_dice, features_of
from fullscale.inference.trust.shape import Shape

BETWEEN = 0.25, 0.75
"""Probabilities of the two surfaces that a boundary lies between."""
USUALLY_THERE = 0.95
"""Share of the validation cases that hold a structure from which a mask without it is to be looked at."""


@dataclass(frozen=True)
class StructureTrust:
    """How far to trust the mask of one structure.

    Attributes:
        expected_dice: None where nothing was learned, or the mask is empty.
        interval: lower and upper end, that `level` of new masks lie between.
        level: such as 0.9.
        boundary_mm: mean distance between the surfaces of a calibrated probability of 0.25 and 0.75; in pixels of an
            image without a size; None where the mask is empty, or no map was asked for.
        review: why a person should look at it; None where nothing asks for that.
    """

    expected_dice: float | None = None
    interval: tuple[float, float] | None = None
    level: float | None = None
    boundary_mm: float | None = None
    review: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"interval": None if self.interval is None else list(self.interval)}


def describe_trust(trust: Mapping[str, Mapping[str, Any]], length: str, width: bool) -> str:
    """Say in a line what is expected of the structures of a mask, and how wide their boundaries are.

    Args:
        trust: the plain values of each structure.
        length: unit of widths.
        width: whether to tell them.

    Returns:
        Nothing where nothing is known.
    """
    expected = [
        f"{name} {told['expected_dice']:.2f} ({told['interval'][0]:.2f} to {told['interval'][1]:.2f})"
        for name, told in trust.items()
        if told["expected_dice"] is not None
    ]
    widths = [f"{name} {told['boundary_mm']:.1f}" for name, told in trust.items() if told["boundary_mm"] is not None]
    dice = f"; expected Dice: {', '.join(expected)}" if expected else ""
    return dice + (f"; width of the boundary in {length}: {', '.join(widths)}" if width and widths else "")


def assess(counted: Counting, trust: Trust | None) -> dict[str, StructureTrust]:
    """Say of each structure how far to trust its mask.

    The expected Dice is learned from masks of single members. So each member's own probabilities are asked, and the
    mean is taken.

    Args:
        counted: counts of a scan, which is done.
        trust: what the model knows; None is nothing.
    """
    trust = trust or Trust()
    names = counted.scheme.structures.values()
    return {name: _assess(k, name, counted, trust) for k, name in enumerate(names)}


def _assess(k: int, name: str, counted: Counting, trust: Trust) -> StructureTrust:
    shape, quality, temperature = counted.shapes[k], trust.quality.get(name), trust.temperature(name)
    if shape is None:
        return StructureTrust(review=_missing(quality))
    width = boundary_mm(counted.together[k, SEEN], shape, temperature) if counted.full_size else None
    if quality is None:
        return StructureTrust(boundary_mm=width)
    rows = [
        features_of(counts[k, SEEN], shape, temperature, size)
        for counts, size in counted.of_members
        if counts[k, SEEN, 1].any()
    ]
    told = [expected_dice(quality, row) for row in rows]
    if not told:  # the mean of the members found what none of them does alone
        return StructureTrust(boundary_mm=width, review="no member finds it alone")
    dice, low, high = (round(float(value), 4) for value in np.mean(told, axis=0))
    usual = f"{quality.review_below:.3f}, below which a tenth of the validation cases lies"
    review = f"expected Dice {dice:.3f} is below {usual}" if dice < quality.review_below else None
    return StructureTrust(dice, (low, high), quality.level, width, review)


def _missing(quality: Quality | None) -> str | None:
    if quality is None or quality.present < USUALLY_THERE:
        return None
    return f"nothing was found, and {quality.present:.0%} of the validation cases hold it"


def boundary_mm(counts: npt.NDArray[np.int64], shape: Shape, temperature: float) -> float:
    """Return the mean width of a boundary: the volume between two surfaces of equal probability, for each area.

    Args:
        counts: voxels `[mask, BINS]`.
        shape: of the mask, whose surface lies between the two.
        temperature: of the structure.
    """
    edges = np.arange(BINS + 1) * 2 * REACH / BINS - REACH
    low, high = (np.log(p / (1 - p)) * temperature for p in BETWEEN)
    held = np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None) / (edges[1] - edges[0])
    return round(float((counts.sum(axis=0) * held).sum() * shape.voxel_mm3 / shape.area_mm2), 3)
