"""The course of a fold: each epoch in the log, in `metrics.csv` and in `progress.png`, and how far the epoch is."""

from __future__ import annotations

import csv
import io
import logging
import time
from collections.abc import Mapping
from typing import Any

import lightning
import numpy as np
from lightning.pytorch.utilities.types import STEP_OUTPUT

from fullscale.files import write_text
from fullscale.progress import Progress
from fullscale.reporting.curves import write_progress
from fullscale.runfolder import FoldFolder
from fullscale.training.budget import Budget
from fullscale.training.clock import NOTHING, Cost

_log = logging.getLogger(__name__)


class Steps(lightning.Callback):
    """Tells of each step how far the epoch is.

    Args:
        fold: that is trained.
        progress: told by the first process.
    """

    def __init__(self, fold: FoldFolder, progress: Progress) -> None:
        self.fold = fold
        self.progress = progress

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: STEP_OUTPUT, *rest: Any
    ) -> None:
        """Tell of a step."""
        del module, outputs
        _, index = rest
        if trainer.is_global_zero:
            loss = float(trainer.callback_metrics.get("loss", float("nan")))
            item = f"fold {self.fold.name}, epoch {trainer.current_epoch}, loss {loss:.4f}"
            self.progress(index + 1, int(trainer.num_training_batches), item)


class History(lightning.Callback):
    """Keeps a row per epoch. The rows travel in the checkpoint, so a resumed run goes on where it was.

    `step_s` is the median of the seconds from the end of one step to the end of the next, waiting for data included.
    `augmentation_share` is the share of augmentation in the processor time of the epoch's steps.

    Args:
        fold: its metrics and their curves are written.
        budget: tells the time.
    """

    def __init__(self, fold: FoldFolder, budget: Budget) -> None:
        self.fold = fold
        self.budget = budget
        self.rows: list[dict[str, float]] = []
        self.sums: dict[str, float] = {}
        self.steps = 0
        self.step_seconds: list[float] = []
        self.last_ended_s: float | None = None
        self.began = self.before = self.steps_cost = NOTHING

    def on_train_start(self, *_: Any) -> None:
        """Note what the run had cost when it went on within an epoch."""
        self.began = self.budget.cost

    def on_train_epoch_start(self, *_: Any) -> None:
        """Note what the run had cost when the epoch began."""
        self.began, self.before = self.budget.cost, NOTHING

    def on_validation_start(self, *_: Any) -> None:
        """Note what the steps of the epoch have cost."""
        self.steps_cost = self._spent()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Add up what the step logged, and note how long it took."""
        now = time.monotonic()
        if self.last_ended_s is not None:
            self.step_seconds.append(now - self.last_ended_s)
        self.last_ended_s = now
        self.steps += 1
        for name in ("loss", "presence_loss", "presence_accuracy"):
            if name in trainer.callback_metrics:
                self.sums[name] = self.sums.get(name, 0.0) + float(trainer.callback_metrics[name])

    def on_validation_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Add the row of the epoch."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row = {
            "epoch": float(trainer.current_epoch),
            "step": float(trainer.global_step),
            "elapsed_s": round(self.budget.cost.wall_s, 1),
            "processor_s": round(self.budget.cost.processor_s, 1),
            "augmentation_share": self.steps_cost.augmentation_s / max(self.steps_cost.processor_s, 1e-9),
            "step_s": float(np.median(self.step_seconds)) if self.step_seconds else float("nan"),
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
        }
        row |= {f"train_{name}": total / max(1, self.steps) for name, total in self.sums.items()}
        self.sums, self.steps, self.step_seconds, self.last_ended_s = {}, 0, [], None
        row["val_dice_mean"] = metrics["val_dice"]
        row |= {name: value for name, value in metrics.items() if name.startswith("val_dice_")}
        self.rows = [*(r for r in self.rows if r["epoch"] < row["epoch"]), row]
        if trainer.is_global_zero:
            self._write()
            _log.info("fold %s, %s", self.fold.name, _line(row))

    def state_dict(self) -> dict[str, Any]:
        """All rows, and what the next one is made of."""
        epoch = {"sums": self.sums, "steps": self.steps, "step_seconds": self.step_seconds}
        return {"rows": self.rows, "epoch": epoch | {"cost": list(self._spent())}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.rows = list(state["rows"])
        if "epoch" in state:  # 0.1 wrote none within an epoch
            epoch = state["epoch"]
            self.sums, self.steps, self.step_seconds = epoch["sums"], epoch["steps"], epoch["step_seconds"]
            self.before = Cost(*epoch["cost"])

    def _spent(self) -> Cost:
        """Return what the epoch has cost so far."""
        return self.before.plus(self.budget.cost.since(self.began))

    def _write(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.rows[-1]), restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" for k, v in row.items()} for row in self.rows)
        write_text(self.fold.metrics, text.getvalue())
        write_progress(self.fold.progress, self.rows)


def _line(row: Mapping[str, float]) -> str:
    presence = f", presence accuracy {row['train_presence_accuracy']:.3f}" if "train_presence_accuracy" in row else ""
    return (
        f"epoch {row['epoch']:.0f}, step {row['step']:.0f}, {row['elapsed_s'] / 60:.1f} min "
        f"({row['processor_s'] / 60:.1f} of processor time, augmentation {100 * row['augmentation_share']:.0f} %): "
        f"loss {row.get('train_loss', float('nan')):.4f}{presence}, validation Dice {row['val_dice_mean']:.4f}"
    )
