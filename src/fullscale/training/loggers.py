"""Where the course of a training is followed: TensorBoard, MLflow and W&B, as Lightning's loggers.

What they are given: metrics, the settings, means of the scores, curves. No name of a case, no path of a scan; the model
only where `trainer.log_model` asks for it, as its card names the cases that it has seen.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from lightning.pytorch.loggers import Logger, TensorBoardLogger

from fullscale.config.load import flatten
from fullscale.config.schema import Config, TrainerConfig
from fullscale.documents import read_json
from fullscale.errors import DataError
from fullscale.extras import needs
from fullscale.files import write_json
from fullscale.runfolder import FoldFolder, RunFolder
from fullscale.scoring.summary import Summary
from fullscale.text import counted, one_line, without_passwords
from fullscale.training.initial_weights import digests_of_paths, without_paths

SCORES = ("Dice", "NSD", "HD95")
"""Means that a tracker is given for each structure when the held-back cases are scored."""
PATIENCE_S = 60.0
"""How long a tracker that failed is left alone before it is tried again: each try may take its own while."""

_log = logging.getLogger(__name__)


class Tracked(Protocol):
    """One fold, as a tracker of experiments keeps it."""

    name: str
    """How the same fold is found again."""

    logger: Logger

    def keep(self, content: Mapping[str, str], files: list[Path]) -> None:
        """Keep files: some by name and text, others as they lie there, folders included."""

    def end(self, how: str) -> None:
        """Say that it is `finished`, `failed` or `stopped`."""


class Forgiving(Logger):
    """Passes on what is logged; where the tracker fails, training goes on, and what it missed follows later.

    Args:
        logger: of the tracker.
        title: what people call the tracker.
    """

    def __init__(self, logger: Logger, title: str) -> None:
        super().__init__()
        self.inner = logger
        self.title = title
        self.waiting: deque[tuple[dict[str, float], int | None]] = deque()
        self.again_s = float("-inf")
        self.lost = False

    @property
    def name(self) -> str | None:
        """The experiment."""
        name: str | None = self.inner.name
        return name

    @property
    def version(self) -> int | str | None:
        """The run."""
        version: int | str | None = self.inner.version
        return version

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers now, or when the tracker is there again."""
        self.waiting.append((dict(metrics), step))
        if time.monotonic() >= self.again_s:
            self.send()

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Do nothing: the settings are logged when the fold is opened, without paths and names."""

    def send(self) -> None:
        """Send what waits."""
        late = len(self.waiting)
        if self.attempt(self._send) and self.lost:
            self.lost = False
            _log.warning("%s is there again, and has what it missed (%s)", self.title, counted(late, "line"))

    def _send(self) -> None:
        while self.waiting:
            self.inner.log_metrics(*self.waiting[0])
            self.waiting.popleft()

    def attempt(self, work: Callable[[], object]) -> bool:
        """Do something with the tracker; tell whether it went well, and say once that it did not."""
        try:
            work()
        except Exception as error:  # of HTTP, of a database, of a full disk: no tracker is worth a training
            self.again_s = time.monotonic() + PATIENCE_S
            if not self.lost:
                reason = f"{type(error).__name__}: {without_passwords(one_line(error))}"
                _log.warning(
                    "%s cannot be written (%s): training goes on, and metrics.csv has every epoch", self.title, reason
                )
            self.lost = True
            return False
        return True


@dataclass
class Trackers:
    """The loggers of a fold; nothing is opened before it is needed.

    Attributes:
        run: the run.
        fold: the fold.
        config: with every value filled in.
        quiet: whether another process of the training logs.
        opened: what is open, by name.
    """

    run: RunFolder
    fold: FoldFolder
    config: Config
    quiet: bool = False
    opened: dict[str, tuple[Tracked, Forgiving]] = field(default_factory=dict)

    def loggers(self) -> list[Logger]:
        """Return Lightning's loggers; a training that goes on is the same run of a tracker."""
        if self.quiet:
            return []
        names = chosen(self.config.trainer)
        own = [TensorBoardLogger(self.fold.path, name=None, version="tensorboard")] if "tensorboard" in names else []
        return [*own, *(forgiving for _, forgiving in self._open().values())]

    def hand_in(self, summary: Summary, step: int) -> None:
        """Give the trackers the scores of the held-back cases, as means, and the curves.

        Args:
            summary: of the fold.
            step: of the model that was scored.
        """
        scores = mean_scores(summary)
        flat = {f"score/{metric}/{name}": value for name, means in scores.items() for metric, value in means.items()}
        texts = {
            "scores.json": json.dumps(scores, indent=2),
            "settings.json": json.dumps(logged_settings(self.config), indent=2),
        }
        files = [self.fold.metrics, self.fold.progress, *([self.fold.bundle] if self.config.trainer.log_model else [])]
        for tracked, forgiving in self._open().values():
            forgiving.log_metrics(flat, step)
            forgiving.attempt(partial(tracked.keep, texts, files))

    def close(self, how: str) -> None:
        """Say how the fold ended: `finished`, `failed` or `stopped`."""
        for tracked, forgiving in self.opened.values():
            forgiving.send()
            if forgiving.waiting:
                left = counted(len(forgiving.waiting), "line")
                _log.warning("%s lacks %s; metrics.csv has every epoch", forgiving.title, left)
            forgiving.attempt(partial(tracked.end, how))

    def _open(self) -> dict[str, tuple[Tracked, Forgiving]]:
        wanted = [name for name in chosen(self.config.trainer) if name in _TRACKERS]
        if self.quiet or self.opened or not wanted:
            return self.opened
        known, settings = _known(self.fold), logged_settings(self.config)
        title = f"{self.run.path.absolute().name}, fold {self.fold.name}"
        for name in wanted:
            tracked = _open(name, self.run, self.fold, title, settings, known.get(name))
            self.opened[name] = tracked, Forgiving(tracked.logger, _TRACKERS[name])
        write_json(self.fold.tracking, known | {name: tracked.name for name, (tracked, _) in self.opened.items()})
        return self.opened


_TRACKERS = {"mlflow": "MLflow", "wandb": "W&B"}
"""Trackers that an experiment is opened in, and what people call them."""


@contextmanager
def follow(run: RunFolder, fold: FoldFolder, config: Config) -> Iterator[Trackers]:
    """Give the loggers of a fold, and tell them how its training ends."""
    trackers = Trackers(run, fold, config)
    try:
        yield trackers
    except BaseException as error:
        trackers.close("failed" if isinstance(error, Exception) else "stopped")
        raise
    trackers.close("finished")


def chosen(trainer: TrainerConfig) -> tuple[str, ...]:
    """Name the loggers: as set, or TensorBoard where it is installed."""
    if trainer.logger is not None:
        return trainer.logger
    return ("tensorboard",) if find_spec("tensorboard") else ()


def require_trackers(trainer: TrainerConfig, run: RunFolder) -> None:
    """Refuse a logger that is not installed, or that cannot be reached, before any work.

    Raises:
        UsageError: it is one of these; an extra is named.
    """
    names = chosen(trainer)
    if "tensorboard" in names and find_spec("tensorboard") is None:
        with needs("tensorboard", "curves in TensorBoard"):
            raise ModuleNotFoundError(name="tensorboard")
    if "mlflow" in names:
        from fullscale.training import mlflow_runs

        mlflow_runs.require(run)
    if "wandb" in names:
        from fullscale.training import wandb_runs

        wandb_runs.require()


def _open(
    name: str, run: RunFolder, fold: FoldFolder, title: str, settings: dict[str, Any], known: str | None
) -> Tracked:
    if name == "mlflow":
        from fullscale.training.mlflow_runs import MlflowRun

        return MlflowRun.open(run, title, settings, known)
    from fullscale.training.wandb_runs import WandbRun

    return WandbRun.open(fold, title, settings, known)


def logged_settings(config: Config) -> dict[str, Any]:
    """Return every setting by its dotted key, without a path of weights and without a name of a case."""
    settings: dict[str, Any] = without_paths(flatten(config), digests_of_paths(config))
    if config.data.validation is not None:
        settings["data.validation"] = counted(len(config.data.validation), "case")
    return settings


def mean_scores(summary: Summary) -> dict[str, dict[str, float]]:
    """Return the means of each structure that was scored, and of all of them together."""
    means = {name: summary.mean(label) for label, name in summary.labels.items()}
    everything = means | {"mean": summary.foreground_mean()}
    return {
        name: {metric: float(value) for metric in SCORES if (value := mean[metric]) is not None}
        for name, mean in everything.items()
    }


def _known(fold: FoldFolder) -> dict[str, str]:
    """Return how trackers call the fold, as far as that is written down and can be read."""
    try:
        content = read_json(fold.tracking) if fold.tracking.is_file() else {}
    except DataError as error:
        _log.warning("%s; the fold begins anew in its trackers", error)
        content = {}
    return {name: text for name, text in content.items() if isinstance(text, str)} if isinstance(content, dict) else {}
