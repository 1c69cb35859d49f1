"""How voxel values are brought to what a network sees: in HU by the structures, else scan by scan."""

from __future__ import annotations

import numpy as np

from fullscale.data.checks import CaseFacts, ChannelFacts
from fullscale.data.label_plan import Choice
from fullscale.data.recipe import Counted, Intensity
from fullscale.geometry.units import Unit

PADDED = 0.25
"""Part of a scan that has the value of all its corners, as around a brain that was cut out, from which that value no
longer counts in the statistics of the scan."""
MOSTLY_EMPTY = 0.75
"""Part of a scan that is 0, wherever, from which 0 no longer counts in its statistics."""


def plan_intensities(modality: str, facts: list[CaseFacts]) -> Choice[Intensity | dict[str, Intensity]]:
    """Choose for each channel by its own modality, which its name may tell: the channel "CT" is in HU.

    Args:
        modality: of the data set, as its plan names it.
        facts: of the usable cases.
    """
    names = list(facts[0].channels)
    if len(names) == 1:
        only = _intensity(modality, [f.channels[names[0]] for f in facts], facts[0].unit)
        return Choice(value=only.value, reason=only.reason)
    found = {
        name: _intensity(
            "CT" if name.upper() == "CT" else "the channel", [f.channels[name] for f in facts], facts[0].unit
        )
        for name in names
    }
    why = {choice.reason: [name for name, other in found.items() if other == choice] for choice in found.values()}
    return Choice(
        value={name: choice.value for name, choice in found.items()},
        reason="; ".join(f"{', '.join(of)}: {reason}" for reason, of in why.items()),
    )


def _intensity(modality: str, facts: list[ChannelFacts], unit: Unit) -> Choice[Intensity]:
    if modality != "CT":
        voxels, remark = _voxels_that_count(facts, unit)
        return Choice(
            value=Intensity(per="scan", voxels=voxels),
            reason=f"{modality} has no fixed unit: each scan is clipped at its own percentiles 0.5 and 99.5, then "
            f"brought to mean 0 and deviation 1{remark}",
        )
    structure = np.concatenate([f.foreground for f in facts])
    low, high = np.percentile(structure, [0.5, 99.5])
    margin = max((high - low) / 2, 25.0)
    low, high = round(float(low - margin), 1), round(float(high + margin), 1)
    clipped = structure.clip(low, high)
    return Choice(
        value=Intensity(
            per="dataset",
            low=low,
            high=high,
            mean=round(float(clipped.mean()), 2),
            std=round(max(float(clipped.std()), (high - low) / 8), 2),
        ),
        reason=f"HU: percentiles 0.5 and 99.5 of {len(structure)} voxels of the structures, widened by half on either "
        "side to keep the surroundings apart; their mean, and their deviation but at least an eighth of the window",
    )


def _voxels_that_count(facts: list[ChannelFacts], unit: Unit) -> tuple[Counted, str]:
    """Choose the voxels of a scan that its statistics are taken of, and say what is left out."""
    padding = float(np.median([f.padding_fraction for f in facts]))
    if unit == "mm" and padding > PADDED:
        return "body", f"; the padding around the body, {padding:.0%} of the median scan, does not count"
    empty = [f.zero_fraction for f in facts if f.zero_fraction > MOSTLY_EMPTY]
    if empty:
        return "nonzero", f"; voxels that are 0, up to {max(empty):.1%} of a scan, do not count"
    return "all", ""
