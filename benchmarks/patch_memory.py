"""The largest patch of which a training step in 3D fits into so much GPU memory, measured.

    python benchmarks/patch_memory.py --gib 24 --json memory.json

A step of UNet 3+ of width 32, S 32 and five levels, two patches of equal sides, is done in a process of its own for
each side in steps of 16, while torch may allocate no more than that, or than the GPU has. `fullscale bench memory`
computes the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from fullscale.bench.measure import environment
from fullscale.bench.peak import peak_mib

FORMS = ("direct", "factored")
SMALLEST = 96


def measure(form: str, bf16: bool, side: int, gib: float) -> float | None:
    """Do a step in this process, and return its peak in MiB; None where the memory does not suffice."""
    share = gib * 2**30 / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, share))
    work = {"width": 32, "size": side, "batch": 2, "device": "cuda", "form": form, "bf16": bf16, "spatial_dims": 3}
    try:
        return peak_mib(work)
    except torch.OutOfMemoryError:
        return None


def in_own_process(*words: object) -> float | None:
    """Measure in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", *map(str, words)], check=True, stdout=subprocess.PIPE, text=True
    )
    found: float | None = json.loads(done.stdout)
    return found


def main() -> int:
    """Measure side after side, until one does not fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=24)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        sys.stdout.write("torch sees no GPU here; nothing was measured\n")
        return 0
    if asked.one:
        form, bf16, side, gib = asked.one
        json.dump(measure(form, bf16 == "True", int(side), float(gib)), sys.stdout)
        return 0
    rows: list[dict[str, Any]] = []
    result = {"benchmark": "patch memory", "gib": asked.gib, "environment": environment(torch.device("cuda"))}
    for form in FORMS:
        for bf16 in (False, True):
            side = SMALLEST
            while True:
                peak = in_own_process(form, bf16, side, asked.gib)
                rows.append({"form": form, "bf16": bf16, "side": side, "peak_mib": peak})
                told = "does not fit" if peak is None else f"{peak:.0f} MiB"
                sys.stdout.write(f"{form}, {'bf16' if bf16 else 'float32'}, {side}: {told}\n")
                if asked.json is not None:
                    asked.json.write_text(json.dumps(result | {"steps": rows}, indent=2) + "\n")
                if peak is None:
                    break
                side += 16
    return 0


if __name__ == "__main__":
    sys.exit(main())
