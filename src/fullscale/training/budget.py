"""How long a run trains."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import numpy as np
from lightning.pytorch.utilities.types import STEP_OUTPUT

from fullscale.config.schema import OptimizerConfig
from fullscale.training.checkpoints import read_checkpoint
from fullscale.training.optimizers import learning_rate


class Budget(lightning.Callback):
    """How far the run is, in minutes or in steps, whichever ends first; it sets the learning rate and ends the run.

    Minutes count training and validation, over all the times that the run was started. Its state travels in the
    checkpoint.
    """

    def __init__(self, max_minutes: float | None, max_steps: int | None, config: OptimizerConfig) -> None:
        self.max_seconds = None if max_minutes is None else 60 * max_minutes
        self.max_steps = max_steps
        self.config = config
        self.earlier_s = 0.0
        self.started: float | None = None

    @property
    def elapsed_s(self) -> float:
        """Seconds spent so far."""
        return self.earlier_s + (0.0 if self.started is None else time.monotonic() - self.started)

    def progress(self, step: int) -> float:
        """Fraction of the budget that is spent, from 0 to 1."""
        by_steps = step / self.max_steps if self.max_steps else 0.0
        by_time = self.elapsed_s / self.max_seconds if self.max_seconds else 0.0
        return min(1.0, max(by_steps, by_time))

    def spent_in(self, checkpoint: Path) -> bool:
        """Whether the run that wrote `checkpoint` had spent this budget."""
        state = read_checkpoint(checkpoint)
        self.load_state_dict(state["callbacks"][self.state_key])
        return self.progress(state["global_step"]) >= 1

    def on_train_start(self, *_: Any) -> None:
        """Start the clock."""
        self.started = time.monotonic()

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Set the learning rate of this step."""
        rate = learning_rate(self.config) * self._factor(trainer.global_step)
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = rate

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: STEP_OUTPUT, *_: Any
    ) -> None:
        """Ask for the end once the budget is spent; all processes agree."""
        del module, outputs
        spent = self.progress(trainer.global_step) >= 1
        trainer.should_stop = trainer.strategy.reduce_boolean_decision(spent, all=False)

    def state_dict(self) -> dict[str, Any]:
        """The seconds spent."""
        return {"elapsed_s": self.elapsed_s}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.earlier_s = float(state["elapsed_s"])

    def _factor(self, step: int) -> float:
        progress = self.progress(step)
        warmup = min(1.0, (step + 1) / (self.config.warmup_steps + 1))
        if self.config.schedule == "constant":
            return warmup
        if self.config.schedule == "cosine":
            return warmup * 0.5 * (1 + float(np.cos(np.pi * progress)))
        return warmup * float((1 - progress) ** 0.9)
