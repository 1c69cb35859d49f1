"""Soft intersection over union, image by image (Máttyus et al., DeepRoadMapper, ICCV 2017)."""

from __future__ import annotations

from torch import Tensor, nn

from fullscale.losses._classes import foreground, require_above_zero


def soft_iou(probability: Tensor, truth: Tensor, smooth: float = 1.0) -> Tensor:
    """Return `(sum p g + smooth) / (sum (p + g - p g) + smooth)` over the pixels of each image and class.

    Máttyus et al. 2017, equation 2, is the case without smoothing.

    Args:
        probability: `[B, K, *size]`, in [0, 1].
        truth: `[B, K, *size]`, 0 or 1.
        smooth: pixels added to the intersection and to the union, above 0.

    Returns:
        `[B, K]`, in (0, 1].
    """
    voxels = tuple(range(2, truth.ndim))
    intersection = (probability * truth).sum(dim=voxels)
    union = (probability + truth).sum(dim=voxels) - intersection
    return (intersection + smooth) / (union + smooth)


class IoULoss(nn.Module):
    """1 minus the soft intersection over union, averaged over images and foreground classes.

    `smooth` is counted in pixels. With the default of 1 a structure that is absent from the truth scores a loss of 0
    if the prediction is empty, and `m / (m + 1)` for a predicted mass of m pixels: finite, with a gradient that
    still tells one false pixel from two. A predicted structure of 100 pixels moves by less than 0.01.

    Args:
        smooth: pixels added to the intersection and to the union, above 0.

    Raises:
        UsageError: smooth is not above 0.
    """

    def __init__(self, smooth: float = 1.0) -> None:
        super().__init__()
        require_above_zero(smooth=smooth)
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Take logits `[B, C, *size]` and class indices `[B, *size]` to a scalar in [0, 1]."""
        probability, truth = foreground(logits, target)
        return 1 - soft_iou(probability, truth, self.smooth).mean()
