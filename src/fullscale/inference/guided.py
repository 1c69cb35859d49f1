"""What guidance does to a scan: the mask with and without its gate, and what it says of each slice, from one pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fullscale.data.read import read_image
from fullscale.data.recipe import image_slices, slice_geometry
from fullscale.errors import UsageError
from fullscale.geometry.volume import Volume
from fullscale.inference.predictor import Predictor, mixed_precision, resize_logits, slice_batches
from fullscale.metrics.presence import Guided
from fullscale.networks.blocks import absent, decide, gate


def is_guided(predictor: Predictor) -> bool:
    """Say whether a model has a classification-guided module whose answer can be seen; an ONNX model hides it."""
    return getattr(predictor.network, "guidance", None) is not None


def predict_guided(predictor: Predictor, scan: str | Path | Volume) -> Guided:
    """Segment a scan with and without the gate, on the scan's own grid.

    Args:
        predictor: of a model with guidance.
        scan: a file, a DICOM folder, or a volume (CT in HU).

    Raises:
        UsageError: the model has no guidance.
        DataError: the scan cannot be read, or holds NaN.
    """
    if not is_guided(predictor):
        raise UsageError(f"network '{predictor.card.network}' has no guidance here: there is no gate to leave out")
    volume = scan if isinstance(scan, Volume) else read_image(Path(scan))
    recipe = predictor.card.recipe
    geometry = slice_geometry(volume, recipe)
    slices = image_slices(volume, geometry, recipe)
    gated, ungated, predicted_present = [], [], []
    for batch in slice_batches(slices, recipe.neighbours, predictor.device, predictor.batch_size):
        with torch.inference_mode(), mixed_precision(predictor.device):
            logits, presence = predictor.network.segment(batch)
        assert presence is not None
        logits = resize_logits(logits.float(), geometry.shape[1:])
        ungated.append(decide(logits).cpu().numpy())
        gated.append(decide(gate(logits, presence)).cpu().numpy())
        predicted_present.append(~absent(presence).cpu().numpy())
    return Guided(
        gated=predictor.label_volume(np.concatenate(gated), geometry, volume),
        ungated=predictor.label_volume(np.concatenate(ungated), geometry, volume),
        predicted_present=np.concatenate(predicted_present),
    )
