"""Peak memory of one training step, in a process of its own: `python -m fullscale.bench.peak`, a request on stdin."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import torch

from fullscale.bench.workload import Workload


def peak_mib(request: dict[str, Any]) -> float:
    """Build the network, train it one step, and return the most memory held, in MiB.

    On a CPU that is the resident set of the process, Python and libraries included; on a GPU what torch allocated.
    """
    work = Workload(**request)
    network = work.network()
    step = work.training_step(network)
    step()
    if work.torch_device.type == "cuda":
        return torch.cuda.max_memory_allocated(work.torch_device) / 2**20
    return resident_peak_mib()


def resident_peak_mib() -> float:
    """Return the most this process has held.

    Linux keeps in `ru_maxrss` what the parent held when it started the process; `VmHWM` begins anew.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    json.dump({"peak_mib": peak_mib(json.load(sys.stdin))}, sys.stdout)
