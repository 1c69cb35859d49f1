"""What the service was started with, and where it keeps what."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fullscale.bundle.card import Card, is_exported
from fullscale.bundle.store import read_cards, require_whole
from fullscale.errors import OutputError, UsageError
from fullscale.inference.runtimes.load import RuntimeName, load_members
from fullscale.serve.database import DATABASE
from fullscale.text import counted

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class ServedModel:
    """A model under the name by which it is asked for.

    Attributes:
        name: letters, digits, `_`, `.` and `-`.
        path: a run folder, a bundle or an exported `.onnx`.
        card: what it is.
        channels: names of the channels of a scan, in its order.
        members: models whose probabilities are averaged.
    """

    name: str
    path: Path
    card: Card
    channels: tuple[str, ...]
    members: int = 1


@dataclass(frozen=True)
class ServeSettings:
    """What the service was started with.

    Attributes:
        models: what it offers, by name.
        state: the folder of the service: jobs, uploads and results.
        data: the folder of cases, or None.
        device: of the models.
        runtime: that computes them.
        workers: jobs at a time, each in a process of its own with one model loaded.
        keep_s: seconds that a job's files are kept after its end.
        most_waiting: jobs that may wait.
        largest_upload: bytes of one request.
        upload_s: seconds that one upload may take in all.
        idle_s: seconds that a client may send nothing within an upload.
        debug: whether worker processes may speak on standard error.
    """

    models: dict[str, ServedModel]
    state: Path
    data: Path | None = None
    device: str = "auto"
    workers: int = 1
    keep_s: float = 7 * 86400.0
    most_waiting: int = 1000
    largest_upload: int = 4 << 30
    upload_s: float = 600.0
    idle_s: float = 30.0
    runtime: RuntimeName | None = None
    debug: bool = field(default_factory=lambda: bool(os.environ.get("FULLSCALE_DEBUG")))

    @property
    def database(self) -> Path:
        """The file of jobs."""
        return self.state / DATABASE

    @property
    def jobs(self) -> Path:
        """The folder that holds a folder of each job."""
        return self.state / "jobs"

    @property
    def kept(self) -> str:
        """How long files are kept, for people."""
        for name, seconds in (("day", 86400), ("hour", 3600), ("minute", 60)):
            if self.keep_s >= seconds:
                return counted(round(self.keep_s / seconds), name)
        return counted(round(self.keep_s), "second")

    def inputs(self, id: str) -> Path:
        """Return the folder of what was uploaded for a job."""
        return self.jobs / id / "input"

    def outputs(self, id: str) -> Path:
        """Return the folder of a job's masks."""
        return self.jobs / id / "output"

    def make_folders(self) -> None:
        """Make the folder of the service, which nobody else of this machine may read.

        Raises:
            OutputError: it cannot be made.
        """
        try:
            self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.jobs.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise OutputError(f"cannot write {self.state}: {error.strerror or error}") from error


def named_models(given: Sequence[str]) -> dict[str, ServedModel]:
    """Read `PATH` or `NAME=PATH` of each model, and check that each is there and whole.

    Raises:
        UsageError: a name is no name, or stands for two models.
        DataError: there is no model at a path, or it is damaged.
    """
    found: dict[str, ServedModel] = {}
    for text in given:
        before, equals, after = text.partition("=")
        name, path = (before, Path(after)) if equals and not Path(text).exists() else ("", Path(text))
        name = name or path.resolve().stem
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"a model cannot be called {name!r}: use up to 64 letters, digits, _, . and -, as in liver={path}"
            )
        if name in found:
            raise UsageError(f"two models are called {name!r} ({found[name].path} and {path}): give one as NAME={path}")
        found[name] = _served(name, path)
    return found


def _served(name: str, path: Path) -> ServedModel:
    if is_exported(path):
        exported, [member] = load_members(path, "cpu")
        return ServedModel(name, path.absolute(), exported, member.card.recipe.channels)
    card, members = read_cards(path)
    require_whole(path)
    return ServedModel(name, path.absolute(), card, members[0].recipe.channels, len(members))
