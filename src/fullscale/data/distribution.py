"""What the scans of a training were like, small enough for a model's card: the lowest and highest of a few measures.

Of patients nothing is kept but these spans.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from fullscale.data.case import ONE_CHANNEL
from fullscale.data.labels import LabelScheme
from fullscale.data.lie import Place, mean_place
from fullscale.geometry.orientation import axis_codes
from fullscale.geometry.volume import Volume

PERCENTILES = {"percentile_0_5": 0.5, "percentile_50": 50.0, "percentile_99_5": 99.5}
"""Measures of a scan's intensities (HU for CT)."""
IN_PLANE, ACROSS, SIDE, HEIGHT = "in_plane_spacing_mm", "slice_spacing_mm", "slice_side_mm", "height_mm"
"""Measures of its geometry."""

_ACROSS_CODES = "SI"
_SAMPLES = 200_000
_SEED = 0

Measures = dict[str, list[float]]
"""The numbers of each measure; of what lies in a slice, one for its rows and one for its columns."""


class Span(BaseModel):
    """The lowest and the highest of several numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Span:
        """Span at least one number."""
        listed = [float(value) for value in values]
        return cls(low=min(listed), high=max(listed))

    def joined(self, other: Span) -> Span:
        """Span both."""
        return Span(low=min(self.low, other.low), high=max(self.high, other.high))

    def __str__(self) -> str:
        return f"{self.low:.4g}" if self.low == self.high else f"{self.low:.4g} to {self.high:.4g}"


class ChannelRecord(BaseModel):
    """What must be known of a channel to span it."""

    intensity_percentiles: tuple[float, float, float]


class FactsRecord(BaseModel):
    """What must be known of a case to span it, as `dataset.json` keeps it among other facts."""

    case: str
    shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    spacing_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    orientation: str = Field(pattern=r"^[RLAPSI]{3}$")
    channels: dict[str, ChannelRecord] = Field(min_length=1)
    label_ml: dict[int, float]
    brightest: Place | None = None
    label_places: dict[int, Place] = {}


class Distribution(BaseModel):
    """The spans of a training's scans.

    Attributes:
        cases: how many scans.
        spans: of each measure: those of `percentile_names` of each channel, `IN_PLANE`, `ACROSS` and `SIDE`.
        structure_ml: volume of each structure by name, over the scans that hold it.
        brightest: where the brightest voxels of the first channel lie, along each of `WAYS`; empty in older cards.
        places: the same of each structure by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cases: int
    spans: dict[str, Span]
    structure_ml: dict[str, Span]
    brightest: tuple[Span, ...] = ()
    places: dict[str, tuple[Span, ...]] = {}

    def joined(self, other: Distribution) -> Distribution:
        """Span the scans of both; those of two folds of one data set are partly the same."""
        return Distribution(
            cases=max(self.cases, other.cases),
            spans=_join(self.spans, other.spans),
            structure_ml=_join(self.structure_ml, other.structure_ml),
            brightest=_both(self.brightest, other.brightest),
            places={
                name: _both(self.places.get(name, ()), other.places.get(name, ()))
                for name in self.places | other.places
            },
        )


def distribution_of(
    facts: Iterable[Mapping[str, Any]], scheme: LabelScheme, cases: Collection[str]
) -> Distribution | None:
    """Span the scans of a training.

    Args:
        facts: of each case, the plain values of `CaseFacts`, as `dataset.json` keeps them.
        scheme: which label values are one structure.
        cases: names of those that are meant.

    Returns:
        The spans; None where there are no facts of these cases.
    """
    chosen = [case for case in facts if case["case"] in cases]
    if not chosen:
        return None
    measures = [_measures_of_facts(case) for case in chosen]
    volumes = [_structure_ml(case["label_ml"], scheme) for case in chosen]
    held = {name: [ml[name] for ml in volumes if ml[name] > 0] for name in scheme.structures.values()}
    return Distribution(
        cases=len(chosen),
        spans={name: Span.of(v for one in measures for v in one[name]) for name in measures[0]},
        structure_ml={name: Span.of(ml) for name, ml in held.items() if ml},
        brightest=_spans([case["brightest"] for case in chosen if case.get("brightest")]),
        places=_places(chosen, scheme),
    )


def sample_voxels(scan: Volume) -> npt.NDArray[Any]:
    """Draw the same voxels of a scan every time, or take all where there are few."""
    if scan.array.size <= _SAMPLES:
        return scan.array.ravel()
    rng = np.random.default_rng(_SEED)
    drawn: npt.NDArray[Any] = scan.array[tuple(rng.integers(side, size=_SAMPLES) for side in scan.shape)]
    return drawn


def percentile_names(channel: str) -> dict[str, float]:
    """Name the measures of a channel's intensities."""
    of = "" if channel == ONE_CHANNEL else f"{channel}_"
    return {f"{of}{name}": percentile for name, percentile in PERCENTILES.items()}


def measure(channels: Mapping[str, Volume], voxels: Mapping[str, npt.NDArray[Any]]) -> Measures:
    """Take the measures of a scan, the percentiles of each channel from a sample of its voxels."""
    percentiles = {
        name: np.percentile(sample.astype(np.float64), list(PERCENTILES.values())).tolist()
        for name, sample in voxels.items()
    }
    scan = next(iter(channels.values()))
    return _measures(percentiles, scan.shape, scan.spacing_mm, axis_codes(scan.affine))


def _measures_of_facts(facts: Mapping[str, Any]) -> Measures:
    percentiles = {name: channel["intensity_percentiles"] for name, channel in facts["channels"].items()}
    return _measures(percentiles, facts["shape"], facts["spacing_mm"], facts["orientation"])


def _measures(percentiles: Mapping[str, Any], shape: Any, spacing_mm: Any, orientation: str) -> Measures:
    within = [axis for axis, code in enumerate(orientation) if code not in _ACROSS_CODES]
    across = [axis for axis, code in enumerate(orientation) if code in _ACROSS_CODES]
    intensities = {
        name: [float(value)]
        for channel, values in percentiles.items()
        for name, value in zip(percentile_names(channel), values, strict=True)
    }
    return intensities | {
        IN_PLANE: [float(spacing_mm[axis]) for axis in within],
        ACROSS: [float(spacing_mm[axis]) for axis in across],
        SIDE: [float(shape[axis] * spacing_mm[axis]) for axis in within],
        HEIGHT: [float(shape[axis] * spacing_mm[axis]) for axis in across],
    }


def _structure_ml(label_ml: Mapping[Any, float], scheme: LabelScheme) -> dict[str, float]:
    """Add up the volumes of the label values that are one structure."""
    by_value = {int(value): float(ml) for value, ml in label_ml.items()}
    return {
        name: sum((by_value[value] for value in by_value if value in scheme.members[written]), 0.0)
        for written, name in scheme.structures.items()
    }


def _places(facts: Iterable[Mapping[str, Any]], scheme: LabelScheme) -> dict[str, tuple[Span, ...]]:
    """Span where each structure lies, weighting the label values that it is made of by their volumes."""
    found: dict[str, list[Place]] = {name: [] for name in scheme.structures.values()}
    for case in facts:
        places = {int(value): place for value, place in case.get("label_places", {}).items()}
        ml = {int(value): float(volume) for value, volume in case["label_ml"].items()}
        for written, name in scheme.structures.items():
            values = [value for value in scheme.members[written] if value in places and ml.get(value, 0) > 0]
            if values:
                found[name].append(mean_place([places[value] for value in values], [ml[value] for value in values]))
    return {name: _spans(places) for name, places in found.items() if places}


def _spans(places: Sequence[Sequence[float]]) -> tuple[Span, ...]:
    return tuple(Span.of(along) for along in zip(*places, strict=True))


def _both(one: tuple[Span, ...], other: tuple[Span, ...]) -> tuple[Span, ...]:
    if not (one and other):
        return one or other
    return tuple(a.joined(b) for a, b in zip(one, other, strict=True))


def _join(one: Mapping[str, Span], other: Mapping[str, Span]) -> dict[str, Span]:
    both = {name: one[name].joined(other[name]) for name in one.keys() & other.keys()}
    return {**one, **other, **both}
