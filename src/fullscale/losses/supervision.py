"""The whole training loss: a segmentation loss on every supervised output, and the loss of presence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.errors import UsageError
from fullscale.losses._classes import at_least_float32
from fullscale.losses.truth import known_presence, may_hold, presence_of, truth_of

PRESENCE_WEIGHT = 0.1
"""Weight of the loss of presence beside that of the segmentation, unless another is given."""


def halving_weights(num_supervised: int) -> tuple[float, ...]:
    """Return the weights of supervised outputs, finest first, unless others are given: 1, 1/2, 1/4 and so on."""
    return tuple(0.5**level for level in range(num_supervised))


class Supervised(Protocol):
    """What a network gives in training: the `SegmentationOutput` of `fullscale.networks`, or anything like it."""

    @property
    def logits(self) -> Sequence[Tensor]:
        """`[B, C, *size]` each, finest first, all at the size of the target."""

    @property
    def presence(self) -> Tensor | None:
        """`[B, structures, 2]` logits of absent (0) and present (1), or None without guidance."""


@runtime_checkable
class HasParts(Protocol):
    """A loss that is the sum of several."""

    def parts(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return scalars by name that add up to the loss."""


class SupervisedTerms(NamedTuple):
    """The training loss and what it is made of.

    Attributes:
        total: segmentation plus presence times its weight; the scalar to derive.
        segmentation: weighted mean over the supervised outputs.
        presence: loss of presence before its weight; 0 without guidance.
        parts: parts of `segmentation` by name, detached, for logging; one called "segmentation" if the loss has none.
    """

    total: Tensor
    segmentation: Tensor
    presence: Tensor
    parts: dict[str, Tensor]


class SupervisedLoss(nn.Module):
    """Deep supervision and classification guidance (UNet 3+, sections 2.2 and 2.3), as far as the truth is known.

    Here alone it is decided what a loss is shown of regions, of ignored voxels and of structures that nobody drew; see
    `Truth.shown`. What is not known is shown as background that is predicted with certainty. So it has no gradient,
    and it counts in a mean: a crop of which half is ignored has half the cross-entropy, each known voxel weighing the
    same wherever it lies; an overlap is that of the known voxels, or 1 where the structure is in none; and the local
    means of MS-SSIM see two equal maps there.

    Args:
        segmentation_loss: called with logits `[B, C, *size]` and class indices `[B, *size]`, or with the truth of
            independent channels `[B, C, *size]` where there are regions.
        level_weights: one for each supervised output, finest first; None is `halving_weights`. The paper weighs all
            alike. They are divided by their sum, so that a network with one output and one with five have losses of
            one size.
        presence_weight: of the loss of presence, at least 0; None is `PRESENCE_WEIGHT`. The paper has 1.
        regions: `[structures, classes]` whether each structure is made of each class, where structures may overlap and
            each is a channel of its own; None where classes are exclusive.

    Raises:
        UsageError: a weight is negative, or all level weights are 0.
    """

    regions: Tensor | None

    def __init__(
        self,
        segmentation_loss: nn.Module,
        level_weights: Sequence[float] | None = None,
        presence_weight: float | None = None,
        regions: Tensor | None = None,
    ) -> None:
        super().__init__()
        weights = None if level_weights is None else tuple(level_weights)
        if weights is not None and (not all(math.isfinite(w) and w >= 0 for w in weights) or sum(weights) == 0):
            raise UsageError(f"level_weights are {weights}: expected numbers of at least 0, one of them above 0")
        presence_weight = PRESENCE_WEIGHT if presence_weight is None else presence_weight
        if not (math.isfinite(presence_weight) and presence_weight >= 0):
            raise UsageError(f"presence_weight is {presence_weight!r}: expected a number of at least 0")
        self.segmentation_loss = segmentation_loss
        self.level_weights = weights
        self.presence_weight = presence_weight
        # Not part of the state: a checkpoint of a run without regions stays what it was.
        self.register_buffer("regions", regions, persistent=False)

    def forward(self, output: Tensor | Supervised, target: Tensor, known: Tensor | None = None) -> SupervisedTerms:
        """Take what a network returns in training and class indices `[B, *size]` to the training loss.

        Args:
            output: logits `[B, C, *size]`, or several of them with presence.
            target: class indices `[B, *size]`, `IGNORED` where nothing is known.
            known: `[B, structures]` whether each structure was drawn in an image at all; None where all were.

        Raises:
            UsageError: logits, presence, target and level weights do not belong together.
        """
        outputs, told = ([output], None) if isinstance(output, Tensor) else (output.logits, output.presence)
        weights = self._weights_of(len(outputs))
        truth = truth_of(target, known, self.regions)
        levels = [self._parts_of(truth.shown(logits), truth.target) for logits in outputs]
        parts = {
            name: torch.stack([weight * level[name] for weight, level in zip(weights, levels, strict=True)]).sum()
            for name in levels[0]
        }
        segmentation = torch.stack(list(parts.values())).sum()
        presence = segmentation.new_zeros(())
        if told is not None:
            presence = presence_loss(told, *self.presence_of(target, known, outputs[0].shape[1]))
        total = segmentation + self.presence_weight * presence
        return SupervisedTerms(total, segmentation, presence, {name: part.detach() for name, part in parts.items()})

    def presence_of(self, target: Tensor, known: Tensor | None, channels: int) -> tuple[Tensor, Tensor]:
        """Say which structures each image holds, and of which that is known, both `[B, structures]` bool.

        Args:
            target: class indices `[B, *size]`, `IGNORED` where nothing is known.
            known: as in `forward`.
            channels: of the network.
        """
        present = presence_of(target, channels, self.regions)
        return present, known_presence(target, present, known)

    def _weights_of(self, outputs: int) -> list[float]:
        weights = self.level_weights or halving_weights(outputs)
        if len(weights) != outputs or outputs == 0:
            raise UsageError(
                f"level_weights has {len(weights)} values for {outputs} supervised output(s): "
                "expected one for each, finest first, or None to halve them"
            )
        return [weight / sum(weights) for weight in weights]

    def _parts_of(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        if isinstance(self.segmentation_loss, HasParts):
            return self.segmentation_loss.parts(logits, target)
        return {"segmentation": self.segmentation_loss(logits, target)}


def presence_loss(presence: Tensor, truth: Tensor, known: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of every structure being absent or present, as far as that is known; 0 if nowhere.

    The softmax of the two logits is the sigmoid of their difference, so this is the paper's binary cross-entropy
    taken on "present minus absent": the very number whose sign is the arg-max that gates. Two sigmoids by
    themselves, as in the paper's figure, would train two numbers of which neither decides.

    Args:
        presence: `[B, structures, 2]` logits, index 0 absent, 1 present.
        truth: `[B, structures]` bool, from `presence_of`.
        known: `[B, structures]` bool, where that is the truth; None is everywhere.

    Raises:
        UsageError: the shapes do not belong together.
    """
    if presence.shape != (*truth.shape, 2):
        raise UsageError(f"presence has shape {list(presence.shape)}: expected {[*truth.shape, 2]}")
    logits, wanted = at_least_float32(presence).flatten(0, 1), truth.long().flatten()
    if known is None or not may_hold(~known):
        return F.cross_entropy(logits, wanted)
    total = F.cross_entropy(logits, wanted.masked_fill(~known.flatten(), -100), ignore_index=-100, reduction="sum")
    return total / known.sum().clamp_min(1)
