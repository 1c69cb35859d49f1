"""Changing the grey values of a crop at random: as other scanners, doses and settings would. No voxel moves.

Each function takes an image `[C, *size]` of 2 or 3 axes, normalised to about mean 0 and deviation 1, and returns a new
one. All its channels change alike.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def lower_resolution(image: Tensor, zoom: float) -> Tensor:
    """Keep the nearest of every `1 / zoom` voxels along each axis, and interpolate linearly between them."""
    size = image.shape[1:]
    coarse = [max(1, round(side * zoom)) for side in size]
    mode = "bilinear" if len(size) == 2 else "trilinear"
    kept = F.interpolate(image[None], coarse, mode="nearest-exact")
    return F.interpolate(kept, list(size), mode=mode, align_corners=False)[0]


def add_noise(image: Tensor, deviation: float, rng: np.random.Generator) -> Tensor:
    """Add Gaussian noise."""
    noise = torch.from_numpy(rng.standard_normal(tuple(image.shape), dtype=np.float32))
    return image + deviation * noise


def change_gamma(image: Tensor, gamma: float, inverted: bool) -> Tensor:
    """Raise the grey values, brought to 0 to 1 by their own range, to the power `gamma`, and bring them back.

    Inverted, bright and dark change places for it: the power then stretches the bright values.
    """
    low, high = (float(value) for value in image.aminmax())
    if high <= low:
        return image
    unit = ((image - low) / (high - low)).clamp(0, 1)
    changed = 1 - (1 - unit) ** gamma if inverted else unit**gamma
    return low + (high - low) * changed
