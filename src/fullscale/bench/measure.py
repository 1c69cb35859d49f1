"""Clocks and counters: seconds side by side, multiply-accumulates, the machine's own limit, memory of a process."""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch

from fullscale.errors import FullscaleError
from fullscale.work.machine import processor_name

Name = TypeVar("Name", bound=str)

ROOFLINE_SIDE = 3072


@dataclass(frozen=True)
class Timing:
    """Seconds of one thing, run several times."""

    runs_s: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """The middle of all runs."""
        return statistics.median(self.runs_s)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"median_s": self.median_s, "runs_s": list(self.runs_s)}


def alternate(
    tasks: Mapping[Name, Callable[[], object]], repeats: int, device: torch.device, warmup: int = 1
) -> dict[Name, Timing]:
    """Time several tasks in turn, A B A B ..., so that a machine that speeds up or slows down treats all alike.

    Args:
        tasks: what to time, by name.
        repeats: timed rounds, at least 1.
        device: waited for before a clock is read.
        warmup: rounds before, not timed.
    """
    runs: dict[Name, list[float]] = {name: [] for name in tasks}
    was_frozen = gc.get_freeze_count() > 0
    gc.freeze()  # what is here already is not searched again after every task
    try:
        for round_ in range(warmup + repeats):
            for name, task in tasks.items():
                synchronise(device)
                start = time.perf_counter()
                task()
                synchronise(device)
                if round_ >= warmup:
                    runs[name].append(time.perf_counter() - start)
                gc.collect()
    finally:
        if not was_frozen:
            gc.unfreeze()
    return {name: Timing(tuple(seconds)) for name, seconds in runs.items()}


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def roofline_gflops(device: torch.device, dtype: torch.dtype, repeats: int = 5) -> float:
    """Measure the most that this machine reaches: a large square matrix product, in 10^9 operations a second."""
    a, b = torch.randn(2, ROOFLINE_SIDE, ROOFLINE_SIDE, device=device, dtype=dtype).unbind()
    seconds = alternate({"matmul": lambda: a @ b}, repeats, device)["matmul"]
    return 2 * ROOFLINE_SIDE**3 / min(seconds.runs_s) / 1e9


def in_fresh_process(module: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Run `python -m module` with the request as JSON on its standard input, and return the JSON it prints.

    Raises:
        FullscaleError: it failed, or was killed for want of memory.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or [f"signal {-done.returncode}"])[-1]
        raise FullscaleError(f"the measurement {module} failed: {why}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def environment(device: torch.device) -> dict[str, Any]:
    """What was measured on: machine, threads and versions."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "fullscale": version("fullscale"),
    }


def processor() -> str:
    """Name of the CPU, with its instruction set as torch uses it."""
    return f"{processor_name()}, {torch.backends.cpu.get_cpu_capability()}"
