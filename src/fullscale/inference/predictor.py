"""From a model and a scan to a mask on the scan's own grid."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from fullscale.bundle.card import Card, ModelCard
from fullscale.data.recipe import Recipe, SliceGeometry, image_slices, slice_geometry
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume
from fullscale.inference.combine import Combination
from fullscale.inference.runtimes.load import RunningMember, load_members
from fullscale.inference.runtimes.protocol import Runtime
from fullscale.inference.runtimes.torch import TorchRuntime, choose_device
from fullscale.inference.scan import Scan, as_volume
from fullscale.networks.protocol import Network
from fullscale.progress import Progress, ignore
from fullscale.views.slices import stack_images
from fullscale.work.machine import GIB, available_memory

VOXELS_AT_ONCE = {"cpu": 1 << 18, "cuda": 1 << 21, "mps": 1 << 20}
"""Voxels of the slices in one batch."""

_BYTES_AS_STORED = 9
"""Of each voxel of a scan: two float32 while it is normalised, then its class."""
_BYTES_RESIZED = 4
"""Of each voxel of the slices that a recipe makes."""


class Predictor:
    """A trained model on a device. Calls leave no trace: the same scan always gives the same mask.

    The members of an ensemble see the same slices one after the other; each is gated by its own guidance, and their
    mean probability decides. A single member decides by its logits.

    Args:
        card: what the model is.
        members: its models, at least one, on their devices.
        batch_size: slices at once; default by the device's memory.
    """

    def __init__(self, card: Card, members: Sequence[RunningMember], batch_size: int | None = None) -> None:
        self.card = card
        self.members = list(members)
        self.batch_size = batch_size

    @classmethod
    def from_run(cls, folder: str | Path, device: str = "auto", batch_size: int | None = None) -> Predictor:
        """Load a run folder (all its folds), a fold of it, a bundle, or an exported `.onnx` with its `.json` beside it.

        Args:
            folder: the model.
            device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`; an ONNX model takes `auto` and `cpu`.
            batch_size: slices at once; default by the device's memory.

        Raises:
            DataError: there is no model, or it is damaged.
            UsageError: the device is not there.
        """
        return cls(*load_members(Path(folder), device), batch_size)

    @classmethod
    def from_network(
        cls, card: ModelCard, network: Network, device: str = "auto", batch_size: int | None = None
    ) -> Predictor:
        """Predict with a network in memory.

        Args:
            card: what it is, and how scans are brought to it.
            network: with its weights; it is moved to the device and put into evaluation mode.
            device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
            batch_size: slices at once; default by the device's memory.

        Raises:
            UsageError: the device is not there.
        """
        runtime = TorchRuntime(network.eval().to(choose_device(device)))
        return cls(card, [RunningMember(card, runtime)], batch_size)

    def predict(
        self,
        scan: Scan,
        progress: Progress = ignore,
        *,
        spacing_mm: Sequence[float] | None = None,
    ) -> Volume:
        """Segment a scan.

        Args:
            scan: a file, a DICOM folder, a volume (CT in HU), or an array `[X, Y, Z]` whose axes run to the patient's
                right, front and head.
            progress: told of the slices that are done.
            spacing_mm: of an array, the distance between voxel centres along X, Y and Z; for an array only.

        Returns:
            Labels (uint8, or uint16 where a label is above 255) on the scan's own grid, with its affine and header.

        Raises:
            DataError: the scan cannot be read, holds NaN, or is too large for the memory that is free.
            UsageError: an array comes without its spacing, or anything else with one.
        """
        return self._segment(as_volume(scan, spacing_mm), None, progress)

    def predict_probabilities(
        self,
        scan: Scan,
        progress: Progress = ignore,
        *,
        spacing_mm: Sequence[float] | None = None,
    ) -> tuple[Volume, dict[str, Volume]]:
        """Segment a scan, and tell for each structure its probability (float16) on the scan's own grid.

        A structure that the guidance finds absent from a slice has probability exactly 0 there. Arguments and errors
        are those of `predict`.
        """
        soft: list[npt.NDArray[np.float16]] = []
        volume = as_volume(scan, spacing_mm)
        labels = self._segment(volume, soft, progress)
        geometry = self.geometry(volume)
        structures = np.concatenate(soft).swapaxes(0, 1)
        return labels, {
            name: geometry.to_volume(structure, volume)
            for name, structure in zip(self.card.structures.values(), structures, strict=True)
        }

    def geometry(self, scan: Volume) -> SliceGeometry:
        """Work out how a scan is cut; its own grid is the same for all members, whatever they resize it to."""
        return slice_geometry(scan, self.members[0].card.recipe)

    def batches(self, scan: Volume) -> Iterator[tuple[slice, list[tuple[RunningMember, Tensor]]]]:
        """Give consecutive slices of a scan and, for each member, the images of them, on its device.

        The images are `[B, C, H, W]` as the member's recipe makes them; members with one recipe share its slices.

        Raises:
            DataError: the scan holds NaN, or is too large for the memory that is free; at once, not at the first batch.
        """
        require_memory(scan, {member.card.recipe for member in self.members})
        stacks: dict[Recipe, npt.NDArray[np.float32]] = {}
        for member in self.members:
            recipe = member.card.recipe
            if recipe not in stacks:
                stacks[recipe] = image_slices(scan, slice_geometry(scan, recipe), recipe)
        size = self.batch_size or min(
            slices_at_once(stacks[member.card.recipe].shape, member.runtime.device) for member in self.members
        )
        return (
            (slice(start, start + size), [(m, _images(stacks[m.card.recipe], start, size, m)) for m in self.members])
            for start in range(0, self.geometry(scan).shape[0], size)
        )

    def _segment(self, scan: Volume, soft: list[npt.NDArray[np.float16]] | None, progress: Progress) -> Volume:
        geometry = self.geometry(scan)
        batches = self.batches(scan)
        classes = np.empty(geometry.shape, dtype=np.uint8)
        for where, images in batches:
            combined = Combination(self.card.scheme)
            for member, image in images:
                combined.add(resize_logits(member.runtime.logits(image), geometry.shape[1:]))
            classes[where] = combined.decide().cpu().numpy()
            if soft is not None:
                probabilities = self.card.scheme.of_structures(combined.probabilities())
                soft.append(probabilities.cpu().numpy().astype(np.float16))
            progress(min(where.stop, len(classes)), len(classes), "slices")
        return self.label_volume(classes, geometry, scan)

    def label_volume(self, classes: npt.NDArray[np.uint8], geometry: SliceGeometry, scan: Volume) -> Volume:
        """Turn class indices `[S, H, W]` of `geometry.shape` into label values on the scan's own grid."""
        return geometry.to_volume(self.card.scheme.values(classes), scan)


def require_memory(scan: Volume, recipes: Collection[Recipe]) -> None:
    """Refuse a scan whose slices alone would not fit into memory, before anything is allocated.

    Raises:
        DataError: they would not.
    """
    network_voxels = sum(math.prod(slice_geometry(scan, recipe).network_shape) for recipe in recipes)
    needed = _BYTES_AS_STORED * math.prod(scan.shape) + _BYTES_RESIZED * network_voxels
    free = available_memory()
    if needed > free:
        shape = "x".join(map(str, scan.shape))
        raise DataError(
            f"a scan of {shape} voxels needs {needed / GIB:.1f} GiB of memory to be segmented, {free / GIB:.1f} GiB "
            "are free; crop it, or use a machine with more"
        )


def slice_logits(
    runtime: Runtime, slices: npt.NDArray[Any], neighbours: int, batch_size: int | None = None
) -> Iterator[Tensor]:
    """Segment a stack of prepared slices `[S, H, W]`, batch by batch.

    Args:
        runtime: computes the network.
        slices: normalised, as the network's recipe makes them.
        neighbours: slices above and below that are shown with each.
        batch_size: slices at once; default by the device's memory.

    Yields:
        float32 logits `[B, channels, H, W]` of consecutive slices, on the runtime's device.
    """
    size = batch_size or slices_at_once(slices.shape, runtime.device)
    for start in range(0, len(slices), size):
        yield runtime.logits(stack_images(slices, start, size, neighbours).to(runtime.device))


def slices_at_once(shape: tuple[int, ...], device: torch.device) -> int:
    """Return how many slices of a stack `[S, H, W]` the device's memory takes in one batch."""
    _, height, width = shape
    return max(1, VOXELS_AT_ONCE[device.type] // (height * width))


def resize_logits(logits: Tensor, shape: tuple[int, int]) -> Tensor:
    """Bring logits `[B, C, H, W]` to other rows and columns, edge to edge."""
    if logits.shape[2:] == shape:
        return logits
    with torch.inference_mode():
        return F.interpolate(logits, shape, mode="bilinear", align_corners=False)


def _images(slices: npt.NDArray[np.float32], start: int, size: int, member: RunningMember) -> Tensor:
    return stack_images(slices, start, size, member.card.recipe.neighbours).to(member.runtime.device)
