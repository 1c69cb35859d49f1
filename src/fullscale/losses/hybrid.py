"""The hybrid loss of UNet 3+ (section 2.2): pixel, patch and map at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from fullscale.errors import UsageError
from fullscale.losses.focal import FocalLoss
from fullscale.losses.iou import IoULoss
from fullscale.losses.ms_ssim import MSSSIMLoss


class HybridLoss(nn.Module):
    """Focal (pixels) plus MS-SSIM (patches) plus IoU (whole maps); equal weights in the paper.

    Args:
        weights: of focal, MS-SSIM and IoU, each at least 0 and not all 0.
        gamma: focus of the focal loss, at least 0; 0 is cross-entropy.
        alpha: weight of the foreground in the focal loss, between 0 and 1; None weighs all pixels alike.
        variant: of MS-SSIM: "paper" takes luminance at every scale, "wang" at the coarsest alone.
        smooth: pixels added to intersection and union of the IoU, above 0.

    Raises:
        UsageError: a setting is out of range.
    """

    def __init__(
        self,
        weights: Sequence[float] = (1.0, 1.0, 1.0),
        gamma: float = 2.0,
        alpha: float | None = None,
        variant: str = "paper",
        smooth: float = 1.0,
    ) -> None:
        super().__init__()
        if len(weights) != 3 or not all(math.isfinite(w) and w >= 0 for w in weights) or sum(weights) == 0:
            raise UsageError(f"weights are {tuple(weights)}: expected 3 numbers of at least 0, of focal, MS-SSIM, IoU")
        self.weights = tuple(weights)
        self.focal = FocalLoss(gamma, alpha)
        self.ms_ssim = MSSSIMLoss(variant)
        self.iou = IoULoss(smooth)

    def parts(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the three weighted scalars by name; they add up to the loss."""
        losses = {"focal": self.focal, "ms_ssim": self.ms_ssim, "iou": self.iou}
        return {
            name: weight * loss(logits, target)
            for weight, (name, loss) in zip(self.weights, losses.items(), strict=True)
        }

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Take logits `[B, C, *size]` and class indices `[B, *size]` to a scalar of at least 0."""
        parts = self.parts(logits, target)
        return parts["focal"] + parts["ms_ssim"] + parts["iou"]
