"""What only many cases together show: one that is unlike the others, and a structure that every scan cuts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from fullscale.data.case import WHOLE_SET, Problem
from fullscale.geometry.units import LENGTH

if TYPE_CHECKING:
    from fullscale.data.checks import CaseFacts

SAME_IN_MANY = 3
"""Cases with one and the same warning from which it is said of the data set, once."""
_FAR_SPACING = 8.0


def outliers(facts: list[CaseFacts], modality: str | None) -> Iterator[Problem]:
    """Say which cases are unlike the others, as a wrong unit or a wrong scale makes them."""
    typical = np.median([f.spacing_mm for f in facts], axis=0)
    for f in facts:
        ratio = max(max(a / b, b / a) for a, b in zip(f.spacing_mm, typical, strict=True))
        if ratio > _FAR_SPACING:
            spacings = (" x ".join(f"{mm:.4g}" for mm in three) for three in (f.spacing_mm, typical))
            text = "its spacing is {} {unit}, most have about {}; is it right?".format(*spacings, unit=LENGTH[f.unit])
            yield Problem(f.case, text, "warning")
        [*others, channel] = f.channels.values()
        if (modality or "").upper() == "CT" and not others and channel.intensity_min >= 0:
            text = f"declared as CT, but its lowest voxel is {channel.intensity_min:g}, where air has -1000 HU"
            yield Problem(f.case, f"{text}; is an offset or a scale left?", "warning")


def always_cut(facts: list[CaseFacts], labels: Mapping[int, str]) -> Iterator[Problem]:
    """Say which structures reach the border of every scan: they may go on outside."""
    for value, name in labels.items():
        holding = [f for f in facts if value and f.label_voxels.get(value) and f.unit == "mm"]  # images show a part
        if len(holding) >= SAME_IN_MANY and all(value in f.at_border for f in holding):
            text = f"'{name}' reaches the border of all {len(holding)} scans that hold it"
            yield Problem(WHOLE_SET, f"{text}: it may be cut there, and its volume too small", "warning")
