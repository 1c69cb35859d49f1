"""Random changes of training slices, with MONAI. Images are interpolated, labels take the nearest voxel."""

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

from fullscale.config.schema import AugmentConfig


class Augmentation:
    """Augments one crop at a time; the same seed changes it in the same way."""

    def __init__(self, config: AugmentConfig, patch_size: tuple[int, int]) -> None:
        both, image = ["image", "label"], ["image"]
        p = config.probability
        self.transforms = Compose(
            [
                RandAffined(
                    both,
                    prob=p,
                    rotate_range=np.deg2rad(config.rotate_degrees),
                    scale_range=[config.scale, config.scale],
                    translate_range=[config.shift * side for side in patch_size],
                    mode=["bilinear", "nearest"],
                    padding_mode="border",
                ),
                RandFlipd(both, prob=config.flip, spatial_axis=1),
                RandGaussianNoised(image, prob=p, std=config.noise),
                RandShiftIntensityd(image, prob=p, offsets=config.intensity),
                RandScaleIntensityd(image, prob=p, factors=config.intensity),
                RandAdjustContrastd(image, prob=p, gamma=(1 - config.gamma, 1 / (1 - config.gamma))),
            ]
        )

    def __call__(
        self, image: npt.NDArray[np.float32], label: npt.NDArray[np.uint8], seed: int
    ) -> tuple[Tensor, Tensor]:
        """Change an image `[C, H, W]` and its label `[H, W]` alike; returns plain float32 and int64 tensors."""
        self.transforms.set_random_state(seed=seed)
        changed = self.transforms(
            {"image": torch.from_numpy(image), "label": torch.from_numpy(label.astype(np.float32))[None]}
        )
        plain = {name: convert_to_tensor(value, track_meta=False) for name, value in changed.items()}
        return plain["image"].float(), plain["label"][0].round().long()
