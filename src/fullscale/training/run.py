"""A whole training run, in reading order: look at the data, plan, prepare, fit, hand over the model, score it."""

from __future__ import annotations

import json
import logging
import platform
import warnings
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
from fullscale.config.load import dump_yaml, load_config
from fullscale.config.schema import Config
from fullscale.data.cache import PreparedCase, default_cache, prepare_cases
from fullscale.data.case import Case, Dataset
from fullscale.data.checks import inspect_dataset
from fullscale.data.layouts.find import find_dataset
from fullscale.data.plan import Plan, make_plan, read_plan
from fullscale.data.splits import ALL, Split, choose_split, fixed_split, make_splits, read_splits
from fullscale.errors import DataError, UsageError
from fullscale.files import only_one, write_json, write_text
from fullscale.inference.predictor import Predictor, choose_device
from fullscale.inference.scored import predict_and_score
from fullscale.losses import create_loss
from fullscale.losses.supervision import SupervisedLoss
from fullscale.networks import create_network, network_options
from fullscale.scoring.summary import Summary
from fullscale.training.budget import Budget, read_checkpoint
from fullscale.training.datamodule import SegmentationData
from fullscale.training.history import Bar, History
from fullscale.training.module import SegmentationModule
from fullscale.training.samples import CropDataset

DEFAULT_EPOCHS = 100
DEFAULT_STEPS = 250
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
    splits = _splits(request, cases, config)
    split = (
        Split(train=[c.id for c in cases], val=[c.id for c in cases])
        if splits is None
        else choose_split(splits, request.fold)
    )
    lightning.seed_everything(config.trainer.seed, workers=True, verbose=False)
    card = _card(request, config, plan)
    network = create_network(card.network, card.recipe.in_channels, card.classes, **_set_options(config))
    loss = create_loss(config.loss.name, **config.loss.options)
    if not helper:
        _claim(request.run, config, plan, record, splits)

    request.report(f"preparing {len(cases)} cases in {request.cache}")
    prepared = {c.id: c for c in prepare_cases(cases, plan.recipe, plan.labels.value, request.cache)}
    module = SegmentationModule(
        network,
        SupervisedLoss(loss, config.loss.level_weights, config.loss.presence_weight),
        config.optimizer,
        list(plan.structures.values()),
        plan.recipe.neighbours,
        [prepared[i] for i in split["val"]][: config.trainer.validation_cases],
    )
    data = _data(config, plan, [prepared[i] for i in split["train"]], len(module.validation))
    fold = request.run / f"fold_{request.fold}"
    if helper:
        _fit(request, config, fold, module, data)
        raise SystemExit(0)  # the process that was started by hand goes on alone
    with only_one(fold, "training"):
        checkpoint = _fit(request, config, fold, module, data)
        _hand_over(request.run, checkpoint, module, card)
        held_back = [c for c in cases if c.id in split["val"]]
        request.report(f"predicting {len(held_back)} validation cases")
        predictor = Predictor.from_run(request.run, device=config.trainer.device)
        return predict_and_score(predictor, fold / "validation", held_back, plan.labels.value)


def _hand_over(run: Path, checkpoint: Path, module: SegmentationModule, card: ModelCard) -> None:
    """Write the bundle of a checkpoint."""
    best = read_checkpoint(checkpoint)
    module.load_state_dict(best["state_dict"])
    card.provenance |= {"epoch": best["epoch"], "step": best["global_step"]}
    save_bundle(run / "bundle", card, module.network.state_dict())


def inspect_and_plan(request: TrainRequest) -> tuple[list[Case], Plan, dict[str, Any]]:
    """Find the cases, the plan and the record of both; a run that exists already keeps those it began with.

    Raises:
        DataError: a case cannot be used and `drop_bad_cases` is not set, or none is left.
        UsageError: the run folder belongs to other data or another plan, or the data have no label that is set.
    """
    dataset = find_dataset(request.data)
    stored, labels = request.run / "plan.json", request.config.data.labels
    if stored.is_file():
        plan = read_plan(stored)
        if request.plan is not None and read_plan(request.plan).with_labels(labels) != plan:
            raise UsageError(f"{request.run} was begun with another plan than {request.plan}; choose another folder")
        record = json.loads((request.run / "dataset.json").read_text())
        return _known_cases(request.run, record, dataset), plan, record
    edited = read_plan(request.plan) if request.plan else None
    request.report(f"inspecting {len(dataset.cases)} cases of {dataset.name}")
    inspection = inspect_dataset(dataset, structures=labels)
    if inspection.errors and not request.drop_bad_cases:
        first = inspection.errors[0]
        raise DataError(
            f"{len(inspection.errors)} problems make cases unusable, the first in {first.case}: {first.message}; mend "
            "them (fullscale inspect lists all), or train without these cases with --drop-bad-cases"
        )
    plan = edited.with_labels(labels) if edited else make_plan(inspection, gpu_memory_gib(request.config))
    used = inspection.usable_cases
    return used, plan, inspection.as_dict() | {"root": str(dataset.root), "used": [case.id for case in used]}


def record_run(run: Path, plan: Plan, record: dict[str, Any]) -> None:
    """Write down what `inspect_and_plan` found, where it looks first the next time."""
    write_json(run / "dataset.json", record)
    write_text(run / "plan.json", plan.model_dump_json(indent=2) + "\n")


def _known_cases(run: Path, record: dict[str, Any], dataset: Dataset) -> list[Case]:
    if record["root"] != str(dataset.root):
        raise UsageError(f"{run} was trained on {record['root']}, not on {dataset.root}; choose another run folder")
    by_id = {case.id: case for case in dataset.cases}
    missing = [name for name in record["used"] if name not in by_id]
    if missing:
        raise DataError(f"{len(missing)} cases that {run} began with are gone from {dataset.root}, as {missing[0]}")
    return [by_id[name] for name in record["used"]]


def gpu_memory_gib(config: Config) -> float | None:
    """Memory of the GPU that the configuration will train on, or None for a CPU."""
    device = choose_device(config.trainer.device)
    if device.type != "cuda":
        return None
    return float(torch.cuda.get_device_properties(device).total_memory) / 2**30


def resolve(config: Config, plan: Plan) -> Config:
    """Fill in what the configuration leaves open, from the network, the plan and the machine.

    Raises:
        UsageError: the network is unknown, lacks an option that is set, or cannot be built.
    """
    options = _network_options(config, plan)
    outputs = _supervised_outputs(config.network.name, options, plan)
    weights = config.loss.level_weights or tuple(0.5**level for level in range(outputs))
    if len(weights) != outputs:
        raise UsageError(f"loss.level_weights has {len(weights)} values for {outputs} supervised outputs")
    trainer = config.trainer
    endless = trainer.max_minutes is None and trainer.max_epochs is None
    workers = config.data.workers
    filled: dict[str, dict[str, Any]] = {
        "network": options,
        "loss": {"level_weights": weights},
        "optimizer": {"learning_rate": config.optimizer.base_rate},
        "data": {
            "patch_size": config.data.patch_size or plan.patch_size.value,
            "batch_size": config.data.batch_size or plan.batch_size.value,
            "workers": workers if workers is not None else max(1, min(8, (torch.get_num_threads() + 1) // 2)),
        },
        "trainer": {
            "max_epochs": DEFAULT_EPOCHS if endless else trainer.max_epochs,
            "steps_per_epoch": trainer.steps_per_epoch or DEFAULT_STEPS,
        },
    }
    values = config.model_dump()
    return Config.model_validate({name: values[name] | filled.get(name, {}) for name in values})


def _network_options(config: Config, plan: Plan) -> dict[str, Any]:
    """Return every option of the network: as set, from the plan, or its own default."""
    name, known = config.network.name, network_options(config.network.name)
    given = _set_options(config)
    for option, value in given.items():
        if option not in known:
            raise UsageError(f"network.{option}={value}: network '{name}' has no such option, only {', '.join(known)}")
    width = config.network.width or plan.width.value
    planned = {word: width for word in ("width", "skip_channels") if word in known}
    return known | planned | given


def _set_options(config: Config) -> dict[str, Any]:
    return {k: v for k, v in config.network.model_dump(exclude={"name"}).items() if v is not None}


def _supervised_outputs(name: str, options: dict[str, Any], plan: Plan) -> int:
    """Count the logits that the network gives in training; it is built without weights for that."""
    with torch.device("meta"):
        network = create_network(name, plan.recipe.in_channels, plan.classes, **_untrained(options))
    return network.num_supervised


def _untrained(options: dict[str, Any]) -> dict[str, Any]:
    """Ask for no pretrained weights: the shape of the network does not depend on them."""
    return {option: False if option == "pretrained" else value for option, value in options.items()}


def _claim(run: Path, config: Config, plan: Plan, record: dict[str, Any], splits: list[Split] | None) -> None:
    """Write down what the run is, or find that the folder holds a run begun with the same settings.

    Raises:
        UsageError: it holds a run of other settings; nothing is changed.
    """
    path = run / "config.yaml"
    if path.is_file():
        old, new = (_flat(c) for c in (load_config(path), config))
        changed = [key for key in new if old[key] != new[key] and key.removeprefix("trainer.") not in CHANGEABLE]
        if changed:
            key = changed[0]
            raise UsageError(
                f"{run} was begun with {key}={old[key]}, not {new[key]}: repeat its settings to go on, or choose "
                "another run folder with -o"
            )
    record_run(run, plan, record)
    if splits is not None:
        write_json(run / "splits.json", splits)
    write_text(path, dump_yaml(config))
    write_json(run / "environment.json", environment(config))


def _flat(config: Config) -> dict[str, Any]:
    return {f"{s}.{k}": v for s, section in config.model_dump().items() for k, v in section.items()}


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


def _splits(request: TrainRequest, cases: list[Case], config: Config) -> list[Split] | None:
    """The run's folds; None for the fold `all`, which validates on its training cases and says so."""
    if request.fold == ALL:
        return None
    stored = request.run / "splits.json"
    if stored.is_file():
        return read_splits(stored, cases)
    return splits_of(cases, config)


def splits_of(cases: list[Case], config: Config) -> list[Split]:
    """Deal the cases out as the configuration says: into folds, or into one split of named validation cases.

    Raises:
        DataError: nothing can be held back.
        UsageError: a name of `data.validation` fits no case.
    """
    if config.data.validation is not None:
        return [fixed_split(cases, config.data.validation)]
    return make_splits(cases, config.data.folds, config.trainer.seed)


def _card(request: TrainRequest, config: Config, plan: Plan) -> ModelCard:
    return ModelCard(
        network=config.network.name,
        options=_untrained(_set_options(config)),
        classes=plan.classes,
        labels=plan.structures,
        trained_labels=plan.labels.value,
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
    crops = CropDataset(
        train, patch, plan.recipe.neighbours, config.data.foreground_fraction, config.augment, config.trainer.seed
    )
    return SegmentationData(crops, validation_cases, batch, steps, workers)


def _fit(request: TrainRequest, config: Config, fold: Path, module: SegmentationModule, data: SegmentationData) -> Path:
    """Train until the budget is spent, and return the checkpoint to hand over."""
    steps = config.trainer.max_epochs and config.trainer.max_epochs * (config.trainer.steps_per_epoch or 0)
    budget = Budget(config.trainer.max_minutes, steps, config.optimizer)
    best = ModelCheckpoint(fold, "best", monitor="val_dice", mode="max", enable_version_counter=False)
    newest = ModelCheckpoint(fold, "last", save_on_train_epoch_end=False, enable_version_counter=False)
    last = fold / "last.ckpt"
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
    return last if request.fold == ALL else fold / "best.ckpt"


def _trainer(
    request: TrainRequest, config: Config, fold: Path, callbacks: list[lightning.Callback]
) -> lightning.Trainer:
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
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
        logger=TensorBoardLogger(fold, name=None, version="tensorboard") if find_spec("tensorboard") else False,
        enable_progress_bar=request.bar,
        enable_model_summary=False,
        callbacks=[*callbacks, *([Bar()] if request.bar else [])],
        default_root_dir=fold,
        log_every_n_steps=10,
    )


def _precision(wanted: str, device: torch.device) -> str:
    if wanted == "auto":
        wanted = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "32"
    return {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[wanted]
