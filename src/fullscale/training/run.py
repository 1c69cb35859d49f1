"""A whole training run, in reading order: look at the data, plan, prepare; then fold by fold fit, hand over, score."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning
import numpy as np

from fullscale.bundle.card import MODEL_CARD, ModelCard
from fullscale.bundle.rules import ChosenRules
from fullscale.bundle.store import copy_bundle, require_weights, save_bundle, save_ensemble, single_card
from fullscale.bundle.weights import Weights, read_weights
from fullscale.config.schema import Config
from fullscale.data.distribution import distribution_of
from fullscale.data.identity import DigestIndex
from fullscale.data.recipe import Mirror
from fullscale.data.splits import Split, choose_split
from fullscale.errors import DataError, UsageError
from fullscale.files import locked, only_one
from fullscale.inference.predictor import Predictor, view_of
from fullscale.inference.scored import ModelTest, predict_and_score
from fullscale.networks import NETWORKS, create_network
from fullscale.reporting.model_card.card import names_its_model
from fullscale.reporting.source import finished_folds, pool_folds
from fullscale.runfolder import ALL, FoldFolder, RunFolder
from fullscale.scoring.summary import Summary, read_summary, write_summary
from fullscale.text import first_line
from fullscale.training.augment import AUGMENTATIONS
from fullscale.training.checkpoints import read_checkpoint
from fullscale.training.choices import supervised_loss, untrained
from fullscale.training.claim import claim
from fullscale.training.clock import LoaderTimes, TimedAugmentation
from fullscale.training.datamodule import SegmentationData
from fullscale.training.describe import describe
from fullscale.training.fit import fit
from fullscale.training.initial_weights import describe_start, start_from, warn_of_other_structures
from fullscale.training.loggers import Trackers, follow, require_trackers
from fullscale.training.memory import require_memory
from fullscale.training.module import SegmentationModule
from fullscale.training.postprocess import choose_postprocess, fold_digests, recorded_choice
from fullscale.training.prepare import RunInputs, find_inputs, find_splits, resolve
from fullscale.training.request import TrainRequest
from fullscale.views.crops import CropDataset

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Job:
    """What the folds of a run share."""

    request: TrainRequest
    run: RunFolder
    config: Config
    inputs: RunInputs
    weights: Weights | None


def train(request: TrainRequest, inputs: RunInputs | None = None) -> Summary:
    """Train the folds that are asked for; write the model and the scores of each, and those of the run.

    Args:
        request: what to train.
        inputs: cases and plan, where they are known already; default those of `request.data`.

    Returns:
        The scores of these folds together; empty in all but the first of several processes, as that one scores.

    Raises:
        UsageError: the request contradicts itself, or the run that is in the folder already; another process trains
            the same fold of it; a step needs more memory than there is; several processes were not started alike, or
            do not share the run folder.
        DataError: the data cannot be trained on, or have changed since the run was begun.
        FullscaleError: the loss became NaN; the last good checkpoint is kept.
    """
    run, group = RunFolder(request.run), request.group
    _require_group(request)
    with group.in_turn():
        job, chosen = _begin(request, run, inputs)
    for fold, split in chosen.items() if not group.is_helper else ():
        _name_unseen(job, run.fold(fold), split)
    summary = pool_folds([_train_fold(job, run.fold(fold), split) for fold, split in chosen.items()])
    if not group.is_helper:
        _postprocess(run, job.inputs)
        describe(run, run.path)
    return summary


def _require_group(request: TrainRequest) -> None:
    """Refuse a number of devices that no group is there for, and processes that were not started alike."""
    devices, group = request.config.trainer.devices, request.group
    if devices not in (1, group.size):
        raise UsageError(f"trainer.devices={devices} needs as many processes, which fullscale train starts")
    settings = request.config.model_dump_json()
    group.require_same(run=str(request.run.absolute()), folds=request.folds, settings=settings)


def _begin(request: TrainRequest, run: RunFolder, inputs: RunInputs | None) -> tuple[_Job, dict[str, Split]]:
    """Find the data, prepare them, and claim the run folder; return what the folds share, and their cases."""
    if not request.group.is_helper:
        require_trackers(request.config.trainer, run)
    inputs = inputs or find_inputs(request)
    config = resolve(request.config, inputs.plan)
    require_memory(config, inputs.plan)
    every_case = [case.id for case in inputs.cases]
    splits = None if request.folds == (ALL,) else find_splits(run, inputs.cases, config, inputs.splits)
    chosen = {
        fold: Split(train=every_case, val=every_case) if splits is None or fold == ALL else choose_split(splits, fold)
        for fold in request.folds
    }
    weights = None if config.network.init is None else read_weights(Path(config.network.init))
    if not request.group.is_helper:
        claim(run, config, inputs, splits)
    elif not run.is_run:
        raise UsageError(f"{run.path} is not the same folder on all machines: give one that they share with -o")
    return _Job(request, run, config, inputs.with_prepared(request.cache, request.verify), weights), chosen


def close_run(run: RunFolder, inputs: RunInputs) -> None:
    """Do what follows the last fold of a run, where a killed process did not come to it.

    Raises:
        DataError: the run has no finished fold.
    """
    if recorded_choice(run, _members(run)) is None:
        _renew(run)
        _postprocess(run, inputs)
    if not names_its_model(run.bundle):
        describe(run, run.path)


def _train_fold(job: _Job, fold: FoldFolder, split: Split) -> Summary:
    """Train a fold until its budget is spent, hand its model over, score it, and renew the model of the run."""
    lightning.seed_everything(job.config.trainer.seed, workers=True, verbose=False)
    card = _card(job, fold, split)
    module = _module(job, card, split)
    data = _data(job, split, len(module.validation))
    if job.request.group.is_helper:
        fit(fold, job.config, module, data, job.request, Trackers(job.run, fold, job.config, quiet=True))
        return Summary({}, {})
    with only_one(fold.path, "training"), follow(job.run, fold, job.config) as trackers:
        checkpoint = fit(fold, job.config, module, data, job.request, trackers)
        if not _is_done(job.run, fold, checkpoint):
            step = _hand_over(job.run, fold, checkpoint, module, card)
            _score(job, fold, split)
            describe(job.run, fold.path)
            trackers.hand_in(read_summary(fold.summary), step)
        elif not names_its_model(fold.bundle):
            describe(job.run, fold.path)
        summary = read_summary(fold.summary)
    _renew(job.run)
    return summary


def _name_unseen(job: _Job, fold: FoldFolder, split: Split) -> None:
    """Say which structures no training case of a fold holds: the network cannot learn them.

    Raises:
        DataError: one was not even drawn in any of them, so that nothing tells it from the background.
    """
    scheme, cases = job.inputs.plan.scheme, [job.inputs.prepared[case] for case in split["train"]]
    for k, name in enumerate(scheme.structures.values()):
        if all(k in case.unknown for case in cases):
            elsewhere = [case.id for case in job.inputs.prepared.values() if k not in case.unknown]
            raise DataError(
                f"fold {fold.name}: no training case is labelled for {name!r}, but {elsewhere[0]} that is held back: "
                "choose other folds with --splits, or leave it out with data.labels"
            )
    held = np.sum([case.voxels.sum(axis=0) for case in cases], axis=0)
    counts = (scheme.membership * held).sum(axis=1)
    unseen = [name for name, count in zip(scheme.structures.values(), counts, strict=True) if not count]
    if unseen:
        _log.warning(
            "fold %s: no training case holds %s; it will not be found. Choose other folds with --splits, or "
            "leave it out with data.labels",
            *(fold.name, ", ".join(unseen)),
        )


def _module(job: _Job, card: ModelCard, split: Split) -> SegmentationModule:
    """Build the network with its loss, and let it start from other weights where they are given."""
    config, plan = job.config, job.inputs.plan
    network = create_network(card.network, card.recipe.in_channels, plan.scheme.channels, **config.network.options)
    if job.weights is not None:
        warn_of_other_structures(job.weights, plan.structures)
        card.provenance["started_from"] = describe_start(job.weights, start_from(network, job.weights))
    return SegmentationModule(
        network,
        supervised_loss(config.loss, plan.scheme),
        config.optimizer,
        plan.scheme,
        view_of(card),
        [job.inputs.prepared[case] for case in split["val"]][: config.trainer.validation_cases],
        job.request.group,
        job.request.ending,
    )


def _data(job: _Job, split: Split, validation_cases: int) -> SegmentationData:
    config = job.config
    patch, batch = config.data.patch_size, config.data.batch_size
    steps, workers = config.trainer.steps_per_epoch, config.data.workers
    assert patch is not None
    assert batch is not None
    assert steps is not None
    assert workers is not None
    times = LoaderTimes(workers)
    crops = CropDataset(
        [job.inputs.prepared[case] for case in split["train"]],
        patch,
        job.inputs.plan.recipe.neighbours,
        config.data.foreground_fraction,
        TimedAugmentation(AUGMENTATIONS.create(config.augment.name, **config.augment.options), times),
        config.trainer.seed,
        structures=len(job.inputs.plan.structures),
    )
    return SegmentationData(crops, validation_cases, batch, steps, workers, times)


def _card(job: _Job, fold: FoldFolder, split: Split) -> ModelCard:
    config, plan = job.config, job.inputs.plan
    return ModelCard(
        network=config.network.name,
        options=untrained(config.network.options),
        package=NETWORKS.package(config.network.name),
        labels=plan.labels.value,
        regions=plan.scheme.regions,
        region_order=plan.scheme.order,
        ignore=plan.scheme.ignore,
        recipe=plan.recipe,
        tile_size=_tile_size(config),
        mirrors=_mirrors(config),
        modality=plan.modality.value,
        trained_on={case: job.inputs.digests[case].image for case in split["train"]},
        distribution=distribution_of(job.inputs.found.get("facts", []), plan.scheme, split["train"]),
        provenance={
            "dataset": plan.dataset,
            "fold": fold.name,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "fullscale": version("fullscale"),
            "torch": version("torch"),
            "seed": config.trainer.seed,
        },
    )


def _tile_size(config: Config) -> tuple[int, int, int] | None:
    """Show a scan in tiles of the size that was trained on: norms then see what they saw in training."""
    size = config.data.patch_size
    return size if size is not None and len(size) == 3 else None


def _mirrors(config: Config) -> tuple[Mirror, ...]:
    """Show a scan with the mirror images that its patches had in training; slices are shown as they are."""
    options = config.augment.options
    if config.data.view != "patches" or config.augment.name != "default" or not options.get("flip"):
        return ()
    return tuple(options["mirrors"])


def _is_done(run: RunFolder, fold: FoldFolder, checkpoint: Path) -> bool:
    """Whether the fold's model is whole and this checkpoint, and its scores are that model's."""
    if fold not in finished_folds(run):
        return False
    try:
        card = single_card(fold.bundle)
        require_weights(fold.bundle, card)
    except DataError as error:
        _log.warning("%s; it is written again", error)
        return False
    made_from = card.provenance
    return (made_from.get("epoch"), made_from.get("step")) == _place(read_checkpoint(checkpoint))


def _place(checkpoint: dict[str, Any]) -> tuple[int, int]:
    return checkpoint["epoch"], checkpoint["global_step"]


def _hand_over(run: RunFolder, fold: FoldFolder, checkpoint: Path, module: SegmentationModule, card: ModelCard) -> int:
    """Write the model of a checkpoint; return its step."""
    state = read_checkpoint(checkpoint)
    try:
        module.load_state_dict(state["state_dict"])
    except (RuntimeError, TypeError, AttributeError) as error:
        raise DataError(
            f"the checkpoint {checkpoint} does not fit the network of the run ({first_line(error)}); delete "
            f"{fold.path} to train this fold anew"
        ) from error
    epoch, step = _place(state)
    made = card.model_copy(update={"provenance": card.provenance | {"epoch": epoch, "step": step}})
    with locked(run.path):  # another fold may be copying this one's model into that of the run
        save_bundle(fold.bundle, made, module.network.state_dict(), keep=[MODEL_CARD])
    return step


def _score(job: _Job, fold: FoldFolder, split: Split) -> None:
    """Segment the validation cases with the fold's own model, and write their scores."""
    held_back = [case for case in job.inputs.cases if case.id in split["val"]]
    _log.info("fold %s: predicting %d validation cases", fold.name, len(held_back))
    predictor = Predictor.from_run(fold.path, device=job.config.trainer.device)
    test = ModelTest(
        *(predictor, fold.validation, held_back, job.inputs.plan.scheme),
        index=DigestIndex(job.request.cache),
        data=job.inputs.root,
        anonymous=job.inputs.anonymous,
        evidence=None if fold.name == ALL else fold.evidence,
    )
    predict_and_score(test)


def _postprocess(run: RunFolder, inputs: RunInputs) -> None:
    """Let the run's model do what helps the masks of its validation cases, and know what they teach of its doubts.

    Nothing is done where both are known already. It takes a while, so it is done once the last fold is there, and
    outside the lock that other folds may wait for.
    """
    folds = _members(run)
    if recorded_choice(run, folds) is None:
        chosen = choose_postprocess(folds, inputs.plan.scheme, inputs.cases)
        if chosen is not None:
            _renew(run, chosen)


def _members(run: RunFolder) -> list[FoldFolder]:
    """List the finished folds that the run's model is made of.

    The folds of the cross-validation are the members. A training on every case has no scores that say anything of new
    scans, so it is not mixed with them: it is the model of the run where it is alone.
    """
    folds = finished_folds(run)
    members = [fold for fold in folds if fold.name != ALL] or folds
    if not members:
        raise DataError(f"{run.path} has no finished fold: another process writes into it; repeat the command")
    return members


def _renew(run: RunFolder, chosen: ChosenRules | None = None) -> None:
    """Make the run's model of its finished folds, and pool their scores; a single fold's model is copied.

    Args:
        run: the run.
        chosen: its post-processing and what is known of when not to trust its masks; default what is recorded of it.
            What was chosen for other models is left out.
    """
    with locked(run.path):
        members = _members(run)
        digests = fold_digests(members)
        chosen = recorded_choice(run, members) if chosen is None or chosen.members != digests else chosen
        rules, trust = ((), None) if chosen is None else (chosen.rules, chosen.learned)
        if len(members) == 1:
            copy_bundle(members[0].bundle, run.bundle, rules, trust, keep=[MODEL_CARD])
        else:
            save_ensemble(run.bundle, {fold.path.name: fold.bundle for fold in members}, rules, trust, [MODEL_CARD])
        pooled = pool_folds([read_summary(fold.summary) for fold in members])
        beside = None if chosen is None else chosen.model_dump(mode="json")
        write_summary(replace(pooled, postprocess=beside), run.summary)
