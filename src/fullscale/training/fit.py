"""Lightning's trainer as a fold uses it: what it trains on, what it calls, and how it ends."""

from __future__ import annotations

import logging
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, Strategy
from lightning.pytorch.utilities import rank_zero_only

from fullscale.config.schema import Config
from fullscale.inference.runtimes.torch import choose_device
from fullscale.progress import Progress
from fullscale.runfolder import ALL, FoldFolder
from fullscale.training.budget import Budget
from fullscale.training.checkpoints import AtomicCheckpoints, Checkpoints
from fullscale.training.datamodule import SegmentationData
from fullscale.training.history import History, Steps
from fullscale.training.module import SegmentationModule

PATIENCE = timedelta(days=1)
"""How long the processes of several devices wait for each other: between two folds, the first one scores alone."""

_log = logging.getLogger(__name__)


def is_helper() -> bool:
    """Tell a helper from the first process: with several devices, Lightning starts the command once for each."""
    return bool(rank_zero_only.rank)


def fit(
    fold: FoldFolder, config: Config, module: SegmentationModule, data: SegmentationData, progress: Progress
) -> Path:
    """Train until the budget is spent, from the last checkpoint if there is one.

    Returns:
        The checkpoint to hand over: the best epoch, or the last where every case trains and none can choose.

    Raises:
        DataError: the last checkpoint is damaged.
        FullscaleError: the loss became NaN; the last checkpoint is kept.
        KeyboardInterrupt: Ctrl-C.
    """
    steps = config.trainer.max_epochs and config.trainer.max_epochs * (config.trainer.steps_per_epoch or 0)
    budget, kept = Budget(config.trainer.max_minutes, steps, config.optimizer), Checkpoints(fold)
    last = fold.last_checkpoint
    if not is_helper():
        kept.complete_pair()
    if not (last.is_file() and budget.spent_in(last)):
        if last.is_file():
            _log.info("going on from %s", last)
        if config.trainer.compile:
            module.network.compile()
        callbacks: list[lightning.Callback] = [budget, History(fold, budget), Steps(fold, progress), kept]
        try:
            trainer = _trainer(config, fold, callbacks)
            trainer.fit(module, data, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
        except (
            SystemExit
        ) as stopped:  # Lightning's way to end the process on Ctrl-C; whether it ends is not ours to say
            raise KeyboardInterrupt from stopped
    return last if fold.name == ALL else fold.best_checkpoint


def _trainer(config: Config, fold: FoldFolder, callbacks: list[lightning.Callback]) -> lightning.Trainer:
    device = choose_device(config.trainer.device)
    return lightning.Trainer(
        accelerator={"cuda": "gpu"}.get(device.type, device.type),
        devices=config.trainer.devices,
        strategy=_strategy(config),
        precision=_precision(config.trainer.precision, device),
        max_epochs=-1,
        gradient_clip_val=config.optimizer.clip_norm,
        deterministic=config.trainer.deterministic,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=TensorBoardLogger(fold.path, name=None, version="tensorboard") if find_spec("tensorboard") else False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=callbacks,
        plugins=[AtomicCheckpoints()],
        default_root_dir=fold.path,
        log_every_n_steps=10,
    )


def _strategy(config: Config) -> Strategy | str:
    return "auto" if config.trainer.devices == 1 else DDPStrategy(timeout=PATIENCE)


def _precision(wanted: str, device: torch.device) -> str:
    if wanted == "auto":
        wanted = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "32"
    return {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[wanted]
