"""Commands in processes of their own, which can be killed, and what they leave behind."""

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ZYGOTE = Path(__file__).with_name("zygote.py")
ROOT = Path(__file__).resolve().parents[2]
MARKS = re.compile(r"^\.(writing|old)-")
"""How the name of a temporary file begins."""
PASSING = re.compile(r"(elapsed_s|processor_s|step_s|augmentation_share|created|digest|members|masks|data)$")
"""Keys of JSON that tell the time of a run, or what depends on it, and those that stand for a place."""
UNSTEADY = (
    *(".lock", ".digests", ".fullscale.jsonl", ".places", "progress.png"),
    *("results.csv", "results.md", "results.tex", "results.png"),
)
"""Files that tell the time of a run, or when others were written."""


@dataclass
class Running:
    """A command at work.

    Attributes:
        pid: of its process.
        stdout: where its output goes.
        stderr: where its errors go.
    """

    pid: int
    stdout: Path
    stderr: Path
    zygote: "Zygote"

    def wait(self) -> "Ended":
        """Wait for its end."""
        code = self.zygote.ask({"wait": self.pid})
        return Ended(code, self.stdout.read_text(), self.stderr.read_text())

    def end_after(self, seconds: float, with_signal: signal.Signals) -> "Ended":
        """Send a signal after a while, unless it ended before, and wait for its end."""
        time.sleep(seconds)
        os.kill(self.pid, with_signal)  # not yet waited for, so the number is still its own
        return self.wait()

    def interrupt_after(self, seconds: float, with_signal: signal.Signals) -> "Ended":
        """Send a signal to it and its children, as a terminal does, once it heeds signals and so many seconds later."""
        while not self._heeds(signal.SIGTERM):
            time.sleep(0.002)
        time.sleep(seconds)
        os.killpg(self.pid, with_signal)
        return self.wait()

    def _heeds(self, number: signal.Signals) -> bool:
        """Tell whether a signal has a handler, or the process has ended."""
        keys = dict(line.split(":\t", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines())
        return "SigCgt" not in keys or keys["State"][0] == "Z" or bool(int(keys["SigCgt"], 16) >> (number - 1) & 1)


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, negative for the signal that ended it, and what it said."""

    code: int
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        """The last line of its errors."""
        return (self.stderr.strip().splitlines() or [""])[-1]


class Zygote:
    """Starts commands without loading everything anew.

    Args:
        folder: for what they say, and their cache.
        environment: of the process, beside what is there.
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder, self.count = folder, 0
        self.process = subprocess.Popen(
            [sys.executable, str(ZYGOTE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ
            | {"OMP_NUM_THREADS": "1", "FULLSCALE_CACHE": str(folder / "cache")}
            | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
            | environment,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def ask(self, request: Mapping[str, Any]) -> int:
        """Send a request and return the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, *arguments: object, files: int = 0, **environment: str) -> Running:
        """Start a command; `files` limits how many it may have open."""
        self.count += 1
        out, err = (self.folder / f"{self.count}.{stream}" for stream in ("out", "err"))
        request = {"arguments": list(map(str, arguments)), "stdout": str(out), "stderr": str(err), "files": files}
        return Running(self.ask(request | {"environment": environment}), out, err, self)

    def run(self, *arguments: object, files: int = 0, **environment: str) -> Ended:
        """Run a command to its end."""
        return self.start(*arguments, files=files, **environment).wait()

    def close(self) -> None:
        """End the process that starts commands."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"end": True}) + "\n")  # a copy of this process may hold the pipe open
        self.process.stdin.close()
        self.process.wait(30)


def filled(words: Iterable[str], **places: object) -> list[str]:
    """Return the words of a command with every `{place}` filled in."""
    known = list(words)
    for name, place in places.items():
        known = [word.replace(f"{{{name}}}", str(place)) for word in known]
    return known


def litter(*folders: Path) -> list[Path]:
    """List the temporary files and folders that lie in some folders, at any depth."""
    return [path for folder in folders for path in folder.rglob(".*") if MARKS.match(path.name)]


def moments(seconds: float, count: int, name: str, seed: int) -> Iterable[float]:
    """Draw moments of a work that takes so many seconds."""
    rng = random.Random(f"{seed} {name}")
    return [rng.uniform(0, seconds) for _ in range(count)]


def content(folder: Path) -> dict[str, str]:
    """Describe everything that a command made, but for times: a digest of each file by its place."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): _digest(path, folder) for path in files if _counts(path, folder)}


def _counts(path: Path, folder: Path) -> bool:
    inside = path.relative_to(folder).parts
    return not (path.name in UNSTEADY or {"tensorboard", ".ledger"} & set(inside))


def _digest(path: Path, folder: Path) -> str:
    if path.suffix == ".ckpt":
        state = torch.load(path, weights_only=True)
        whole = b"".join(f"{k}".encode() + v.numpy().tobytes() for k, v in sorted(state["state_dict"].items()))
    elif path.suffix == ".json":
        whole = json.dumps(_lasting(json.loads(path.read_bytes())), sort_keys=True).encode()
    elif path.name == "metrics.csv":
        rows = [line.split(",") for line in path.read_text().splitlines()]
        kept = [k for k, name in enumerate(rows[0]) if not PASSING.match(name)]
        whole = "\n".join(",".join(row[k] for k in kept) for row in rows).encode()
    elif path.name == "MODEL_CARD.md":
        lasting = re.sub(
            rb"^<!-- begin making.*?^<!-- end making", b"", path.read_bytes(), flags=re.MULTILINE | re.DOTALL
        )
        whole = re.sub(rb"\b[0-9a-f]{12,16}\b", b"", lasting)  # digests of models, whose cards tell the time
    else:
        whole = path.read_bytes()
    return hashlib.sha256(whole.replace(str(folder).encode(), b"FOLDER")).hexdigest()


def _lasting(value: Any) -> Any:
    """Leave out what tells the time."""
    if isinstance(value, dict):
        return {key: _lasting(part) for key, part in value.items() if not PASSING.match(key)}
    return [_lasting(part) for part in value] if isinstance(value, list) else value
