"""Whether a scan, and the mask made of it, are like those that a model was trained on: a warning where they are not.

The limits are wide. They are for slips that would give a mask without a word: intensities or spacings in other units, a
label map taken for a scan, a part of the body that the model has never seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np

from fullscale.bundle.card import ModelCard
from fullscale.data.distribution import (
    ACROSS,
    IN_PLANE,
    PERCENTILES,
    SIDE,
    Distribution,
    Measures,
    Span,
    measure,
    sample_voxels,
)
from fullscale.geometry.volume import Volume

FACTOR = {IN_PLANE: 2.0, ACROSS: 2.5, SIDE: 2.0}
"""How many times larger or smaller than any trained scan a scan may be."""
VOLUME_FACTOR = 3.0
"""How many times larger than any trained structure a structure may be; smaller ones may lie in part outside a scan."""
INTENSITY_MARGIN = 0.5
"""How far the highest intensities may lie outside those of the training, as a share of the width above the middle."""
LEAST_CONTRAST = 0.05
"""Least width of a scan's intensities, as a share of the least in the training."""

FEWEST_VALUES = 8
"""Different values that a scan holds at least."""

_SAID = {
    IN_PLANE: "voxels of {} mm within slices",
    ACROSS: "slices {} mm apart",
    SIDE: "slices of {} mm a side",
}


def trained_distribution(cards: Sequence[ModelCard]) -> Distribution | None:
    """Span what the members of a model were trained on; None where none of them says."""
    known = [card.distribution for card in cards if card.distribution is not None]
    return reduce(Distribution.joined, known) if known else None


def strange_scan(scan: Volume, trained: Distribution | None, absolute: bool) -> list[str]:
    """Say in what a scan is unlike those of a training.

    Args:
        scan: as it was read.
        trained: what the model was trained on, or None where that is not known.
        absolute: whether intensities have a unit (HU), rather than each scan its own scale.

    Returns:
        A phrase for each, such as "voxels of 3 mm within slices (trained: 0.7 to 0.9)".
    """
    voxels = sample_voxels(scan)
    values = np.unique(voxels)
    if len(values) == 1:
        return [f"all of its voxels are {values[0]:.4g}"]
    if len(values) < FEWEST_VALUES:
        return [f"it holds {len(values)} different values, as a label map does"]
    if trained is None:
        return []
    found = measure(scan, voxels)
    strange = _strange_intensities(found, trained, absolute)
    for name, phrase in _SAID.items():
        span, factor = trained.spans[name], FACTOR[name]
        outside = [v for v in found[name] if not span.low / factor <= v <= span.high * factor]
        if outside:
            strange.append(_against(phrase.format(f"{outside[0]:.4g}"), span))
    return strange


def strange_volumes(structure_ml: Mapping[str, float], trained: Distribution | None) -> list[str]:
    """Say which structures are larger in a mask than in any scan of a training."""
    spans = {} if trained is None else trained.structure_ml
    return [
        _against(f"{name} of {ml:,.0f} ml", spans[name])
        for name, ml in structure_ml.items()
        if name in spans and ml > VOLUME_FACTOR * spans[name].high
    ]


def _strange_intensities(found: Measures, trained: Distribution, absolute: bool) -> list[str]:
    [here_low], _, [here_high] = (found[name] for name in PERCENTILES)
    low, middle, high = (trained.spans[name] for name in PERCENTILES)
    said = [_against(f"intensities of {Span(low=here_low, high=here_high)}", low.joined(high))]
    least = max(high.low - low.high, 0.0)
    if least > 0 and here_low == here_high:
        return said
    if not absolute:
        return []
    # The lowest are left out: what lies around the field of view is filled with anything from 0 to -3024 HU.
    margin = INTENSITY_MARGIN * max(high.high - middle.low, (high.high - low.low) / 4)
    usual = high.low - margin <= here_high <= high.high + margin and here_high - here_low >= LEAST_CONTRAST * least
    return [] if usual else said


def _against(what: str, span: Span) -> str:
    return f"{what} (trained: {span})"
