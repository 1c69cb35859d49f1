"""Soft Dice, and its sum with cross-entropy: the usual rival of the hybrid loss (as in nnU-Net)."""

from __future__ import annotations

from torch import Tensor, nn

from fullscale.losses._classes import foreground, log_probability_of_truth, require_above_zero


def soft_dice(probability: Tensor, truth: Tensor, smooth: float = 1.0, batch_dice: bool = False) -> Tensor:
    """Return `(2 sum p g + smooth) / (sum p + sum g + smooth)` of each class.

    Args:
        probability: `[B, K, *size]`, in [0, 1].
        truth: `[B, K, *size]`, 0 or 1.
        smooth: voxels added above and below the line, above 0.
        batch_dice: sum over the whole batch as if it were one image, not over each image.

    Returns:
        `[K]` with `batch_dice`, else `[B, K]`; in (0, 1].
    """
    voxels = tuple(range(2, truth.ndim))
    summed = (0, *voxels) if batch_dice else voxels
    intersection = (probability * truth).sum(dim=summed)
    return (2 * intersection + smooth) / ((probability + truth).sum(dim=summed) + smooth)


class DiceLoss(nn.Module):
    """1 minus the soft Dice, averaged over foreground classes and, without `batch_dice`, over images.

    Args:
        smooth: voxels added above and below the line; empty truth and empty prediction then score a loss of 0.
        batch_dice: sum over the whole batch as if it were one image, not over each image.

    Raises:
        UsageError: smooth is not above 0.
    """

    def __init__(self, smooth: float = 1.0, batch_dice: bool = False) -> None:
        super().__init__()
        require_above_zero(smooth=smooth)
        self.smooth = smooth
        self.batch_dice = batch_dice

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Take logits `[B, C, *size]` and class indices `[B, *size]` to a scalar in [0, 1]."""
        probability, truth = foreground(logits, target)
        return 1 - soft_dice(probability, truth, self.smooth, self.batch_dice).mean()


class CrossEntropyDiceLoss(nn.Module):
    """Cross-entropy (binary for one class) over all voxels plus `DiceLoss` over foreground classes, equal weights.

    `batch_dice` is on, as in nnU-Net's two-dimensional configuration: many slices hold no pixel of a structure, and
    one by one they would say little more than that.

    Args:
        smooth: voxels added above and below the line of the Dice, above 0.
        batch_dice: sum over the whole batch as if it were one image, not over each image.

    Raises:
        UsageError: smooth is not above 0.
    """

    def __init__(self, smooth: float = 1.0, batch_dice: bool = True) -> None:
        super().__init__()
        self.dice = DiceLoss(smooth, batch_dice)

    def parts(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the two scalars by name; they add up to the loss."""
        return {
            "cross_entropy": -log_probability_of_truth(logits, target).mean(),
            "dice": self.dice(logits, target),
        }

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Take logits `[B, C, *size]` and class indices `[B, *size]` to a scalar of at least 0."""
        parts = self.parts(logits, target)
        return parts["cross_entropy"] + parts["dice"]
