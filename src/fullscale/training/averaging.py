"""Averaged weights: a running mean of what training passes through, which is validated and handed over in its place."""

from __future__ import annotations

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


def averaged_weights(decay: float) -> WeightAveraging:
    """Return the callback that keeps an exponential moving average of weights and buffers.

    After `n` averaged steps the mean keeps `min(decay, (1 + n) / (10 + n))` of what it was, so that it does not drag
    the first steps along. In a checkpoint the averaged weights are the state dict; the trained ones lie beside them,
    and training goes on from those.

    Args:
        decay: between 0 and 1; 0.99 averages over about the last hundred steps.
    """

    def average(averaged: Tensor, current: Tensor, steps: Tensor | int) -> Tensor:
        if not averaged.is_floating_point():  # the number of batches that a norm has seen
            return current
        counted = torch.as_tensor(steps, device=averaged.device)
        keep = ((1 + counted) / (10 + counted)).clamp_max(decay).to(averaged.dtype)
        return torch.lerp(averaged, current, 1 - keep)

    return WeightAveraging(avg_fn=average)
