"""What is asked of a scan besides its mask, from the same pass: probabilities, an uncertainty map, expected Dice."""

from __future__ import annotations

from dataclasses import dataclass

from fullscale.bundle.trust import Trust
from fullscale.geometry.volume import Volume
from fullscale.inference.predictor import Predictor
from fullscale.inference.trust.assess import StructureTrust, assess
from fullscale.inference.trust.counts import Counting
from fullscale.inference.trust.quality import knows
from fullscale.inference.trust.watch import Probabilities, Uncertainty, Watcher


@dataclass(frozen=True)
class Asked:
    """What looks on while one scan is segmented.

    Attributes:
        predictor: of the model.
        soft: keeps each structure's probability; None where it is not asked for.
        doubt: keeps the uncertainty map; None where it is not asked for.
        counted: counts voxels for the expected Dice and the width of boundaries; None where neither is to be told.
    """

    predictor: Predictor
    soft: Probabilities | None
    doubt: Uncertainty | None
    counted: Counting | None

    @classmethod
    def of(cls, predictor: Predictor, probabilities: bool = False, uncertainty: bool = False) -> Asked:
        """Choose what looks on; the expected Dice is told by itself, where the model knows of it and takes its time."""
        scheme, trust = predictor.card.scheme, predictor.card.trust
        counts = uncertainty or bool(_learned(predictor).quality)
        return cls(
            predictor,
            Probabilities(scheme, trust) if probabilities else None,
            Uncertainty(scheme, trust) if uncertainty else None,
            Counting(scheme, full_size=probabilities or uncertainty) if counts else None,
        )

    @property
    def notes(self) -> list[str]:
        """What cannot be told, though the model knows of it."""
        trust = self.predictor.card.trust or Trust()
        strange = [name for name, quality in trust.quality.items() if not knows(quality)]
        return [f"no expected Dice of {', '.join(strange)}: it was learned of other features"] if strange else []

    @property
    def watchers(self) -> list[Watcher]:
        """All of them."""
        return [watcher for watcher in (self.soft, self.doubt, self.counted) if watcher is not None]

    def probabilities(self, scan: Volume) -> dict[str, Volume]:
        """Return each structure's probability on the grid of the scan; none where it was not asked for."""
        return {} if self.soft is None else self.predictor.by_structure(self.soft.found, scan)

    def uncertainty(self, scan: Volume) -> Volume | None:
        """Return the uncertainty map on the grid of the scan; None where it was not asked for."""
        if self.doubt is None:
            return None
        return self.predictor.geometry(scan).to_volume(self.doubt.found, scan)

    def trust(self) -> dict[str, StructureTrust]:
        """Say how far to trust the mask of each structure; nothing where nothing was counted."""
        return {} if self.counted is None else assess(self.counted, _learned(self.predictor))


def _learned(predictor: Predictor) -> Trust:
    """Return what the model knows that holds here: with one member and without mirrors, it expects other masks."""
    trust = predictor.card.trust or Trust()
    here = {} if predictor.quick else {name: quality for name, quality in trust.quality.items() if knows(quality)}
    return trust.model_copy(update={"quality": here})
