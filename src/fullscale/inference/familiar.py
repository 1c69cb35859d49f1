"""Whether a scan, and the mask made of it, are like those that a model was trained on: a warning where they are not.

The limits are wide. They are for slips that would give a mask without a word: intensities or spacings in other units, a
label map taken for a scan, a part of the body that the model has never seen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.bundle.card import ModelCard
from fullscale.data.case import ONE_CHANNEL
from fullscale.data.distribution import (
    ACROSS,
    HEIGHT,
    IN_PLANE,
    SIDE,
    Distribution,
    Measures,
    Span,
    measure,
    percentile_names,
    sample_voxels,
)
from fullscale.data.labels import LabelScheme
from fullscale.data.lie import WAYS, Place, brightest_place, structure_places
from fullscale.geometry.units import LENGTH, SIZE, Unit
from fullscale.geometry.volume import Volume

FACTOR = {IN_PLANE: 2.0, ACROSS: 2.5, SIDE: 2.0, HEIGHT: 4.0}
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
    IN_PLANE: "voxels of {} {} within slices",
    ACROSS: "slices {} {} apart",
    SIDE: "slices of {} {} a side",
    HEIGHT: "{} {} from feet to head",
}

BRIGHT_MARGIN = (0.085, 0.085, 0.2)
"""How far outside of the trained places the brightest voxels of a scan may lie, as shares of the way through it."""
PLACE_MARGIN = (0.2, 0.2, 0.35)
"""The same of a structure; scans may begin and end elsewhere."""


def trained_distribution(cards: Sequence[ModelCard]) -> Distribution | None:
    """Span what the members of a model were trained on; None where none of them says."""
    known = [card.distribution for card in cards if card.distribution is not None]
    return reduce(Distribution.joined, known) if known else None


def strange_scan(channels: Mapping[str, Volume], trained: Distribution | None, absolute: Collection[str]) -> list[str]:
    """Say in what a scan is unlike those of a training.

    Args:
        channels: of the scan, as they were read.
        trained: what the model was trained on, or None where that is not known.
        absolute: channels whose intensities have a unit (HU), rather than each scan its own scale.

    Returns:
        A phrase for each, such as "voxels of 3 mm within slices (trained: 0.7 to 0.9)".
    """
    voxels = {name: sample_voxels(scan) for name, scan in channels.items()}
    strange = [text for name, sample in voxels.items() for text in _of_channel(name, _few_values(sample))]
    if strange or trained is None:
        return strange
    found = measure(channels, voxels)
    for name in channels:
        strange += _of_channel(name, _strange_intensities(name, found, trained, name in absolute))
    for name, phrase in _SAID.items():
        if name not in trained.spans:
            continue  # the card of an earlier version
        span, factor = trained.spans[name], FACTOR[name]
        outside = [v for v in found[name] if not span.low / factor <= v <= span.high * factor]
        if outside:
            unit = LENGTH[next(iter(channels.values())).unit]
            strange.append(_against(phrase.format(f"{outside[0]:.4g}", unit), span))
    scan = next(iter(channels.values()))
    return strange + _strange_place("its brightest part", brightest_place(scan), trained.brightest, BRIGHT_MARGIN)


def strange_modality(modality: str, trained_on: str) -> list[str]:
    """Say that a scan is of another modality than the model's, where both are known."""
    known = {"MR": "MRI", "PT": "PET"}
    here, there = known.get(modality, modality), known.get(trained_on, trained_on)
    if not here or there in ("unknown", "") or here.upper() == there.upper():
        return []
    return [f"the scan is {here}, the model was trained on {there}"]


def strange_places(labels: Volume, scheme: LabelScheme, trained: Distribution | None) -> list[str]:
    """Say which structures of a mask lie elsewhere in the scan than in those of a training."""
    if trained is None or not trained.places:
        return []
    known = {name: place for name, place in structure_places(labels, scheme).items() if name in trained.places}
    return [line for n, place in known.items() for line in _strange_place(n, place, trained.places[n], PLACE_MARGIN)]


def _strange_place(what: str, place: Place, trained: Sequence[Span], margins: Sequence[float]) -> list[str]:
    """Say of a place along which way it lies outside of the trained ones, of which an older card says nothing."""
    if not trained:
        return []
    return [
        f"{what} lies at {at:.0%} of the way from {way} (trained: {_percent(span)})"
        for at, way, span, margin in zip(place, WAYS, trained, margins, strict=True)
        if not span.low - margin <= at <= span.high + margin
    ]


def _percent(span: Span) -> str:
    low, high = f"{span.low:.0%}", f"{span.high:.0%}"
    return low if low == high else f"{low} to {high}"


def _of_channel(name: str, texts: Sequence[str]) -> list[str]:
    return [text if name == ONE_CHANNEL else f"channel {name}: {text}" for text in texts]


def _few_values(voxels: npt.NDArray[Any]) -> list[str]:
    values = np.unique(voxels)
    if len(values) == 1:
        return [f"all of its voxels are {values[0]:.4g}"]
    if len(values) < FEWEST_VALUES:
        return [f"it holds {len(values)} different values, as a label map does"]
    return []


def strange_volumes(structure_ml: Mapping[str, float], trained: Distribution | None, unit: Unit = "mm") -> list[str]:
    """Say which structures are larger in a mask than in any scan of a training; sizes are counted in `unit`."""
    spans = {} if trained is None else trained.structure_ml
    return [
        _against(f"{name} of {ml:,.0f} {SIZE[unit]}", spans[name])
        for name, ml in structure_ml.items()
        if name in spans and ml > VOLUME_FACTOR * spans[name].high
    ]


def _strange_intensities(channel: str, found: Measures, trained: Distribution, absolute: bool) -> list[str]:
    names = list(percentile_names(channel))
    if not set(names) <= trained.spans.keys():
        return []  # the card of an earlier version
    [here_low], _, [here_high] = (found[name] for name in names)
    low, middle, high = (trained.spans[name] for name in names)
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
