"""Random changes of training crops: ours, or anybody's who keeps the protocol."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fullscale.data.recipe import MIRRORS, Mirror
from fullscale.errors import UsageError
from fullscale.registry import Registry
from fullscale.training.deform import DeformationRange, deform, draw_deformation
from fullscale.training.intensities import add_noise, change_gamma, lower_resolution


class Augmentation(Protocol):
    """Changes one training crop. A class of this kind needs nothing of ours, and is sent to worker processes."""

    def __call__(
        self, image: npt.NDArray[np.float32], label: npt.NDArray[np.uint8], seed: int
    ) -> tuple[Tensor, Tensor]:
        """Change an image and its label alike; the same seed changes them in the same way.

        Args:
            image: `[C, H, W]`, neighbouring slices as channels, or `[C, D, H, W]`, a patch; normalised to about mean 0
                and deviation 1.
            label: `[H, W]` or `[D, H, W]`, class indices, 0 for the background, 255 for a voxel of which nothing is
                known, which is moved like a class.
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
    """Rotation, zoom, shift and bending at once, then resolution, noise, offset, contrast and gamma.

    Images are interpolated; labels take the class that covers most of the voxel. No change can invent a label.

    Args:
        probability: chance of each change below, flips apart.
        rotate_degrees: largest rotation either way, in each plane.
        scale: largest zoom either way, as a fraction.
        shift: largest shift either way, as a fraction of the side.
        flip: chance of each of `mirrors`; 0 where sides matter.
        noise: deviation of Gaussian noise, in normalised units.
        intensity: largest change of offset and of contrast, as a fraction.
        gamma: largest change of gamma either way, from 1.
        elastic: deviation of a smooth bending, in voxels of the finest spacing.
        low_resolution: largest loss of resolution, as a fraction.
        invert: chance that gamma works on bright and dark exchanged.
        mirrors: which there are, of left-right, front-back and head-foot.
        spacing_mm: of the axes of a crop, so that rotations are made in mm; default equal.

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
        elastic: float = 0.0,
        low_resolution: float = 0.0,
        invert: float = 0.0,
        mirrors: Sequence[Mirror] = ("left-right",),
        spacing_mm: Sequence[float] | None = None,
    ) -> None:
        at_most_1 = {"probability": probability, "flip": flip, "invert": invert}
        below_1 = {"scale": scale, "shift": shift, "gamma": gamma, "low_resolution": low_resolution}
        for name, value in at_most_1.items():
            _require(0 <= value <= 1, name, value, "a number from 0 to 1")
        for name, value in below_1.items():
            _require(0 <= value < 1, name, value, "a number of at least 0 and below 1")
        for name, value in {"noise": noise, "intensity": intensity, "elastic": elastic}.items():
            _require(0 <= value < math.inf, name, value, "a number of at least 0")
        _require(0 <= rotate_degrees <= 180, "rotate_degrees", rotate_degrees, "a number from 0 to 180")
        _require(set(mirrors) <= set(MIRRORS), "mirrors", mirrors, f"some of {', '.join(MIRRORS)}")
        _require(
            spacing_mm is None or (len(spacing_mm) in (2, 3) and all(0 < s < math.inf for s in spacing_mm)),
            *("spacing_mm", spacing_mm, "two or three numbers above 0"),
        )
        self.probability = probability
        self.rotate_degrees = rotate_degrees
        self.scale = scale
        self.shift = shift
        self.flip = flip
        self.noise = noise
        self.intensity = intensity
        self.gamma = gamma
        self.elastic = elastic
        self.low_resolution = low_resolution
        self.invert = invert
        self.mirrors = tuple(mirror for mirror in MIRRORS if mirror in mirrors)
        self.spacing_mm = None if spacing_mm is None else tuple(spacing_mm)

    def __call__(
        self, image: npt.NDArray[np.float32], label: npt.NDArray[np.uint8], seed: int
    ) -> tuple[Tensor, Tensor]:
        """Change an image `[C, *size]` and its label `[*size]` alike; returns plain float32 and int64 tensors.

        Raises:
            UsageError: `spacing_mm` or `mirrors` speak of other axes than the crop has.
        """
        self._require_axes(label.ndim)
        rng = np.random.default_rng(seed)
        changed, moved = self._move(torch.from_numpy(image), torch.from_numpy(label), rng)
        # The channels of a patch are other sequences; those of a slice may be its neighbours, which stay like it.
        parts = torch.split(changed, 1) if label.ndim == 3 else [changed]
        return torch.cat([self._change_intensities(part, rng) for part in parts]), moved.long()

    def _require_axes(self, dims: int) -> None:
        spacing, known = self.spacing_mm, [mirror for mirror, axis in MIRRORS.items() if axis >= -dims]
        _require(spacing is None or len(spacing) == dims, "spacing_mm", spacing, f"{dims} numbers for these crops")
        _require(
            not self.flip or set(self.mirrors) <= set(known), "mirrors", self.mirrors, f"some of {', '.join(known)}"
        )

    def _move(self, image: Tensor, label: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        if rng.random() < self.probability:
            spacing = self.spacing_mm or (1.0,) * label.ndim
            reach = DeformationRange(self.rotate_degrees, self.scale, self.shift, self.elastic, spacing)
            image, label = deform(draw_deformation(rng, label.shape, reach), image, label)
        mirrored = [MIRRORS[mirror] for mirror in self.mirrors if rng.random() < self.flip]
        return (image.flip(mirrored), label.flip(mirrored)) if mirrored else (image, label)

    def _change_intensities(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        if self.low_resolution and rng.random() < self.probability:
            image = lower_resolution(image, 1 - self.low_resolution * rng.random())
        if self.noise and rng.random() < self.probability:
            image = add_noise(image, self.noise * rng.random(), rng)
        if rng.random() < self.probability:
            image = image + self.intensity * rng.uniform(-1, 1)
        if rng.random() < self.probability:
            image = image * (1 + self.intensity * rng.uniform(-1, 1))
        if rng.random() < self.probability:
            gamma = math.exp(-math.log(1 - self.gamma) * rng.uniform(-1, 1))
            image = change_gamma(image, gamma, inverted=rng.random() < self.invert)
        return image


def _require(fits: bool, name: str, value: object, expected: str) -> None:
    if not fits:
        raise UsageError(f"{name} is {value}: expected {expected}")
