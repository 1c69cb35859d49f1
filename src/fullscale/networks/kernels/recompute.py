"""Gradient checkpointing (Chen et al., 2016) that leaves the statistics of batch norms alone.

What a part of a network computes on its way is not kept for the backward pass but computed again there. A batch norm in
training would then count every batch twice in its running statistics; here it counts the first pass only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

T = TypeVar("T")


def recompute(
    function: Callable[..., T], inputs: Sequence[Tensor], parts: Iterable[nn.Module], enabled: bool = True
) -> T:
    """Call a function and keep only its inputs for the backward pass, which calls it again.

    Dropout draws the same numbers both times. Where no gradient is recorded, the function is simply called.

    Args:
        function: called with `inputs`.
        inputs: tensors.
        parts: the modules that the function uses.
        enabled: False calls the function and keeps what torch keeps.
    """
    if not enabled or not torch.is_grad_enabled():
        return function(*inputs)
    if torch.compiler.is_compiling():  # a compiled graph updates statistics once, whatever it computes again
        return checkpoint(function, *inputs, use_reentrant=False)
    norms = [part for whole in parts for part in whole.modules() if isinstance(part, _BatchNorm)]
    return checkpoint(
        function, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _statistics_left_alone(norms))
    )


@contextmanager
def _statistics_left_alone(norms: list[_BatchNorm]) -> Iterator[None]:
    """Let batch norms normalise by their batch without a trace: of momentum 0 nothing is added to what they know."""
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
