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
        self.counted = Counting(self.card.scheme)
        return super().watched(channels, [*watchers, self.counted], progress, stages)

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
    by_structure = zip(card.structures.values(), counted.together.sum(axis=1), counted.shapes, strict=True)
    for name, (outside, inside), shape in by_structure:
        if shape is not None:
            soft = expit(CENTRES / trust.temperature(name))
            found.append(2 * (inside * soft).sum() / (((outside + inside) * soft).sum() + inside.sum()))
    return NOTHING_FOUND if not found else 1.0 - float(sum(found) / len(found))
