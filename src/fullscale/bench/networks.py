"""Every registered network beside the others: parameters, operations, seconds, memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from fullscale.bench.measure import alternate, in_fresh_process
from fullscale.bench.workload import Workload
from fullscale.networks import list_networks
from fullscale.networks.parameters import count_macs, count_parameters
from fullscale.networks.spatial import VOLUMETRIC


def bench_networks(
    work: Workload,
    repeats: int = 5,
    names: list[str] | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measure each network on the same input in one run, in turn.

    Args:
        work: input and width; its own `name` is not looked at. PSPNet and DeepLabV3 do not train on a batch of one.
        repeats: timed rounds.
        names: of the networks; default all that take the workload's input.
        report: takes one line of print_status at a time.
    """
    device = work.torch_device
    possible = list_networks() if work.spatial_dims == 2 else VOLUMETRIC
    works = {name: replace(work, name=name) for name in names or possible}
    roofline = work.roofline_gflops()
    report(f"inference of {len(works)} networks")
    networks = {name: work.network().eval() for name, work in works.items()}
    inference = {name: works[name].inference(network) for name, network in networks.items()}
    macs = {name: count_macs(run) for name, run in inference.items()}
    seconds = alternate(inference, repeats, device)
    report("training steps")
    training = alternate({n: works[n].training_step(network) for n, network in networks.items()}, repeats, device)
    report("peak memory of a training step, each in a process of its own")
    rows = [
        {
            "network": name,
            "parameters": count_parameters(network),
            "gmacs": macs[name] / 1e9,
            "inference_s": seconds[name].median_s,
            "of_roofline": 2 * macs[name] / seconds[name].median_s / 1e9 / roofline,
            "training_step_s": training[name].median_s,
            "training_peak_mib": in_fresh_process("fullscale.bench.peak", asdict(works[name]))["peak_mib"],
        }
        for name, network in networks.items()
    ]
    return work.head("networks", "name", repeats, roofline) | {"networks": rows}
