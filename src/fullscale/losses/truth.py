"""What of the truth is known, and how losses are shown the rest: as nothing that could be learned from.

Letters: B batch, C channels, S structures; size is H W of slices or D H W of patches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fullscale.errors import UsageError
from fullscale.losses import IGNORED
from fullscale.losses._classes import at_least_float32


@dataclass(frozen=True)
class Truth:
    """The truth of a batch as losses are shown it, and what the logits must be changed to for that.

    Attributes:
        target: class indices `[B, *size]`, or of independent channels `[B, C, *size]`; what is not known is background.
        ignored: `[B, 1, *size]` voxels of which nothing is known, or None where there are certainly none.
        unknown: `[B, S]` structures that nobody drew in an image, or None where certainly all were.
    """

    target: Tensor
    ignored: Tensor | None
    unknown: Tensor | None

    def shown(self, logits: Tensor) -> Tensor:
        """Change logits `[B, C, *size]` so that what is not known costs nothing, whatever they say of it.

        An ignored voxel becomes background that is predicted with certainty. So does a channel of its own that is
        unknown. Among exclusive classes an unknown structure is part of the background: the background's logit becomes
        the log of the sum of both (marginal loss: Fidon et al., MICCAI 2021; Shi et al., Medical Image Analysis 2021),
        and the structure's own the lowest there is. None of these have a gradient that tells what is not known.
        """
        if self.ignored is None and self.unknown is None:
            return logits
        logits = at_least_float32(logits)
        lowest = torch.finfo(logits.dtype).min / 2
        independent = logits.shape[1] == 1 or self.target.ndim == logits.ndim
        first = 0 if independent else 1
        background, structures = logits[:, :first], logits[:, first:]
        if self.unknown is not None:
            unknown = _over_space(self.unknown, logits)
            if not independent:
                together = torch.cat([background, structures.masked_fill(~unknown, -torch.inf)], dim=1)
                background = torch.where(unknown.any(1, keepdim=True), together.logsumexp(1, keepdim=True), background)
            structures = structures.masked_fill(unknown, lowest)
        if self.ignored is not None:
            background = background.masked_fill(self.ignored, 0)
            structures = structures.masked_fill(self.ignored, lowest)
        return torch.cat([background, structures], dim=1)


def truth_of(target: Tensor, known: Tensor | None, regions: Tensor | None) -> Truth:
    """Read the truth of a batch.

    Args:
        target: `[B, *size]` class indices, `IGNORED` where nothing is known.
        known: `[B, S]` whether each structure was drawn in an image; None where all were.
        regions: `[S, classes]` whether each structure is made of each class, where structures may overlap; else None.

    Raises:
        UsageError: the target holds a class that the regions do not know.
    """
    ignored = target == IGNORED
    some_ignored = may_hold(ignored)
    target = target.masked_fill(ignored, 0) if some_ignored else target
    unknown = ~known if known is not None and may_hold(~known) else None
    if regions is not None:
        target = _channels_of(target, regions)
    if unknown is not None:
        target = _without(target, unknown, independent=regions is not None)
    return Truth(target, ignored.unsqueeze(1) if some_ignored else None, unknown)


def may_hold(mask: Tensor) -> bool:
    """Say whether a bool tensor may hold anything: it is looked at on the CPU only, where that costs no wait.

    One without content, of which only the cost is asked, holds nothing.
    """
    return not mask.is_meta and (mask.device.type != "cpu" or bool(mask.any()))


def presence_of(target: Tensor, classes: int, regions: Tensor | None = None) -> Tensor:
    """Say which structures each slice or patch holds.

    Args:
        target: `[B, *size]` class indices; `IGNORED` is none of them.
        classes: channels of the network: 1 has the one structure 1, more have the structures 1 to `classes - 1`.
        regions: `[S, classes]` whether each structure is made of each class, where structures may overlap.

    Returns:
        `[B, S]` bool.
    """
    if regions is not None:
        held = presence_of(target, regions.shape[1])
        return (held.unsqueeze(1) & regions[:, 1:].to(held.device)).any(dim=-1)
    structures = torch.arange(1, max(2, classes), device=target.device)
    return (target.flatten(1).unsqueeze(1) == structures[:, None]).any(dim=-1)


def known_presence(target: Tensor, present: Tensor, known: Tensor | None) -> Tensor:
    """Say of which structures it is known whether a slice or patch holds them, `[B, S]` bool.

    That is not known of a structure that nobody drew. Nor is it where voxels are ignored and the others do not show
    the structure; where they do, it is present.
    """
    whole = ~(target == IGNORED).flatten(1).any(dim=1, keepdim=True)
    told = whole | present
    return told if known is None else told & known


def _channels_of(target: Tensor, regions: Tensor) -> Tensor:
    """Turn class indices `[B, *size]` into the truth of independent channels, uint8 `[B, S, *size]`."""
    if target.device.type == "cpu" and target.numel() and int(target.max()) >= regions.shape[1]:
        raise UsageError(
            f"target holds the class {int(target.max())}: expected 0 to {regions.shape[1] - 1}, those of the regions"
        )
    found: Tensor = regions.to(target.device, torch.uint8)[:, target.long()]
    return found.movedim(0, 1)


def _without(target: Tensor, unknown: Tensor, independent: bool) -> Tensor:
    """Take unknown structures out of a target: they are part of the background."""
    if independent:
        return target.masked_fill(_over_space(unknown, target), 0)
    background = torch.nn.functional.pad(unknown, (1, 0))
    hidden = background.gather(1, target.flatten(1).long()).reshape(target.shape)
    return target.masked_fill(hidden, 0)


def _over_space(by_structure: Tensor, maps: Tensor) -> Tensor:
    """Spread `[B, S]` over the space of maps `[B, ?, *size]`."""
    return by_structure.reshape(*by_structure.shape, *[1] * (maps.ndim - 2))
