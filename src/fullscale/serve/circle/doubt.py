"""How little a model is sure of its own mask: one number a case, from the pass that makes the mask.

It is 1 less the mean, over the structures that the mask holds, of the soft Dice of the calibrated probabilities and the
mask. That says how far the model doubts, not how far it errs: what it is wrongly sure of comes last.
"""

from __future__ import annotations

from collections.abc import Mapping

from scipy.special import expit

from fullscale.bundle.card import Card
from fullscale.bundle.trust import Trust
from fullscale.geometry.volume import Volume
from fullscale.inference.predictor import Predictor
from fullscale.inference.stages import Stages
from fullscale.inference.trust.calibration import CENTRES
from fullscale.inference.trust.counts import Counting
from fullscale.inference.trust.watch import Watchers
from fullscale.progress import Progress, ignore

NOTHING_FOUND = 1.0
"""Doubt of a mask without any structure."""


class DoubtingPredictor(Predictor):
    """A predictor that remembers how sure it was of its last mask.

    Attributes:
        counted: voxels of the last scan by their probability; None before the first.
    """

    counted: Counting | None = None

    def watched(
        self,
        channels: Mapping[str, Volume],
        watchers: Watchers,
        progress: Progress = ignore,
        stages: Stages | None = None,
    ) -> Volume:
        """Segment a scan; see `Predictor.watched`."""
        several = len(self.members) > 1  # one alone is counted at its own size, which leaves masks their quick way
        counted = (watcher for watcher in watchers if isinstance(watcher, Counting))
        self.counted = next((one for one in counted if one.full_size or not several), None)
        if self.counted is None:
            self.counted = Counting(self.card.scheme, full_size=several)
            watchers = [*watchers, self.counted]
        return super().watched(channels, watchers, progress, stages)

    @property
    def doubt(self) -> float | None:
        """Of the last mask, from 0 to 1; None before the first."""
        return None if self.counted is None else doubt_of(self.counted, self.card)


def doubt_of(counted: Counting, card: Card) -> float:
    """Return how little a model is sure of a mask, from 0 to 1.

    Args:
        counted: its voxels.
        card: of the model.
    """
    trust, found = card.trust or Trust(), list[float]()
    counts = counted.together if counted.full_size else counted.of_members[0][0]
    by_structure = zip(card.structures.values(), counts.sum(axis=1), counted.shapes, strict=True)
    for name, (outside, inside), shape in by_structure:
        if shape is not None:
            soft = expit(CENTRES / trust.temperature(name))
            found.append(2 * (inside * soft).sum() / (((outside + inside) * soft).sum() + inside.sum()))
    return NOTHING_FOUND if not found else 1.0 - float(sum(found) / len(found))
