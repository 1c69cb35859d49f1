"""How long a run trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import numpy as np
from lightning.pytorch.utilities.types import STEP_OUTPUT

from fullscale.config.schema import OptimizerConfig, TrainerConfig
from fullscale.training.checkpoints import is_validated, read_checkpoint
from fullscale.training.clock import NOTHING, Cost, LoaderTimes
from fullscale.training.group import ALONE, Group
from fullscale.training.optimizers import learning_rate


class Budget(lightning.Callback):
    """How far the run is, in minutes or in steps, whichever ends first; it sets the learning rate and ends the run.

    Minutes count training and validation, over all the times that the run was started, by the clock that the
    configuration names. Its state travels in the checkpoint.

    Args:
        trainer: minutes and their clock, and the steps, all filled in.
        optimizer: its rate and schedule.
        times: of the processes that prepare crops.
        group: the processes that train together; the clock that is furthest holds for all, or their weights would part.
    """

    def __init__(
        self, trainer: TrainerConfig, optimizer: OptimizerConfig, times: LoaderTimes, group: Group = ALONE
    ) -> None:
        self.max_seconds = None if trainer.max_minutes is None else 60 * trainer.max_minutes
        self.max_steps = trainer.max_epochs and trainer.max_epochs * (trainer.steps_per_epoch or 0)
        self.clock = trainer.clock
        self.config = optimizer
        self.times = times
        self.group = group
        self.earlier = NOTHING
        self.started: Cost | None = None

    @property
    def cost(self) -> Cost:
        """What the run has cost so far."""
        return self.earlier if self.started is None else self.earlier.plus(self.times.now().since(self.started))

    @property
    def spent_s(self) -> float:
        """Seconds spent so far, by the budget's clock."""
        return self.cost.processor_s if self.clock == "processor" else self.cost.wall_s

    def progress(self, step: int) -> float:
        """Fraction of the budget that is spent, from 0 to 1."""
        by_steps = step / self.max_steps if self.max_steps else 0.0
        by_time = self.spent_s / self.max_seconds if self.max_seconds else 0.0
        return min(1.0, max(by_steps, by_time))

    def spent_in(self, checkpoint: Path) -> bool:
        """Whether the run that wrote `checkpoint` had spent this budget, and had validated what it trained."""
        state = read_checkpoint(checkpoint)
        self.load_state_dict(state["callbacks"][self.state_key])
        return self.progress(state["global_step"]) >= 1 and is_validated(state)

    def on_train_start(self, *_: Any) -> None:
        """Start the clock."""
        self.started = self.times.now()

    def on_train_batch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule, *_: Any) -> None:
        """Set the learning rate of this step, and log it."""
        progress = self._progress_of_all(trainer.global_step)
        rate = learning_rate(self.config) * self._factor(trainer.global_step, progress)
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = rate
        module.log("learning_rate", rate)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: STEP_OUTPUT, *_: Any
    ) -> None:
        """Ask for the end once the budget is spent; all processes agree."""
        del module, outputs
        trainer.should_stop = self._progress_of_all(trainer.global_step) >= 1

    def on_validation_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Ask for the end where validation has spent the rest, or a run goes on with nothing but validation left."""
        trainer.should_stop = self._progress_of_all(trainer.global_step) >= 1

    def state_dict(self) -> dict[str, Any]:
        """The seconds spent."""
        return {"elapsed_s": self.cost.wall_s, "processor_s": self.cost.processor_s}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; one without processor time was written before a budget could be one of it."""
        self.earlier = Cost(float(state["elapsed_s"]), float(state.get("processor_s", 0.0)), 0.0)

    def _progress_of_all(self, step: int) -> float:
        """Return the progress by the clock that is furthest; steps are the same everywhere."""
        progress = self.progress(step)
        return self.group.largest(progress) if self.max_seconds else progress

    def _factor(self, step: int, progress: float) -> float:
        warmup = min(1.0, (step + 1) / (self.config.warmup_steps + 1))
        if self.config.schedule == "constant":
            return warmup
        if self.config.schedule == "cosine":
            return warmup * 0.5 * (1 + float(np.cos(np.pi * progress)))
        return warmup * float((1 - progress) ** 0.9)
