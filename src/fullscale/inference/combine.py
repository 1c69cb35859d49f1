"""From the logits of one member, or of several, to a decision."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fullscale.data.labels import LabelScheme


class Combination:
    """What the members say of some slices: one member's logits, or the mean of several members' probabilities.

    Probabilities are added up one member after the other, so that an ensemble takes no more memory than two of its
    members.

    Args:
        scheme: what the channels stand for.
    """

    def __init__(self, scheme: LabelScheme) -> None:
        self._scheme = scheme
        self._members = 0
        self._logits: Tensor | None = None
        self._total: Tensor | None = None

    def add(self, logits: Tensor) -> None:
        """Add the float32 logits `[B, channels, H, W]` of a further member."""
        self._members += 1
        if self._members == 1:
            self._logits = logits
            return
        with torch.inference_mode():
            total = self.probabilities() if self._total is None else self._total
            self._total = total + self._activated(logits)
            self._logits = None

    def decide(self) -> Tensor:
        """Return class indices uint8 `[B, H, W]`; one member decides by its logits."""
        if self._logits is not None:
            decided: Tensor = self._scheme.decide(self._logits)
        else:
            decided = self._scheme.decide_probabilities(self.probabilities())
        return decided.to(torch.uint8)

    def probabilities(self) -> Tensor:
        """Return the mean probability of each channel `[B, channels, H, W]`."""
        with torch.inference_mode():
            if self._logits is not None:
                return self._activated(self._logits)
            assert self._total is not None
            return self._total / self._members

    def possible(self, least: float, besides: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Find the voxels in which some structure may be, without the probabilities of all others.

        Args:
            least: probability of a structure, below one half, from which a voxel is among them.
            besides: further voxels, bool `[B, H, W]`.

        Returns:
            Which voxels, bool `[B, H, W]`, among them all with that probability, and the float32 probabilities of the
            structures in each `[voxels, structures]` on the CPU.
        """
        with torch.inference_mode():
            maps = self.probabilities() if self._logits is None else self._logits
            score = self._scheme.of_structures(maps).amax(dim=1)
            if self._logits is None:
                found = score >= least
            elif self._scheme.activation == "softmax":
                found = score - maps[:, 0] >= math.log(least)  # the background has at most all of the rest
            else:
                found = score >= math.log(least / (1 - least))
            found = found if besides is None else found | besides
            voxels = maps.movedim(1, -1)[found]
            chosen = voxels if self._logits is None else self._activated(voxels)
            return found, self._scheme.of_structures(chosen).float().cpu()

    def _activated(self, logits: Tensor) -> Tensor:
        return logits.sigmoid() if self._scheme.activation == "sigmoid" else logits.softmax(dim=1)
