"""What a predictor asks of whatever computes a network."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Runtime(Protocol):
    """Computes one network. Letters: B batch, C its input channels."""

    @property
    def device(self) -> torch.device:
        """Where it wants its images, and where its logits are."""

    def describe(self) -> str:
        """Say in a few words what computes, in which precision and where."""

    def logits(self, image: Tensor) -> Tensor:
        """Take images `[B, C, H, W]` to float32 logits `[B, channels, H, W]`, absent structures gated."""

    def segment(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return float32 logits as they are before any gate that can be left out, and presence.

        Presence is `[B, structures, 2]`, index 0 absent and 1 present, or None where nothing is said of it: the network
        has no guidance, or its gate cannot be left out.
        """
