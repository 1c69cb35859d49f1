"""Multi-scale structural similarity of a segmentation and its truth (UNet 3+, section 2.2; Wang et al. 2003).

Letters: B batch, K foreground classes, M scales; size is H W of slices or D H W of patches; p prediction, g truth; mu
and sigma local mean and deviation under a Gaussian window; luminance l = (2 mu_p mu_g + C1) / (mu_p^2 + mu_g^2 + C1),
contrast and structure cs = (2 sigma_pg + C2) / (sigma_p^2 + sigma_g^2 + C2).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.errors import UsageError
from fullscale.losses._classes import foreground, require_above_zero

C1 = 0.01**2
C2 = 0.03**2
WANG_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, finest first (Wang et al. 2003)."""

FLOOR = 1e-5
"""The smallest mean that enters the product: a tenth of the least that luminance can be."""

_VARIANTS = ("paper", "wang")


def ms_ssim(
    probability: Tensor,
    truth: Tensor,
    variant: str = "paper",
    window: int = 11,
    sigma: float = 1.5,
    weights: Sequence[float] = WANG_WEIGHTS,
) -> Tensor:
    """Return the similarity of each image and class: a product of powers over the scales, finest first.

    "paper": `mean(l)^w * mean(cs)^w` of every scale, w being its weight (beta = gamma) and the means being taken over
    all positions of the window. "wang": `mean(cs)^w`, and `mean(l * cs)^w` for the coarsest scale. Windows lie wholly
    inside the image. A scale follows from the one before by averaging 2x2 pixels; a last odd row or column is averaged
    by itself, as in Wang's own code. Of patches, windows and averages span all three axes. Small images: see
    `fit_scales`.

    Prediction and truth that vary against each other make a mean negative, of which there is no power. For a mean
    below `FLOOR` the product takes `FLOOR`, and `w * (FLOOR - mean)` is subtracted from the product. So the formula
    stands as it is wherever all means are at least `FLOOR`, and below, the similarity falls on to about -1 with the
    gradient of the mean itself: not blown up, and not zero before the contradiction is complete. (Close to that point
    "wang" may prefer a wrong luminance, since l multiplies a negative cs there; "paper" keeps them apart.)

    Args:
        probability: `[B, K, *size]`, in [0, 1], float32 or float64. On a GPU, float32 needs torch's default
            matrix precision ("highest"): variances are small differences.
        truth: `[B, K, *size]`, 0 or 1.
        variant: "paper" or "wang".
        window: side of the Gaussian window in pixels, odd.
        sigma: deviation of the Gaussian in pixels.
        weights: exponents of the scales, finest first.

    Returns:
        `[B, K]`; 1 for equal maps.
    """
    return _combine(*scale_means(probability, truth, variant, window, sigma, weights))


def scale_means(
    probability: Tensor, truth: Tensor, variant: str, window: int, sigma: float, weights: Sequence[float]
) -> tuple[list[Tensor], list[float]]:
    """Return the means `[B, K]` whose powers make the product, and their exponents; the finest scale comes first.

    Of the paper's variant these are luminance and contrast-structure of each scale in turn. For the arguments see
    `ms_ssim`.
    """
    window_used, weights_used = fit_scales(min(truth.shape[2:]), window, weights)
    means, powers = [], []
    with torch.autocast(device_type=truth.device.type, enabled=False):
        kernel = _gaussian(window_used, sigma * window_used / window, truth)
        for scale, weight in enumerate(weights_used):
            if scale > 0:
                probability, truth = (_halve(x) for x in (probability, truth))
            luminance, structure = _compare(probability, truth, kernel)
            if variant == "paper":
                terms = [luminance, structure]
            else:
                terms = [luminance * structure if scale == len(weights_used) - 1 else structure]
            means += [term.mean(dim=tuple(range(2, term.ndim))) for term in terms]
            powers += [weight] * len(terms)
    return means, powers


def fit_scales(shorter: int, window: int, weights: Sequence[float]) -> tuple[int, tuple[float, ...]]:
    """Fit window and scales to an image: as many scales as leave a whole window in the coarsest one.

    The weights of the scales left out go to those kept, in proportion: the kept ones are multiplied by one factor,
    so that the sum of the exponents stays. With a window of 11 and five weights, 161 pixels and more keep all five
    scales, 81 four, 41 three, 21 two. Under 11 pixels one scale is left, and the window shrinks to the largest odd
    number that fits (sigma shrinks with it in `ms_ssim`).

    Args:
        shorter: shortest side of the image or patch in voxels.
        window: side of the Gaussian window in pixels, odd.
        weights: exponents of the scales, finest first.

    Returns:
        The window to use, and the exponents of the scales to use.
    """
    window = min(window, shorter - 1 + shorter % 2)
    kept = 1
    while kept < len(weights) and -(-shorter // 2**kept) >= window:
        kept += 1
    factor = sum(weights) / sum(weights[:kept])
    return window, tuple(weight * factor for weight in weights[:kept])


class MSSSIMLoss(nn.Module):
    """1 minus the multi-scale structural similarity, averaged over images and foreground classes.

    Probabilities are compared with the truth as 0 and 1: of one class its sigmoid, of several each class's softmax
    but the background's. A class that an image does not hold counts too (an empty map is like an empty map). The
    value lies between 0 and about 2; above 1 only where prediction and truth vary against each other.

    For scales in small images and negative structure see `ms_ssim`.

    Args:
        variant: "paper" takes luminance at every scale, "wang" at the coarsest alone.
        window: side of the Gaussian window in pixels, odd.
        sigma: deviation of the Gaussian in pixels.
        weights: exponents of the scales, finest first.

    Raises:
        UsageError: a setting is out of range.
    """

    def __init__(
        self,
        variant: str = "paper",
        window: int = 11,
        sigma: float = 1.5,
        weights: Sequence[float] = WANG_WEIGHTS,
    ) -> None:
        super().__init__()
        if variant not in _VARIANTS:
            raise UsageError(f"variant is {variant!r}: expected one of {', '.join(_VARIANTS)}")
        if window < 1 or window % 2 != 1:
            raise UsageError(f"window is {window!r}: expected an odd number of pixels")
        if not weights:
            raise UsageError("weights are empty: expected one exponent for each scale, finest first")
        require_above_zero(sigma=sigma, **{f"weights[{i}]": weight for i, weight in enumerate(weights)})
        self.variant = variant
        self.window = window
        self.sigma = sigma
        self.weights = tuple(weights)

    def scales(self, size: Sequence[int]) -> int:
        """Return how many of its scales an image or patch of `size` is compared at."""
        return len(fit_scales(min(size), self.window, self.weights)[1])

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Take logits `[B, C, *size]` and class indices `[B, *size]` to a scalar of at least 0."""
        probability, truth = foreground(logits, target)
        return 1 - ms_ssim(probability, truth, self.variant, self.window, self.sigma, self.weights).mean()


def _gaussian(window: int, sigma: float, like: Tensor) -> Tensor:
    """Return `[window]` weights that add up to 1."""
    offset = torch.arange(window, dtype=like.dtype, device=like.device) - window // 2
    return (-(offset**2) / (2 * sigma**2)).softmax(dim=0)


def _halve(maps: Tensor) -> Tensor:
    """Average 2x2 pixels, or 2x2x2 voxels, and at an odd edge what there is of them."""
    if maps.ndim == 4:
        return F.avg_pool2d(maps, 2, ceil_mode=True)
    # torch refuses a kernel that is larger than a patch, where in two axes it takes what there is
    return F.avg_pool3d(maps, [min(2, side) for side in maps.shape[2:]], ceil_mode=True)


def _compare(probability: Tensor, truth: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Return luminance and contrast-structure of every window, both `[B, K, *positions]`: side - window + 1 each."""
    maps = torch.stack([probability, truth, probability**2 + truth**2, probability * truth])
    *planes, rows, columns = (_sliding(kernel, side) for side in truth.shape[2:])
    means = rows @ (maps @ columns.T)
    for plane in planes:  # the depth of a patch
        means = (plane @ means.transpose(-3, -2)).transpose(-3, -2)
    mean_p, mean_g, mean_squares, mean_product = means
    product, squares = mean_p * mean_g, mean_p**2 + mean_g**2
    luminance = (2 * product + C1) / (squares + C1)
    structure = (2 * (mean_product - product) + C2) / (mean_squares - squares + C2)
    return luminance, structure


def _sliding(kernel: Tensor, side: int) -> Tensor:
    """Return the matrix `[side - window + 1, side]` whose row i holds the kernel from column i on.

    Two products with it filter a map; on CPUs that is several times faster than a depthwise convolution and its
    gradient, even at 512 pixels.
    """
    positions = side - len(kernel) + 1
    return F.pad(kernel, (0, positions)).repeat(positions)[: positions * side].view(positions, side)


def _combine(means: Sequence[Tensor], powers: Sequence[float]) -> Tensor:
    """Multiply the powers of means `[B, K]`, with the linear continuation below `FLOOR`."""
    logarithms = [power * mean.clamp_min(FLOOR).log() for power, mean in zip(powers, means, strict=True)]
    shortfalls = [power * (FLOOR - mean).clamp_min(0) for power, mean in zip(powers, means, strict=True)]
    return torch.stack(logarithms).sum(dim=0).exp() - torch.stack(shortfalls).sum(dim=0)
