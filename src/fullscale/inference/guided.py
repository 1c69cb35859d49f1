"""What guidance does to a scan, from one pass: the mask with and without its gate, and what it predicts of slices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fullscale.geometry.volume import Volume
from fullscale.inference.combine import Combination
from fullscale.inference.predictor import Predictor, first_of
from fullscale.inference.runtimes.load import RunningMember
from fullscale.inference.scan import Scans, as_channels
from fullscale.inference.trust.watch import Slab, Watchers
from fullscale.metrics.presence import Guided
from fullscale.networks.guidance import absent, gate
from fullscale.views.protocol import Compute


def predict_guided(
    predictor: Predictor,
    scan: Scans,
    *,
    spacing_mm: Sequence[float] | None = None,
    watchers: Watchers = (),
) -> tuple[Volume, Guided | None]:
    """Segment a scan, and tell what guidance did to it.

    In an ensemble each member is gated by its own guidance; a structure counts as predicted in a slice where more than
    half of the members say so. Without that, their mean probability cannot pass one half.

    Args:
        predictor: of any model.
        scan: what `Predictor.predict` takes.
        spacing_mm: of an array.
        watchers: see every slab of slices when it is decided, with the gate.

    Returns:
        The mask that `Predictor.predict` gives, and the same with what lies behind it; None where no member has
        guidance whose gate can be left out (that of an ONNX model cannot).

    Raises:
        DataError: the scan cannot be read, or holds NaN.
        UsageError: an array comes without its spacing.
    """
    given = as_channels(scan, predictor.channels, spacing_mm, predictor.resamples_channels)
    volume = first_of(given)
    geometry = predictor.geometry(volume)
    channels = predictor.card.scheme.channels
    gated, ungated = (np.empty(geometry.shape, dtype=np.uint8) for _ in range(2))
    predicted_present: list[npt.NDArray[np.bool_] | None] = []
    for where, by_member in predictor.slabs(given, _both):
        with_gate, without_gate = (Combination(predictor.card.scheme) for _ in range(2))
        present: list[npt.NDArray[np.bool_] | None] = []
        for maps in by_member:
            with_gate.add(maps[:, :channels])
            without_gate.add(maps[:, channels : 2 * channels])
            told = maps[:, 2 * channels :].amax(dim=(2, 3)) > 0  # [b, structures], or none
            present.append(told.cpu().numpy() if told.shape[1] else None)
        decided = with_gate.decide()
        gated[where] = decided.cpu().numpy()
        for watcher in watchers:
            watcher.slab(Slab(where, with_gate, decided))
        ungated[where] = without_gate.decide().cpu().numpy()
        predicted_present.append(_vote(present))
    for watcher in watchers:
        watcher.done(gated, geometry)
    mask = predictor.label_volume(gated, geometry, volume)
    known = [slices for slices in predicted_present if slices is not None]
    if not known:
        return predictor.postprocessed(mask), None
    return predictor.postprocessed(mask), Guided(
        mask, predictor.label_volume(ungated, geometry, volume), np.concatenate(known)
    )


def _both(member: RunningMember) -> Compute:
    """Make of a member what gives logits with the gate and without, then where each structure is called present.

    That is 1 in the whole image, or 0, and travels with the logits: of several tiles around a slice, one that calls a
    structure present is enough.
    """

    def compute(images: Tensor) -> Tensor:
        with torch.inference_mode():
            logits, presence = member.runtime.segment(images)
            if presence is None:
                return torch.cat([logits, logits], dim=1)
            found = (~absent(presence)).to(logits)
            everywhere = found.reshape(*found.shape, *[1] * (logits.ndim - 2)).expand(-1, -1, *logits.shape[2:])
            return torch.cat([gate(logits, presence), logits, everywhere], dim=1)

    return compute


def _vote(by_member: Sequence[npt.NDArray[np.bool_] | None]) -> npt.NDArray[np.bool_] | None:
    """Say of each slice which structures more than half of the members call present; None where none has guidance.

    A member without guidance calls all of them present.

    Args:
        by_member: whether each member calls each structure of each slice present `[B, structures]`, or None.
    """
    called = [present for present in by_member if present is not None]
    if not called:
        return None
    voted: npt.NDArray[np.bool_] = 2 * (np.sum(called, axis=0) + len(by_member) - len(called)) > len(by_member)
    return voted
