"""Random changes of training crops: ours, with MONAI, or anybody's who keeps the protocol."""

from __future__ import annotations

from typing import Protocol

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

from fullscale.errors import UsageError
from fullscale.registry import Registry


class Augmentation(Protocol):
    """Changes one training crop. A class of this kind needs nothing of ours, and is sent to worker processes."""

    def __call__(
        self, image: npt.NDArray[np.float32], label: npt.NDArray[np.uint8], seed: int
    ) -> tuple[Tensor, Tensor]:
        """Change an image and its label alike; the same seed changes them in the same way.

        Args:
            image: `[C, H, W]`, neighbouring slices as channels, normalised to about mean 0 and deviation 1.
            label: `[H, W]`, class indices, 0 for the background.
            seed: of all random numbers; nothing else may decide.

        Returns:
            The image, float32, and the label, int64, both of the size that came in.
        """


AUGMENTATIONS: Registry[Augmentation] = Registry(
    kind="augmentation",
    table={"default": "fullscale.training.augment:DefaultAugmentation"},
    group="fullscale.augmentations",
)
"""Every augmentation by its name."""


class DefaultAugmentation:
    """Rotation, zoom and shift at once, then noise, offset, contrast and gamma. None of them can invent a label.

    Images are interpolated, labels take the nearest pixel.

    Args:
        probability: chance of each change below, flips apart.
        rotate_degrees: largest rotation either way.
        scale: largest zoom either way, as a fraction.
        shift: largest shift either way, as a fraction of the side.
        flip: chance of a left-right mirror; 0 where sides matter.
        noise: deviation of Gaussian noise, in normalised units.
        intensity: largest change of offset and of contrast, as a fraction.
        gamma: largest change of gamma either way, from 1.

    Raises:
        UsageError: a number is out of range.
    """

    def __init__(
        self,
        probability: float = 0.5,
        rotate_degrees: float = 15.0,
        scale: float = 0.2,
        shift: float = 0.1,
        flip: float = 0.0,
        noise: float = 0.1,
        intensity: float = 0.2,
        gamma: float = 0.3,
    ) -> None:
        at_most_1 = {"probability": probability, "flip": flip}
        below_1 = {"scale": scale, "shift": shift, "gamma": gamma}
        for name, value in at_most_1.items():
            _require(0 <= value <= 1, name, value, "from 0 to 1")
        for name, value in below_1.items():
            _require(0 <= value < 1, name, value, "of at least 0 and below 1")
        for name, value in {"noise": noise, "intensity": intensity}.items():
            _require(0 <= value < float("inf"), name, value, "of at least 0")
        _require(0 <= rotate_degrees <= 180, "rotate_degrees", rotate_degrees, "from 0 to 180")
        self.probability = probability
        self.rotate_degrees = rotate_degrees
        self.scale = scale
        self.shift = shift
        self.flip = flip
        self.noise = noise
        self.intensity = intensity
        self.gamma = gamma
        self._by_size: dict[tuple[int, ...], Compose] = {}

    def __call__(
        self, image: npt.NDArray[np.float32], label: npt.NDArray[np.uint8], seed: int
    ) -> tuple[Tensor, Tensor]:
        """Change an image `[C, H, W]` and its label `[H, W]` alike; returns plain float32 and int64 tensors."""
        transforms = self._transforms(label.shape)
        transforms.set_random_state(seed=seed)
        changed = transforms(
            {"image": torch.from_numpy(image), "label": torch.from_numpy(label.astype(np.float32))[None]}
        )
        plain = {name: convert_to_tensor(value, track_meta=False) for name, value in changed.items()}
        return plain["image"].float(), plain["label"][0].round().long()

    def _transforms(self, size: tuple[int, ...]) -> Compose:
        """Make the changes for crops of one size: MONAI counts a shift in pixels."""
        if size in self._by_size:
            return self._by_size[size]
        both, image = ["image", "label"], ["image"]
        p, gamma = self.probability, self.gamma
        self._by_size[size] = Compose(
            [
                RandAffined(
                    both,
                    prob=p,
                    rotate_range=np.deg2rad(self.rotate_degrees),
                    scale_range=[self.scale, self.scale],
                    translate_range=[self.shift * side for side in size],
                    mode=["bilinear", "nearest"],
                    padding_mode="border",
                ),
                RandFlipd(both, prob=self.flip, spatial_axis=1),
                RandGaussianNoised(image, prob=p, std=self.noise),
                RandShiftIntensityd(image, prob=p, offsets=self.intensity),
                RandScaleIntensityd(image, prob=p, factors=self.intensity),
                RandAdjustContrastd(image, prob=p, gamma=(1 - gamma, 1 / (1 - gamma))),
            ]
        )
        return self._by_size[size]


def _require(fits: bool, name: str, value: float, expected: str) -> None:
    if not fits:
        raise UsageError(f"{name} is {value}: expected a number {expected}")
