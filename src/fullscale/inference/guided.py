"""What guidance does to a scan, from one pass: the mask with and without its gate, and what it predicts of slices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fullscale.geometry.volume import Volume
from fullscale.inference.combine import Combination
from fullscale.inference.predictor import Predictor, resize_logits
from fullscale.inference.scan import Scan, as_volume
from fullscale.metrics.presence import Guided
from fullscale.networks.guidance import absent, gate


def predict_guided(
    predictor: Predictor, scan: Scan, *, spacing_mm: Sequence[float] | None = None
) -> tuple[Volume, Guided | None]:
    """Segment a scan, and tell what guidance did to it.

    In an ensemble each member is gated by its own guidance; a structure counts as predicted in a slice where more than
    half of the members say so. Without that, their mean probability cannot pass one half.

    Args:
        predictor: of any model.
        scan: what `Predictor.predict` takes.
        spacing_mm: of an array.

    Returns:
        The mask that `Predictor.predict` gives, and the same with what lies behind it; None where no member has
        guidance whose gate can be left out (that of an ONNX model cannot).

    Raises:
        DataError: the scan cannot be read, or holds NaN.
        UsageError: an array comes without its spacing.
    """
    volume = as_volume(scan, spacing_mm)
    geometry = predictor.geometry(volume)
    gated, ungated = (np.empty(geometry.shape, dtype=np.uint8) for _ in range(2))
    predicted_present: list[npt.NDArray[np.bool_] | None] = []
    for where, images in predictor.batches(volume):
        with_gate, without_gate = (Combination(predictor.card.scheme) for _ in range(2))
        by_member = []
        for member, image in images:
            logits, presence = member.runtime.segment(image)
            logits = resize_logits(logits, geometry.shape[1:])
            without_gate.add(logits)
            with_gate.add(gate(logits, presence))
            by_member.append(presence)
        gated[where] = with_gate.decide().cpu().numpy()
        ungated[where] = without_gate.decide().cpu().numpy()
        predicted_present.append(_vote(by_member))
    mask = predictor.label_volume(gated, geometry, volume)
    known = [slices for slices in predicted_present if slices is not None]
    if not known:
        return mask, None
    return mask, Guided(mask, predictor.label_volume(ungated, geometry, volume), np.concatenate(known))


def _vote(by_member: Sequence[Tensor | None]) -> npt.NDArray[np.bool_] | None:
    """Say of each slice which structures more than half of the members call present; None where none has guidance.

    A member without guidance calls all of them present.

    Args:
        by_member: presence logits `[B, structures, 2]` of each member, or None.
    """
    called = [~absent(presence).cpu().numpy() for presence in by_member if presence is not None]
    if not called:
        return None
    present: npt.NDArray[np.bool_] = 2 * (np.sum(called, axis=0) + len(by_member) - len(called)) > len(by_member)
    return present
