"""The changes of slices as earlier versions made them. Home of MONAI's transforms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandGaussianNoised,
    RandScaleIntensityd,
    RandShiftIntensityd,
)
from monai.utils import convert_to_tensor
from torch import Tensor


def slice_transforms(
    size: tuple[int, ...],
    probability: float,
    flip: float,
    *,
    rotate_degrees: float,
    scale: float,
    shift: float,
    noise: float,
    intensity: float,
    gamma: float,
) -> Compose:
    """Make the changes for slices of one size `(H, W)`, as MONAI counts a shift in pixels.

    The numbers are those of `DefaultAugmentation`.
    """
    both, image = ["image", "label"], ["image"]
    return Compose(
        [
            RandAffined(
                both,
                prob=probability,
                rotate_range=np.deg2rad(rotate_degrees),
                scale_range=[scale, scale],
                translate_range=[shift * side for side in size],
                mode=["bilinear", "nearest"],
                padding_mode="border",
            ),
            RandFlipd(both, prob=flip, spatial_axis=1),
            RandGaussianNoised(image, prob=probability, std=noise),
            RandShiftIntensityd(image, prob=probability, offsets=intensity),
            RandScaleIntensityd(image, prob=probability, factors=intensity),
            RandAdjustContrastd(image, prob=probability, gamma=(1 - gamma, 1 / (1 - gamma))),
        ]
    )


def change_slice(
    transforms: Compose, image: npt.NDArray[np.float32], label: npt.NDArray[np.uint8], seed: int
) -> tuple[Tensor, Tensor]:
    """Change an image `[C, H, W]` and its label `[H, W]` alike; returns plain float32 and int64 tensors."""
    transforms.set_random_state(seed=seed)
    changed = transforms({"image": torch.from_numpy(image), "label": torch.from_numpy(label.astype(np.float32))[None]})
    plain = {name: convert_to_tensor(value, track_meta=False) for name, value in changed.items()}
    return plain["image"].float(), plain["label"][0].round().long()
