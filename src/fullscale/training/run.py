"""A whole training run, in reading order: look at the data, plan, prepare, fit, hand over the model, score it."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from fullscale.bundle.card import ModelCard
from fullscale.bundle.store import save_bundle
from fullscale.config.load import dump_yaml, flatten, load_config
from fullscale.config.schema import Config
from fullscale.data.cache import PreparedCase, default_cache, prepare_cases
from fullscale.data.plan import Plan
from fullscale.data.splits import Split, choose_split
from fullscale.errors import UsageError
from fullscale.files import only_one, write_json, write_text
from fullscale.inference.predictor import Predictor
from fullscale.inference.runtimes.torch import choose_device
from fullscale.inference.scored import predict_and_score
from fullscale.losses import create_loss
from fullscale.losses.supervision import SupervisedLoss
from fullscale.networks import NETWORKS, create_network
from fullscale.runfolder import ALL, FoldFolder, RunFolder
from fullscale.scoring.summary import Summary
from fullscale.training.augment import AUGMENTATIONS
from fullscale.training.budget import Budget, read_checkpoint
from fullscale.training.datamodule import SegmentationData
from fullscale.training.history import Bar, History
from fullscale.training.module import SegmentationModule
from fullscale.training.prepare import find_splits, inspect_and_plan, record_run, resolve, untrained
from fullscale.training.samples import CropDataset

CHANGEABLE = ("max_minutes", "max_epochs", "device", "devices", "validation_cases")
"""Settings of the trainer that may differ when a run goes on."""


@dataclass
class TrainRequest:
    """What to train: everything that `fullscale train` is told.

    Attributes:
        data: folder or list of labelled scans.
        run: the run folder; repeating a request goes on where it was.
        fold: number of the fold that validates, or `all` to train on every case.
        config: settings; those left at None come from the plan.
        plan: an edited plan to use instead of one made from the data.
        cache: folder of prepared cases.
        drop_bad_cases: train without the cases that cannot be used, instead of refusing.
        report: takes one line of print_status at a time.
        bar: whether to show a progress bar.
    """

    data: Path
    run: Path
    fold: str = "0"
    config: Config = field(default_factory=Config)
    plan: Path | None = None
    cache: Path = field(default_factory=default_cache)
    drop_bad_cases: bool = False
    report: Callable[[str], None] = lambda _: None
    bar: bool = False


def train(request: TrainRequest) -> Summary:
    """Train one fold, write the bundle and the scores of its validation cases, and return the scores.

    Raises:
        UsageError: the request contradicts itself, or the run that is in the folder already; another process trains
            the same fold of it.
        DataError: the data cannot be trained on.
        FullscaleError: the loss became NaN; the last good checkpoint is kept.
    """
    helper = bool(rank_zero_only.rank)
    if helper:
        request = replace(request, report=lambda _: None)
    cases, plan, record = inspect_and_plan(request)
    config = resolve(request.config, plan)
    splits = find_splits(request, cases, config)
    split = (
        Split(train=[c.id for c in cases], val=[c.id for c in cases])
        if splits is None
        else choose_split(splits, request.fold)
    )
    lightning.seed_everything(config.trainer.seed, workers=True, verbose=False)
    card = _card(request, config, plan)
    network = create_network(card.network, card.recipe.in_channels, plan.classes, **config.network.options)
    loss = create_loss(config.loss.name, **config.loss.options)
    run = RunFolder(request.run)
    if not helper:
        _claim(run, config, plan, record, splits)

    request.report(f"preparing {len(cases)} cases in {request.cache}")
    prepared = {c.id: c for c in prepare_cases(cases, plan.recipe, plan.labels.value, request.cache)}
    module = SegmentationModule(
        network,
        SupervisedLoss(loss, config.loss.level_weights, config.loss.presence_weight),
        config.optimizer,
        plan.scheme,
        plan.recipe.neighbours,
        [prepared[i] for i in split["val"]][: config.trainer.validation_cases],
    )
    data = _data(config, plan, [prepared[i] for i in split["train"]], len(module.validation))
    fold = run.fold(request.fold)
    if helper:
        _fit(request, config, fold, module, data)
        raise SystemExit(0)  # the process that was started by hand goes on alone
    with only_one(fold.path, "training"):
        checkpoint = _fit(request, config, fold, module, data)
        _hand_over(run, checkpoint, module, card)
        held_back = [c for c in cases if c.id in split["val"]]
        request.report(f"predicting {len(held_back)} validation cases")
        predictor = Predictor.from_run(request.run, device=config.trainer.device)
        return predict_and_score(predictor, fold.validation, held_back, plan.labels.value)


def _hand_over(run: RunFolder, checkpoint: Path, module: SegmentationModule, card: ModelCard) -> None:
    """Write the bundle of a checkpoint."""
    best = read_checkpoint(checkpoint)
    module.load_state_dict(best["state_dict"])
    card.provenance |= {"epoch": best["epoch"], "step": best["global_step"]}
    save_bundle(run.bundle, card, module.network.state_dict())


def _claim(run: RunFolder, config: Config, plan: Plan, record: dict[str, Any], splits: list[Split] | None) -> None:
    """Write down what the run is, or find that the folder holds a run begun with the same settings.

    Raises:
        UsageError: it holds a run of other settings; nothing is changed.
    """
    if run.is_run:
        old, new = (flatten(c) for c in (load_config(run.config), config))
        changed = [
            key for key in old | new if old.get(key) != new.get(key) and key.removeprefix("trainer.") not in CHANGEABLE
        ]
        if changed:
            key = changed[0]
            raise UsageError(
                f"{run.path} was begun with {key}={old.get(key)}, not {new.get(key)}: repeat its settings to go on, or "
                "choose another run folder with -o"
            )
    record_run(run, plan, record)
    if splits is not None:
        write_json(run.splits, splits)
    write_text(run.config, dump_yaml(config))
    write_json(run.environment, environment(config))


def environment(config: Config) -> dict[str, Any]:
    """Versions, machine and seed, so that a run can be understood later."""
    packages = ("fullscale", "torch", "lightning", "monai", "timm", "numpy", "nibabel", "SimpleITK", "pydicom")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in packages},
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "seed": config.trainer.seed,
    }


def _card(request: TrainRequest, config: Config, plan: Plan) -> ModelCard:
    return ModelCard(
        network=config.network.name,
        options=untrained(config.network.options),
        package=NETWORKS.package(config.network.name),
        labels=plan.labels.value,
        recipe=plan.recipe,
        modality=plan.modality.value,
        provenance={
            "dataset": plan.dataset,
            "fold": request.fold,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "fullscale": version("fullscale"),
            "torch": version("torch"),
            "seed": config.trainer.seed,
        },
    )


def _data(config: Config, plan: Plan, train: list[PreparedCase], validation_cases: int) -> SegmentationData:
    patch, batch = config.data.patch_size, config.data.batch_size
    steps, workers = config.trainer.steps_per_epoch, config.data.workers
    assert patch is not None
    assert batch is not None
    assert steps is not None
    assert workers is not None
    augmentation = AUGMENTATIONS.create(config.augment.name, **config.augment.options)
    crops = CropDataset(
        train, patch, plan.recipe.neighbours, config.data.foreground_fraction, augmentation, config.trainer.seed
    )
    return SegmentationData(crops, validation_cases, batch, steps, workers)


def _fit(
    request: TrainRequest, config: Config, fold: FoldFolder, module: SegmentationModule, data: SegmentationData
) -> Path:
    """Train until the budget is spent, and return the checkpoint to hand over."""
    steps = config.trainer.max_epochs and config.trainer.max_epochs * (config.trainer.steps_per_epoch or 0)
    budget = Budget(config.trainer.max_minutes, steps, config.optimizer)
    best = ModelCheckpoint(
        fold.path, fold.best_checkpoint.stem, monitor="val_dice", mode="max", enable_version_counter=False
    )
    newest = ModelCheckpoint(
        fold.path, fold.last_checkpoint.stem, save_on_train_epoch_end=False, enable_version_counter=False
    )
    last = fold.last_checkpoint
    if config.trainer.compile:
        module.network.compile()
    trainer = _trainer(request, config, fold, [budget, History(fold, budget, request.report), best, newest])
    if not (last.is_file() and budget.spent_in(last)):
        if last.is_file():
            request.report(f"going on from {last}")
        try:
            trainer.fit(module, data, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
        except SystemExit as stopped:
            # Lightning ends the process on Ctrl-C; the command has its own way to.
            raise KeyboardInterrupt from stopped
    return last if request.fold == ALL else fold.best_checkpoint


def _trainer(
    request: TrainRequest, config: Config, fold: FoldFolder, callbacks: list[lightning.Callback]
) -> lightning.Trainer:
    device = choose_device(config.trainer.device)
    return lightning.Trainer(
        accelerator={"cuda": "gpu"}.get(device.type, device.type),
        devices=config.trainer.devices,
        precision=_precision(config.trainer.precision, device),
        max_epochs=-1,
        gradient_clip_val=config.optimizer.clip_norm,
        deterministic=config.trainer.deterministic,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=TensorBoardLogger(fold.path, name=None, version="tensorboard") if find_spec("tensorboard") else False,
        enable_progress_bar=request.bar,
        enable_model_summary=False,
        callbacks=[*callbacks, *([Bar()] if request.bar else [])],
        default_root_dir=fold.path,
        log_every_n_steps=10,
    )


def _precision(wanted: str, device: torch.device) -> str:
    if wanted == "auto":
        wanted = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "32"
    return {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[wanted]
