"""An exported model compared with PyTorch: on every case its logits, its gate and its decisions.

An export is accepted where on every case the logits are within `LOGIT_TOLERANCE` of their scale, the same structures
are gated, and the class of no more than `VOXEL_TOLERANCE` of all voxels differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fullscale.bundle.card import ModelCard
from fullscale.data.labels import LabelScheme
from fullscale.data.phantom import make_case
from fullscale.data.recipe import image_slices, slice_geometry
from fullscale.errors import FullscaleError
from fullscale.networks.protocol import Network
from fullscale.views.slices import stack_images

LOGIT_TOLERANCE = 1e-4
"""Largest difference of two logits, as a share of the largest logit that is not gated."""

VOXEL_TOLERANCE = 1e-4
"""Largest share of the voxels of all cases whose class may differ."""

Size = tuple[int, ...]
"""Images, rows and columns of a batch; of volumes, their slices before the rows."""

SIZES: dict[int, list[Size]] = {
    2: [(1, 96, 96), (3, 67, 45), (2, 40, 131), (1, 13, 9)],
    3: [(1, 32, 32, 32), (2, 17, 36, 20), (1, 40, 9, 33)],
}
"""Sizes of images and of volumes that a graph which takes all is compared with PyTorch on."""

Answer = Callable[[Tensor], Tensor]
"""From images or volumes `[B, C, ...]` to logits `[B, channels, ...]`."""

_KINDS_OF_NOISE = [(brightness, contrast) for contrast in (1.0, 0.3, 3.0) for brightness in (0.0, 1.0, -1.0)]
_PHANTOM_SIDE, _PHANTOM_SLICES = 96, 5


@dataclass(frozen=True)
class ParityCase:
    """One batch of images through both.

    Attributes:
        name: what the images are.
        shape: `[B, C, ...]` of the images.
        with_structure: images in which guidance finds a structure; of the others only the gate is compared.
        difference: largest difference of two logits over the largest logit; infinite where the gates differ.
        voxels: of all images.
        voxels_different: how many of them got another class.
    """

    name: str
    shape: tuple[int, ...]
    with_structure: int
    difference: float
    voxels: int
    voxels_different: int

    def describe(self) -> str:
        """Say it in one line."""
        shape = "x".join(str(side) for side in self.shape)
        return (
            f"{self.name} {shape}, structures in {self.with_structure}: logits differ by {self.difference:.1e} of "
            f"their scale, {self.voxels_different} of {self.voxels} voxels differ in class"
        )


def check_parity(
    network: Network,
    exported: Answer,
    card: ModelCard,
    sizes: Iterable[Size],
    report: Callable[[ParityCase], None] | None = None,
) -> list[ParityCase]:
    """Compare an exported model with the network it was made from.

    Args:
        network: in evaluation mode.
        exported: computes the exported model.
        card: of both.
        sizes: of the batches of noise.
        report: called with each case.

    Raises:
        FullscaleError: they differ by more than the tolerances.
    """
    cases = []
    for name, image in parity_images(network, card, sizes):
        with torch.inference_mode():
            cases.append(compare(name, image, network(image), exported(image), card.scheme))
        if report is not None:
            report(cases[-1])
    for case in cases:
        if not case.difference <= LOGIT_TOLERANCE:
            raise FullscaleError(f"the exported model differs from PyTorch, nothing was written; {case.describe()}")
    different, voxels = sum(case.voxels_different for case in cases), sum(case.voxels for case in cases)
    if different > VOXEL_TOLERANCE * voxels:
        raise FullscaleError(
            f"the exported model gives {different} of {voxels} voxels another class; nothing was written"
        )
    return cases


def parity_images(network: Network, card: ModelCard, sizes: Iterable[Size]) -> Iterator[tuple[str, Tensor]]:
    """Make the images to compare on: noise of several sizes, and a synthetic CT through the card's recipe."""
    rng = torch.Generator().manual_seed(0)
    for batch, *sides in sizes:
        shape = (batch, card.recipe.in_channels, *sides)
        yield "noise", _noise_with_structure(network, shape, card.scheme, rng)
    recipe = card.recipe.model_copy(update={"spacing_mm": None})
    scan, _ = make_case(seed=0, size=_PHANTOM_SIDE, slices=_PHANTOM_SLICES)
    slices = image_slices(dict.fromkeys(recipe.channels, scan), slice_geometry(scan, recipe), recipe)  # [C, S, H, W]
    if recipe.view == "patches":
        yield "phantom", torch.from_numpy(slices)[None]
    else:
        yield "phantom", stack_images(slices, 0, slices.shape[1], recipe.neighbours)


@torch.inference_mode()
def _noise_with_structure(
    network: Network, shape: tuple[int, ...], scheme: LabelScheme, rng: torch.Generator
) -> Tensor:
    """Draw noise in which the network finds a structure, where one can be found: a gated image shows little."""
    for brightness, contrast in _KINDS_OF_NOISE:
        image = brightness + contrast * torch.randn(shape, generator=rng)
        if _images_with_structure(network(image), scheme):
            break
    return image


def _images_with_structure(logits: Tensor, scheme: LabelScheme) -> int:
    return int((~_gated(scheme.of_structures(logits))).flatten(1).any(dim=1).sum())


def _gated(logits: Tensor) -> Tensor:
    return logits <= torch.finfo(logits.dtype).min / 4


@torch.inference_mode()
def compare(name: str, image: Tensor, expected: Tensor, found: Tensor, scheme: LabelScheme) -> ParityCase:
    """Compare the logits `[B, channels, ...]` of PyTorch with those of the exported model."""
    gated = _gated(expected)
    difference = float("inf")
    if torch.equal(gated, _gated(found)):
        apart = (expected - found).abs().masked_fill(gated, 0).amax()
        scale = expected.abs().masked_fill(gated, 0).amax()
        difference = float(apart / scale) if apart > 0 else float(apart)
    different = scheme.decide(expected) != scheme.decide(found)
    return ParityCase(
        name,
        tuple(image.shape),
        _images_with_structure(expected, scheme),
        difference,
        different.numel(),
        int(different.sum()),
    )
