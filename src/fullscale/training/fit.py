"""Lightning's trainer as a fold uses it: what it trains on, what it calls, and how it ends."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy

from fullscale.config.schema import Config
from fullscale.ending import Ending
from fullscale.inference.runtimes.torch import choose_device
from fullscale.losses.ms_ssim import MSSSIMLoss
from fullscale.runfolder import ALL, FoldFolder
from fullscale.training.averaging import averaged_weights
from fullscale.training.budget import Budget
from fullscale.training.checkpoints import SCORE, AtomicCheckpoints, Checkpoints, EndOfValidation, Interrupted, going_on
from fullscale.training.datamodule import SegmentationData
from fullscale.training.group import Environment, Group
from fullscale.training.history import History, Steps
from fullscale.training.loggers import Trackers
from fullscale.training.module import SegmentationModule
from fullscale.training.request import TrainRequest, Validated
from fullscale.work.machine import has_bf16

FULL = "32-true"
"""Lightning's name for training in float32 throughout."""

_log = logging.getLogger(__name__)


def fit(
    fold: FoldFolder,
    config: Config,
    module: SegmentationModule,
    data: SegmentationData,
    request: TrainRequest,
    trackers: Trackers,
) -> Path:
    """Train until the budget is spent, from the last checkpoint if there is one.

    Args:
        fold: where checkpoints and metrics are written.
        config: with every value filled in.
        module: the network and its loss.
        data: what it is trained on.
        request: who trains together, is told of each step, and may ask for the end.
        trackers: where its course is followed.

    Returns:
        The checkpoint to hand over: the best epoch, or the last where every case trains and none can choose.

    Raises:
        DataError: the last checkpoint is damaged.
        FullscaleError: the loss became NaN; the last checkpoint is kept.
        KeyboardInterrupt: Ctrl-C, or the end was asked for, and a checkpoint is written.
    """
    group = request.group
    budget = Budget(config.trainer, config.optimizer, data.times, group)
    kept = Checkpoints(fold, group, 60 * config.trainer.checkpoint_minutes, request.ending)
    last = fold.last_checkpoint
    with going_on(last, lambda: kept.has_begun or group.has_lost_one()):
        if not group.is_helper:
            kept.complete_pair()
        if not (last.is_file() and budget.spent_in(last)):
            averaging = [] if config.trainer.ema is None else [averaged_weights(config.trainer.ema)]
            first = [OwnHandler(), EndOfValidation(kept)]
            shown = [History(fold, budget), Steps(fold, request.progress)]
            callbacks = [*first, budget, *averaging, *shown, kept, Told(request.validated, budget)]
            _say_scales(module, data.crops.patch_size)
            _say_batch(config, group)
            if config.trainer.compile:
                module.network.compile()
            trainer = _trainer(config, fold, callbacks, group, trackers.loggers())
            _run(trainer, module, data, last if last.is_file() else None, request.ending)
    return last if fold.name == ALL else fold.best_checkpoint


class Told(lightning.Callback):
    """Tells of each validation; whoever is told may end the training, from whose checkpoint it can go on.

    Args:
        validated: is told, in the first process.
        budget: knows how much is spent.
    """

    def __init__(self, validated: Validated, budget: Budget) -> None:
        self.validated = validated
        self.budget = budget

    def on_validation_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Tell of one."""
        if trainer.is_global_zero:
            self.validated(self.budget.progress(trainer.global_step), float(trainer.callback_metrics[SCORE]))


class OwnHandler(lightning.Callback):
    """Keeps the handler of SIGTERM that was there before Lightning's.

    Lightning's passes the signal to all processes by a collective operation, in the middle of whatever they are doing.
    """

    def __init__(self) -> None:
        self.handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, *_: Any) -> None:
        """Put it back."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.handler)


def _run(
    trainer: lightning.Trainer,
    module: SegmentationModule,
    data: SegmentationData,
    checkpoint: Path | None,
    ending: Ending,
) -> None:
    """Train, from a checkpoint if there is one."""
    if checkpoint is not None:
        _log.info("going on from %s", checkpoint)
    try:
        with ending.postponed():
            trainer.fit(module, data, ckpt_path=None if checkpoint is None else str(checkpoint), weights_only=True)
    except Interrupted as stopped:
        _log.info("a checkpoint of step %d is written", trainer.global_step)
        ending.now(stopped.asked)
    except SystemExit as stopped:  # Lightning's way to end the process on Ctrl-C; whether it ends is not ours to say
        raise KeyboardInterrupt from stopped


def _trainer(
    config: Config,
    fold: FoldFolder,
    callbacks: list[lightning.Callback],
    group: Group,
    loggers: list[Logger],
) -> lightning.Trainer:
    device = choose_device(config.trainer.device)
    alone = group.size == 1
    return lightning.Trainer(
        accelerator={"cuda": "gpu"}.get(device.type, device.type),
        devices=group.ranks.local_size,
        num_nodes=group.ranks.machines,
        strategy="auto" if alone else DDPStrategy(),
        precision=choose_precision(config.trainer.precision, device),
        max_epochs=-1,
        gradient_clip_val=config.optimizer.clip_norm,
        deterministic=config.trainer.deterministic,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=loggers or False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=callbacks,
        plugins=[AtomicCheckpoints(), LightningEnvironment() if alone else Environment(group.ranks)],
        default_root_dir=fold.path,
        log_every_n_steps=10,
    )


def _say_scales(module: SegmentationModule, patch_size: Sequence[int]) -> None:
    """Say where crops are too small for all the scales that a loss would compare."""
    for loss in module.loss.modules():
        if isinstance(loss, MSSSIMLoss) and loss.scales(patch_size) < len(loss.weights):
            size = "x".join(map(str, patch_size))
            _log.info(
                "MS-SSIM compares crops of %s at %d of %d scales", size, loss.scales(patch_size), len(loss.weights)
            )


def _say_batch(config: Config, group: Group) -> None:
    """Say what several processes make of the batch."""
    if group.size > 1:
        each, rate = config.data.batch_size or 0, config.optimizer.learning_rate
        _log.info(
            "%d processes: a batch of %d crops each, %d in all; the learning rate stays %g",
            *(group.size, each, group.size * each, rate),
        )


def choose_precision(wanted: str, device: torch.device) -> str:
    """Choose what Lightning trains in, by its name for it.

    `auto` is bf16 on a GPU or a processor that computes in it. Weights, losses and the optimiser are float32 in all of
    them.
    """
    bf16_here = has_bf16() if device.type == "cpu" else _gpu_has_bf16(device)
    if wanted == "auto":
        wanted = "bf16" if bf16_here else "32"
    elif wanted == "bf16" and not bf16_here:
        _log.warning(
            "this machine's %s does not compute in bf16: it is emulated, at a small part of the speed of 32",
            device.type,
        )
    return {"32": FULL, "bf16": "bf16-mixed", "16": "16-mixed"}[wanted]


def _gpu_has_bf16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
