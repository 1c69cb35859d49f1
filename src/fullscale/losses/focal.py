"""Focal loss: cross-entropy in which well classified pixels count little (Lin et al., ICCV 2017)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fullscale.errors import UsageError
from fullscale.losses._classes import log_probability_of_truth


def focal_loss(logits: Tensor, target: Tensor, gamma: float = 2.0, alpha: float | None = None) -> Tensor:
    """Mean over pixels of `-alpha_t (1 - p_t)^gamma log p_t`, p_t being the probability of the true class.

    Lin et al. 2017, equations 4 and 5, computed from logits. For the arguments see `FocalLoss`.
    """
    log_p = log_probability_of_truth(logits, target)
    miss = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
    loss = -(miss**gamma) * log_p
    if alpha is not None:
        loss = torch.where(target > 0, alpha * loss, (1 - alpha) * loss)
    return loss.mean()


class FocalLoss(nn.Module):
    """Focal loss over all pixels, background included.

    The default leaves alpha out. Lin's 0.25 weighs a structure pixel a third as much as a background pixel; it was
    chosen for detection, where boxes are decided by a ranking. A segmentation is decided at probability 1/2 (or by
    arg-max), and there 0.25 would call structure only what is structure with a probability above 3/4: masks too small.

    Args:
        gamma: focus, at least 0; 0 is cross-entropy. Lin's choice is 2.
        alpha: weight of every foreground class, `1 - alpha` being that of the background, between 0 and 1; None
            weighs all pixels alike (1, not 1/2). Of several classes, foreground is every class but 0.

    Raises:
        UsageError: gamma or alpha is out of range.
    """

    def __init__(self, gamma: float = 2.0, alpha: float | None = None) -> None:
        super().__init__()
        if not (math.isfinite(gamma) and gamma >= 0):
            raise UsageError(f"gamma is {gamma!r}: expected a number of at least 0")
        if alpha is not None and not 0 < alpha < 1:
            raise UsageError(f"alpha is {alpha!r}: expected a number between 0 and 1, or None")
        self.gamma = gamma
        self.alpha = alpha

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Take logits `[B, C, *size]` and class indices `[B, *size]` to a scalar of at least 0."""
        return focal_loss(logits, target, self.gamma, self.alpha)
