"""The direct and the factored form of the full-scale skips, side by side: each skip, and the whole network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fullscale.bench.measure import Timing, alternate, in_fresh_process
from fullscale.bench.workload import Workload, freeze
from fullscale.networks.blocks import ConvNorm
from fullscale.networks.kernels.forms import Form, FormedConv
from fullscale.networks.parameters import count_macs
from fullscale.training.live import parameters_and_buffers, peak_mib

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"form": "direct", "channels_last": False},
    "direct": {"form": "direct"},
    "factored": {"form": "auto"},
}
"""Of one network: as PyTorch computes it when nothing is done about it, with channels last, and factored."""


def bench_decoder(
    work: Workload, repeats: int = 5, compiled: bool = False, report: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Measure the variants of one network in one run.

    Args:
        work: the network and its input; its own `form` is not looked at.
        repeats: timed rounds of each measurement.
        compiled: also time inference under `torch.compile` with frozen weights.
        report: takes one line of print_status at a time.

    Returns:
        For JSON: environment, roofline, the whole network (inference, training step, peak memory, operations) in each
        of `VARIANTS`, and every up-sampled skip.
    """
    report("matrix product, for the roofline")
    roofline = work.roofline_gflops()
    network = _whole_network(work, repeats, compiled, roofline, report)
    report("each up-sampled skip")
    skips = _skips(work, repeats)
    return work.head("decoder", "form", repeats, roofline) | {"network": network, "skips": skips}


def _whole_network(
    work: Workload, repeats: int, compiled: bool, roofline: float, report: Callable[[str], None]
) -> dict[str, Any]:
    device = work.torch_device
    works = {variant: replace(work, **changes) for variant, changes in VARIANTS.items()}
    networks = {variant: work.network().eval() for variant, work in works.items()}
    inference = {variant: works[variant].inference(network) for variant, network in networks.items()}
    macs = {variant: count_macs(run) for variant, run in inference.items()}
    report("inference")
    result: dict[str, Any] = {"inference": _compare(alternate(inference, repeats, device), macs, roofline)}
    if compiled:
        report("inference, compiled with frozen weights")
        frozen = {variant: works[variant].inference(freeze(network)) for variant, network in networks.items()}
        result["inference_compiled"] = _compare(alternate(frozen, repeats, device, warmup=2), macs, roofline)
        torch.compiler.reset()
        del frozen
    del inference
    report("training step")
    steps = {variant: works[variant].training_step(network) for variant, network in networks.items()}
    macs = {variant: count_macs(step) for variant, step in steps.items()}
    result["training_step"] = _compare(alternate(steps, repeats, device), macs, roofline)
    report("peak memory of a training step, each in a process of its own")
    peak = {
        variant: in_fresh_process("fullscale.bench.peak", asdict(work))["peak_mib"] for variant, work in works.items()
    }
    result["training_peak_mib"] = peak
    return result


def _compare(timings: dict[str, Timing], macs: dict[str, int], roofline: float) -> dict[str, Any]:
    """Seconds, operations and speed of each variant, and how many times faster the factored one is than each."""
    rows = {}
    for variant, timing in timings.items():
        gflops = 2 * macs[variant] / timing.median_s / 1e9
        rows[variant] = timing.as_dict() | {
            "gmacs": macs[variant] / 1e9,
            "gflops": gflops,
            "of_roofline": gflops / roofline,
            "factored_is_faster": timing.median_s / timings["factored"].median_s,
        }
    return rows


def _skips(work: Workload, repeats: int) -> list[dict[str, Any]]:
    """Time every up-sampled skip of the network by itself, on maps of the sizes it meets there."""
    network = work.network().eval()
    met: dict[ConvNorm, Tensor] = {}
    skips = [part for part in network.modules() if isinstance(part, ConvNorm) and max(part.conv.factors) > 1]
    hooks = [skip.register_forward_pre_hook(lambda skip, x: met.__setitem__(skip, x[0])) for skip in skips]
    work.inference(network)()
    for hook in hooks:
        hook.remove()
    return [_skip(skip.conv, met[skip], work, repeats) for skip in skips]


def _skip(conv: FormedConv, x: Tensor, work: Workload, repeats: int) -> dict[str, Any]:
    """Time one skip in both forms, forward and with its gradients, and count the memory of the latter."""
    forms: tuple[Form, ...] = ("direct", "factored")
    forward = {form: work.inference(partial(_forward, conv, form, x)) for form in forms}
    macs = {form: count_macs(run) for form, run in forward.items()}
    seconds = alternate(forward, repeats, work.torch_device)
    steps = {form: partial(_forward_and_back, conv, form, x, work) for form in forms}
    both = alternate(steps, repeats, work.torch_device)
    found: dict[str, Any] = {"channels": conv.in_channels, "low_side": x.shape[-1], "factor": max(conv.factors)}
    for form in forms:
        found |= {
            f"{form}_s": seconds[form].median_s,
            f"{form}_step_s": both[form].median_s,
            f"{form}_step_peak_mib": peak_mib(steps[form], [x, *parameters_and_buffers(conv)]),
            f"{form}_gmacs": macs[form] / 1e9,
        }
    conv.form = "auto"
    speedup = seconds["direct"].median_s / seconds["factored"].median_s
    return found | {"speedup": speedup, "auto": conv.choose(x)}


def _forward(conv: FormedConv, form: Form, x: Tensor, _: Tensor) -> Tensor:
    conv.form = form
    result: Tensor = conv(x)
    return result


def _forward_and_back(conv: FormedConv, form: Form, x: Tensor, work: Workload) -> None:
    leaf = x.detach().clone().requires_grad_()
    with work.precision():
        total = _forward(conv, form, leaf, leaf).sum()
    torch.autograd.backward(total)
    conv.zero_grad(set_to_none=True)
