"""What looks on while a scan is predicted: it sees each slab of slices once it is decided, and the whole in the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fullscale.bundle.trust import Trust
from fullscale.data.labels import LabelScheme
from fullscale.data.recipe import SliceGeometry
from fullscale.inference.combine import Combination
from fullscale.inference.trust.calibration import calibrated, entropy_bits

_BYTES_KEPT = 4
"""Of each voxel of a map: float16 as it comes, slab by slab, and once more when they are put together."""


class Slab(NamedTuple):
    """Some consecutive slices of a scan.

    Attributes:
        where: which.
        combined: what all members say of them.
        decided: their classes `[b, H, W]`.
    """

    where: slice
    combined: Combination
    decided: Tensor


class Watcher:
    """Looks on and keeps what it wants; this one keeps nothing.

    Attributes:
        whole: whether the whole scan must be seen, rather than what lies around the structures.
        full_size: whether `slab` must be told, at the size of the scan. Where no one needs that, decisions are quicker.
        kept: bytes of each voxel of the scan that it keeps, and hands on.
    """

    whole = False
    full_size = False
    kept = 0

    def member(self, where: slice, number: int, logits: Tensor) -> None:
        """See the logits `[b, channels, h, w]` of a member, in its own rows and columns or in those of the scan.

        Where `slab` is told, only several members are told one by one.
        """

    def slab(self, slab: Slab) -> None:
        """See some slices; again, where a box has grown over them."""

    def done(self, classes: npt.NDArray[np.uint8], geometry: SliceGeometry) -> None:
        """See the classes `[S, H, W]` of the whole scan, before post-processing."""


class _Keeping(Watcher):
    """Keeps what is made of the calibrated probabilities of every slab.

    Args:
        scheme: what the channels stand for.
        trust: the temperatures; None leaves probabilities as they are.
    """

    whole = full_size = True

    def __init__(self, scheme: LabelScheme, trust: Trust | None) -> None:
        self._scheme, self._temperatures = scheme, temperatures(scheme, trust)[:, None, None]
        self._slabs: list[npt.NDArray[np.float16]] = []
        self.kept = _BYTES_KEPT

    def slab(self, slab: Slab) -> None:
        """Keep what is made of `[b, K, H, W]`."""
        found = self._scheme.of_structures(slab.combined.probabilities()).cpu().numpy()
        self._slabs.append(self._made_of(calibrated(found, self._temperatures)).astype(np.float16))

    def _made_of(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return probabilities

    @property
    def found(self) -> npt.NDArray[np.float16]:
        """Of all slices, one after the other."""
        return np.concatenate(self._slabs)


class Probabilities(_Keeping):
    """Keeps the calibrated probability of each structure; arguments as of `Uncertainty`."""

    def __init__(self, scheme: LabelScheme, trust: Trust | None) -> None:
        super().__init__(scheme, trust)
        self.kept = _BYTES_KEPT * len(scheme.structures)

    @property
    def found(self) -> npt.NDArray[np.float16]:
        """`[K, S, H, W]`."""
        return super().found.swapaxes(0, 1)


class Uncertainty(_Keeping):
    """Keeps a map of the entropy of what members and mirror images say together.

    Of each structure it is the entropy in bits of being there or not, by the calibrated probability: 0 where that is
    certain, 1 where both are as likely. The map holds the highest over the structures.

    Args:
        scheme: what the channels stand for.
        trust: the temperatures; None leaves probabilities as they are.
    """

    def _made_of(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        highest: npt.NDArray[np.float32] = entropy_bits(probabilities).max(axis=1)
        return highest


def temperatures(scheme: LabelScheme, trust: Trust | None) -> npt.NDArray[np.float32]:
    """Return the temperature of each structure, in their order."""
    trust = trust or Trust()
    return np.array([trust.temperature(name) for name in scheme.structures.values()], dtype=np.float32)


Watchers = Sequence[Watcher]
