"""What a training step holds in memory at most, and the largest patch that fits: computed, nothing is run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from fullscale.bench.workload import META, Workload
from fullscale.networks.kernels.forms import Form
from fullscale.training.live import MIB, parameters_and_buffers, peak_mib

FORMS: tuple[Form, ...] = ("direct", "factored")
GIB = 2**10
"""MiB."""


def bench_memory(work: Workload, gib: float = 24, report: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Compute the peak of a training step in both forms, in float32 and in bf16, and the largest patch for a memory.

    The step is done on tensors without numbers, as a GPU would do it: every tensor that is alive is counted, weights,
    their gradients and momentum among them. Workspace of libraries and fragments come on top.

    Args:
        work: the network, its patch and its batch; its device is not looked at.
        gib: of the memory that the largest patch must fit.
        report: takes one line of progress at a time.
    """
    rows = []
    for form in FORMS:
        for bf16 in (False, True):
            here = replace(work, device=META, form=form, bf16=bf16)
            report(f"{form}, {'bf16' if bf16 else 'float32'}")
            row = {"form": form, "bf16": bf16, "peak_mib": step_peak_mib(here)}
            rows.append(row | {"largest_side": largest_side(here, gib * GIB)})
    return {"benchmark": "memory", "workload": asdict(replace(work, device=META)), "gib": gib, "forms": rows}


def step_peak_mib(work: Workload) -> float:
    """Return the most MiB of tensors alive in a training step after the first, on the workload's device."""
    network = work.network()
    step = work.training_step(network)
    step()  # the optimiser's momentum is made
    held = parameters_and_buffers(network)
    bytes_held = sum(tensor.nbytes for tensor in held)
    momentum = bytes_held / MIB
    # Under bf16 autocast, weights, gradients and momentum are float32: the bf16 weights counted here are its casts.
    return peak_mib(step, held) + (5 if work.bf16 and work.device == META else 1) * momentum


def largest_side(work: Workload, mib: float, most: int = 1024) -> int:
    """Return the largest side of an equal-sided patch of which a training step fits, a multiple of 16; 0 if none."""
    fits, too_large = 0, most // 16
    while too_large - fits > 1:
        middle = (fits + too_large) // 2
        if step_peak_mib(replace(work, size=16 * middle)) <= mib:
            fits = middle
        else:
            too_large = middle
    return 16 * fits
