"""From a bundle and a scan to a mask on the scan's own grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from fullscale.bundle.card import ModelCard
from fullscale.bundle.store import load_bundle
from fullscale.data.read import read_image
from fullscale.data.recipe import SliceGeometry, image_slices, slice_geometry
from fullscale.errors import UsageError
from fullscale.geometry.volume import Volume
from fullscale.networks.blocks import decide, probabilities
from fullscale.networks.onnx_network import OnnxNetwork
from fullscale.networks.protocol import Network
from fullscale.views.slices import with_neighbours

VOXELS_AT_ONCE = {"cpu": 1 << 18, "cuda": 1 << 21, "mps": 1 << 20}
"""Voxels of the slices in one batch."""


def choose_device(name: str = "auto") -> torch.device:
    """Turn `auto`, `cpu`, `cuda`, `cuda:1` or `mps` into a device that is there.

    Raises:
        UsageError: this machine does not have it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device {name!r}; use auto, cpu, cuda or mps") from error
    if device.type not in VOXELS_AT_ONCE:
        raise UsageError(f"device {name!r} is not supported; use auto, cpu, cuda or mps")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {name!r} is not here: torch sees {torch.cuda.device_count()} CUDA devices")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device 'mps' is not here")
    return device


def _device_for(network: Network, name: str) -> torch.device:
    if not isinstance(network, OnnxNetwork):
        return choose_device(name)
    if name not in ("auto", "cpu"):
        raise UsageError(f"an ONNX model is computed on the CPU, not on {name!r}; use cpu, or the run it came from")
    return network.device


def _device_of(network: Network) -> torch.device:
    return network.device if isinstance(network, OnnxNetwork) else next(network.parameters()).device


def mixed_precision(device: torch.device) -> AbstractContextManager[Any]:
    """bf16 autocast on a GPU that computes in it; full precision elsewhere."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()


def slice_logits(
    network: Network,
    slices: npt.NDArray[Any],
    neighbours: int,
    shape: tuple[int, int] | None = None,
    batch_size: int | None = None,
) -> Iterator[Tensor]:
    """Segment a stack of slices, batch by batch.

    Args:
        network: in evaluation mode, on its device.
        slices: normalised slices `[S, H, W]`.
        neighbours: slices above and below that are shown with each.
        shape: rows and columns that the logits are brought to; default those of the slices.
        batch_size: slices at once; default by the device's memory.

    Yields:
        float32 logits `[B, C, *shape]` of consecutive slices, on the network's device.
    """
    for batch in slice_batches(slices, neighbours, _device_of(network), batch_size):
        with torch.inference_mode(), mixed_precision(batch.device):
            logits = network(batch).float()
        yield resize_logits(logits, shape)


def slice_batches(
    slices: npt.NDArray[Any], neighbours: int, device: torch.device, batch_size: int | None = None
) -> Iterator[Tensor]:
    """Yield images `[B, 2 neighbours + 1, H, W]` of consecutive slices of `[S, H, W]`, on the device."""
    size = batch_size or slices_at_once(slices.shape, device)
    for start in range(0, len(slices), size):
        indices = range(start, min(start + size, len(slices)))
        batch = np.stack([with_neighbours(slices, i, neighbours) for i in indices]).astype(np.float32)
        yield torch.from_numpy(batch).to(device)


def slices_at_once(shape: tuple[int, ...], device: torch.device) -> int:
    """Return how many slices of a stack `[S, H, W]` the device's memory takes in one batch."""
    _, height, width = shape
    return max(1, VOXELS_AT_ONCE[device.type] // (height * width))


def resize_logits(logits: Tensor, shape: tuple[int, int] | None) -> Tensor:
    """Bring logits `[B, C, H, W]` to other rows and columns, edge to edge."""
    if shape is None or logits.shape[2:] == shape:
        return logits
    with torch.inference_mode():
        return F.interpolate(logits, shape, mode="bilinear", align_corners=False)


class Predictor:
    """A trained model on a device. Calls leave no trace: the same scan always gives the same mask.

    Args:
        card: what the model is.
        network: with its weights.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`; an ONNX model takes `auto` and `cpu`.
        batch_size: slices at once; default by the device's memory.
    """

    def __init__(self, card: ModelCard, network: Network, device: str = "auto", batch_size: int | None = None) -> None:
        self.card = card
        self.device = _device_for(network, device)
        self.network = network.eval().to(self.device)
        self.batch_size = batch_size

    @classmethod
    def from_run(cls, folder: str | Path, device: str = "auto", batch_size: int | None = None) -> Predictor:
        """Load a run folder, a bundle, or an exported `.onnx` with its `.json` beside it.

        Raises:
            DataError: it holds no model, or a damaged one.
        """
        return cls(*load_bundle(Path(folder)), device=device, batch_size=batch_size)

    def predict(self, scan: str | Path | Volume, progress: Callable[[float], None] | None = None) -> Volume:
        """Segment a scan.

        Args:
            scan: a file, a DICOM folder, or a volume (CT in HU).
            progress: called with the fraction that is done.

        Returns:
            Labels (uint8, or uint16 where a label is above 255) on the scan's own grid, with its affine and header.

        Raises:
            DataError: the scan cannot be read, or holds NaN.
        """
        return self._segment(scan, None, progress)

    def predict_probabilities(
        self, scan: str | Path | Volume, progress: Callable[[float], None] | None = None
    ) -> tuple[Volume, dict[str, Volume]]:
        """Segment a scan, and tell for each structure its probability (float16) on the scan's own grid.

        A structure that the guidance finds absent from a slice has probability exactly 0 there.
        """
        soft: list[npt.NDArray[np.float16]] = []
        volume = scan if isinstance(scan, Volume) else read_image(Path(scan))
        labels = self._segment(volume, soft, progress)
        geometry = slice_geometry(volume, self.card.recipe)
        structures = np.concatenate(soft).swapaxes(0, 1)
        return labels, {
            name: geometry.to_volume(structure, volume)
            for name, structure in zip(self.card.labels.values(), structures, strict=True)
        }

    def _segment(
        self,
        scan: str | Path | Volume,
        soft: list[npt.NDArray[np.float16]] | None,
        progress: Callable[[float], None] | None,
    ) -> Volume:
        volume = scan if isinstance(scan, Volume) else read_image(Path(scan))
        recipe = self.card.recipe
        geometry = slice_geometry(volume, recipe)
        slices = image_slices(volume, geometry, recipe)
        labels = np.empty(geometry.shape, dtype=np.uint8)
        start = 0
        for logits in slice_logits(self.network, slices, recipe.neighbours, geometry.shape[1:], self.batch_size):
            stop = start + len(logits)
            labels[start:stop] = decide(logits).cpu().numpy()
            if soft is not None:
                soft.append(probabilities(logits).cpu().numpy().astype(np.float16))
            start = stop
            if progress is not None:
                progress(stop / len(labels))
        return self.label_volume(labels, geometry, volume)

    def label_volume(self, classes: npt.NDArray[np.uint8], geometry: SliceGeometry, scan: Volume) -> Volume:
        """Turn class indices `[S, H, W]` of `geometry.shape` into label values on the scan's own grid."""
        values = np.array([0, *self.card.labels])
        return geometry.to_volume(values.astype(np.min_scalar_type(values.max()))[classes], scan)
