"""What a training step costs in 3D, for each form that the plan has to choose from.

    python benchmarks/volume_steps.py --width 16 --levels 4 --size 32,48,32 --json steps.json
    python benchmarks/volume_steps.py --device cuda --json steps.json

Forward, the loss over all supervised outputs, backward and AdamW, of two patches in bf16; the forms in turn.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fullscale.bench.measure import alternate, environment
from fullscale.data.plan import LEAN, OF_PATCHES
from fullscale.losses import create_loss
from fullscale.losses.supervision import SupervisedLoss
from fullscale.networks import create_network

FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "unet": ("unet", {}),
    "strided-unet": ("strided-unet", {}),
    "unet3+, lean": ("unet3+", LEAN),
    "unet3+, refined": ("unet3+", OF_PATCHES),
    "unet3+, the paper's": ("unet3+", {}),
}
BATCH, CLASSES = 2, 2


def step_of(name: str, options: dict[str, Any], sides: tuple[int, ...], device: torch.device) -> Callable[[], object]:
    """Return a training step of a network."""
    torch.manual_seed(0)
    network = create_network(name, 1, CLASSES, spatial_dims=3, **options).to(device).train()
    image = torch.randn(BATCH, 1, *sides, device=device)
    target = torch.zeros(BATCH, *sides, dtype=torch.long, device=device)
    target[(slice(None), *(slice(side // 4, side // 2) for side in sides))] = 1
    loss = SupervisedLoss(create_loss("ce+dice"))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-6)

    def run() -> object:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16):
            total = loss(network(image), target).total
        total.backward()
        return optimizer.step()

    return run


def main() -> int:
    """Time them, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--levels", type=int, default=5)
    parser.add_argument("--size", default="96,96,96", help="slices, rows and columns of a patch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    asked = parser.parse_args()
    device = torch.device(asked.device)
    sides = tuple(int(side) for side in asked.size.split(","))
    own = {"width": asked.width, "levels": asked.levels}
    papers = {"skip_channels": asked.width}
    steps = {
        label: step_of(name, own | (options or (papers if name == "unet3+" else {})), sides, device)
        for label, (name, options) in FORMS.items()
    }
    timings = alternate(steps, asked.repeats, device)
    result = {
        "benchmark": "volume steps",
        "workload": own | {"size": sides, "batch": BATCH, "bf16": True},
        "environment": environment(device),
        "steps": {label: timing.as_dict() for label, timing in timings.items()},
    }
    for label, timing in timings.items():
        sys.stdout.write(f"{label}: {1e3 * timing.median_s:.1f} ms\n")
    if asked.json is not None:
        asked.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
