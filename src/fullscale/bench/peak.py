"""Peak memory of one training step, in a process of its own: `python -m fullscale.bench.peak`, a request on stdin."""

from __future__ import annotations

import json
import resource
import sys
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
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    json.dump({"peak_mib": peak_mib(json.load(sys.stdin))}, sys.stdout)
