"""All that a GPU should tell, in under ten minutes: its tests, and the benchmarks in 2D and 3D.

    make gpu

Results are written beside this file, as JSON with the GPU's name. What does not fit into the time is named and left
out. Without a GPU a line says so, and nothing is run.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
MINUTES = 9.5


def tasks(gpu: str, scan: Path) -> list[tuple[str, list[str]]]:
    """Return what is run, the most telling first: its name, and the words of the command."""
    here = [sys.executable, "-m", "fullscale", "bench"]
    on = ["--device", "cuda"]
    three = ["--spatial-dims", "3", "--width", "32"]

    def bench(verb: str, name: str, *words: str) -> tuple[str, list[str]]:
        return name, [*here, verb, *words, *on, "--overwrite", "--json", str(HERE / f"{name}-{gpu}.json")]

    def script(name: str, *words: str) -> tuple[str, list[str]]:
        file = HERE / f"{name.partition('-')[0]}.py"
        return name, [sys.executable, str(file), *words, "--json", str(HERE / f"{name.replace('_', '-')}-{gpu}.json")]

    return [
        ("tests", [sys.executable, "-m", "pytest", "-n0", "-q", str(HERE.parent / "tests" / "gpu")]),
        bench("decoder", "decoder-3d", *three, "--size", "96", "--batch", "2", "--bf16", "--repeats", "3"),
        bench("decoder", "decoder-2d", "--batch", "4", "--bf16", "--repeats", "3"),
        bench("networks", "networks-3d", *three, "--size", "64", "--batch", "2", "--bf16", "--repeats", "3"),
        bench("networks", "networks-2d", "--batch", "4", "--bf16", "--repeats", "3"),
        bench("scan", "scan-3d", str(scan), "--spatial-dims", "3", "--widths", "16,32"),
        bench("scan", "scan-2d", str(scan), "--widths", "32,64"),
        script("volume_steps-32x48x32", "--size", "32,48,32", *on),
        script("volume_steps-96x96x96", *on),
        bench("decoder", "decoder-3d-float32", *three, "--size", "64", "--batch", "2", "--repeats", "3"),
        bench("decoder", "decoder-2d-float32", "--batch", "2", "--repeats", "3"),
        script("patch_memory"),
    ]


def say(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Run them all; the exit code says whether each that was run went well."""
    if not torch.cuda.is_available():
        say("make gpu: torch sees no GPU here; nothing was run")
        return 0
    end = time.monotonic() + 60 * MINUTES
    gpu = re.sub(r"\W+", "-", torch.cuda.get_device_name()).strip("-").lower()
    with tempfile.TemporaryDirectory() as folder:
        phantom = ["phantom", folder, "--cases", "1", "--size", "256", "--slices", "96", "--overwrite"]
        subprocess.run([sys.executable, "-m", "fullscale", *phantom], check=True)
        failed = run(tasks(gpu, next(Path(folder).rglob("*.nii.gz"))), end)
    return 1 if failed else 0


def run(tasks: list[tuple[str, list[str]]], end: float) -> list[str]:
    """Run one after the other until the time is over, and return the names of those that failed."""
    failed = []
    for name, words in tasks:
        left = end - time.monotonic()
        if left < 5:
            say(f"{name}: left out, {MINUTES:g} minutes are over")
            continue
        start = time.monotonic()
        process = subprocess.Popen(words, start_new_session=True)
        try:
            code = process.wait(timeout=left)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that it measures in
            process.wait()
            say(f"{name}: ended, {MINUTES:g} minutes are over")
            continue
        say(f"{name}: {'done' if code == 0 else f'failed with exit code {code}'}, {time.monotonic() - start:.0f} s")
        failed += [name] if code else []
    return failed


if __name__ == "__main__":
    sys.exit(main())
