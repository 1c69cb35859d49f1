"""What a run starts from: the cases, the plan, the folds, and the configuration with every value filled in."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from fullscale.config.schema import Config
from fullscale.data.anonymise import anonymised
from fullscale.data.cache import PreparedCase, prepare_cases
from fullscale.data.case import Case, Dataset
from fullscale.data.checks import Inspection, inspect_dataset, require_trainable
from fullscale.data.identity import CaseDigest, DigestIndex, case_digest
from fullscale.data.label_choice import LabelChoice
from fullscale.data.labels import BACKGROUND
from fullscale.data.layouts.find import find_dataset
from fullscale.data.plan import Plan, make_plan, read_plan, require_patch_size
from fullscale.data.recipe import View
from fullscale.data.splits import (
    Split,
    doubts_of,
    fixed_split,
    make_splits,
    names_of,
    read_splits,
    require_same_folds,
    with_copies_joined,
)
from fullscale.errors import DataError, UsageError
from fullscale.inference.runtimes.torch import choose_device
from fullscale.losses.supervision import PRESENCE_WEIGHT, halving_weights
from fullscale.networks import NETWORKS, create_network
from fullscale.runfolder import RunFolder
from fullscale.text import counted
from fullscale.training.augment import AUGMENTATIONS
from fullscale.training.choices import PLANNED, check_choices, filled_options, untrained
from fullscale.training.claim import read_dataset_record, require_own_folder
from fullscale.training.optimizers import learning_rate
from fullscale.training.request import TrainRequest

DEFAULT_EPOCHS = 100
DEFAULT_STEPS = 250
PATCHES_VALIDATE = 10
"""Cases that are scored after an epoch of patches: whole scans in overlapping tiles cost as much as many steps."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunInputs:
    """What a run starts from, as values.

    Attributes:
        root: the folder or list that the cases are from.
        cases: those in use.
        digests: content of each case, by name.
        plan: what was chosen from them.
        found: what an inspection found, as plain values.
        prepared: the cases as training reads them, by name; empty until `with_prepared`.
        anonymous: whether the cases have numbers for names.
        splits: the folds, where they were given.
    """

    root: Path
    cases: list[Case]
    digests: dict[str, CaseDigest]
    plan: Plan
    found: dict[str, Any]
    prepared: dict[str, PreparedCase] = field(default_factory=dict)
    anonymous: bool = False
    splits: list[Split] | None = None

    def with_prepared(self, cache: Path, verify: bool = False) -> RunInputs:
        """Prepare the cases, or find them prepared in the cache; to verify, read every byte of them again.

        Raises:
            DataError: a case cannot be read, or its mask does not fit; the case is named.
        """
        if self.prepared:
            return self
        _log.info("preparing %d cases in %s", len(self.cases), cache)
        prepared = prepare_cases(self.cases, self.plan.recipe, self.plan.scheme, cache, verify=verify)
        return replace(self, prepared={case.id: case for case in prepared})


def find_inputs(request: TrainRequest) -> RunInputs:
    """Find the cases and the plan; a run that exists already keeps those it began with.

    Raises:
        DataError: a case cannot be used and `drop_bad_cases` is not set, or none is left.
        UsageError: the run folder belongs to other data or another plan, the data have no label that is set, or folds
            are given beside `data.validation` or a key of case names.
    """
    [inputs] = find_inputs_of_views(request, [request.config])
    return inputs


def find_inputs_of_views(request: TrainRequest, configs: Sequence[Config]) -> list[RunInputs]:
    """Find the cases once, and a plan for each configuration; those that wish the same view have the same inputs.

    Args:
        request: the data, and the folder in which a plan may be already; its labels hold for all.
        configs: of which the first is that of the folder's plan.

    Raises:
        DataError: a case cannot be used and `drop_bad_cases` is not set, or none is left.
        UsageError: the folder belongs to other data or another plan, or the data have no label that is set.
    """
    for config in configs:
        check_choices(config)
    dataset, run = find_dataset(request.data), RunFolder(request.run)
    require_own_folder(run)
    if request.anonymise is not None:
        dataset = anonymised(dataset, request.anonymise, run.path)
    wishes = {_wished_view(config): config for config in reversed(configs)}
    if run.plan.is_file():
        cases, plans, found = _as_begun(request, dataset, run, [_wished_view(config) for config in configs])
        voxels = dict[str, str]()  # its splits stand: what must not be separated was known when they were drawn
    else:
        cases, plans, found, voxels = _inspect_and_plan(request, dataset, wishes)
    index = DigestIndex(request.cache, request.verify)
    digests = {case.id: case_digest(case, index) for case in cases}
    joined, notes = with_copies_joined(cases, {case: digest.image for case, digest in digests.items()} | voxels)
    for note in notes:
        _log.warning("%s", note)
    anonymous, splits = request.anonymise is not None, _given_folds(request, dataset, joined)
    inputs = {
        view: RunInputs(dataset.root, joined, digests, plan, found, anonymous=anonymous, splits=splits)
        for view, plan in plans.items()
    }
    return [inputs[_wished_view(config)] for config in configs]


def _wished_view(config: Config) -> View | None:
    """Return the view that a configuration asks for, by name or by the sides of its crops; None leaves it open."""
    if config.data.view is not None or config.data.patch_size is None:
        return config.data.view
    return "patches" if len(config.data.patch_size) == 3 else "slices"


def _as_begun(
    request: TrainRequest, dataset: Dataset, run: RunFolder, views: Sequence[View | None]
) -> tuple[list[Case], dict[View | None, Plan], dict[str, Any]]:
    plan = read_plan(run.plan)
    choice = LabelChoice.of(request.config.data)
    if request.plan is not None and read_plan(request.plan).with_labels(choice) != plan:
        raise UsageError(f"{request.run} was begun with another plan than {request.plan}; choose another folder")
    record = read_dataset_record(run)
    by_id = {case.id: case for case in dataset.cases}
    missing = [name for name in record.digests if name not in by_id]
    if missing:
        raise DataError(
            f"{len(missing)} cases that {run.path} began with are not in {dataset.root}, such as {missing[0]}: give "
            "the data that it was begun with, with --anonymise if that was given then, or another run folder with -o"
        )
    others = {view: run.plan_of(view) for view in views if view is not None and view != views[0]}
    plans = {view: read_plan(file) for view, file in others.items() if file.is_file()}
    return [by_id[name] for name in record.digests], dict.fromkeys(views, plan) | plans, record.found


def _inspect_and_plan(
    request: TrainRequest, dataset: Dataset, wishes: Mapping[View | None, Config]
) -> tuple[list[Case], dict[View | None, Plan], dict[str, Any], dict[str, str]]:
    """Inspect the cases and plan; return what can be used, the plans, a record of what was found, and voxel digests."""
    choice = LabelChoice.of(request.config.data)
    edited = read_plan(request.plan) if request.plan else None
    resample = request.config.data.resample_channels or (edited is not None and edited.resample_channels.value)
    dataset = replace(dataset, resample_channels=resample)
    _log.info("inspecting %d cases of %s", len(dataset.cases), dataset.name)
    inspection = inspect_dataset(dataset, choice=choice)
    for remark in inspection.remarks:
        _log.warning("%s: %s", dataset.name, remark)
    if inspection.errors and not request.drop_bad_cases:
        first = inspection.errors[0]
        problems = counted(len(inspection.errors), "problem")
        raise DataError(
            f"{problems} in the data, the first in {first.case}: {first.message}; "
            "mend them (fullscale inspect lists all), or train without these cases with --drop-bad-cases"
        )
    require_trainable(inspection)
    for problem in inspection.errors:
        _log.warning("left out: %s: %s", problem.case, problem.message)
    if edited is not None:
        edited = edited.with_labels(choice)
        _require_said_labels(edited, dataset, choice)
    plans = {view: edited or plan_for(inspection, config) for view, config in wishes.items()}
    voxels = {
        case: " ".join(channel.content for channel in facts.channels.values())
        for case, facts in inspection.facts.items()
    }
    return inspection.usable_cases, plans, inspection.as_record(anonymous=request.anonymise is not None), voxels


def _require_said_labels(plan: Plan, dataset: Dataset, choice: LabelChoice) -> None:
    """Refuse an edited plan that would train as structures what the data set ignores, or as exclusive what overlaps.

    Raises:
        UsageError: it would, and neither the settings nor the plan decide otherwise.
    """
    remedy = f"was not given to the plan; make the plan anew with fullscale plan {dataset.root}, or set"
    is_background = dataset.ignore is not None and plan.labels.value.get(dataset.ignore) == BACKGROUND[0]
    if dataset.ignore is not None and plan.ignore.value is None and not is_background:
        raise UsageError(f"the 'ignore' label {dataset.ignore} of {dataset.name} {remedy} data.ignore")
    if dataset.regions and not plan.regions.value and choice.labels is None:
        raise UsageError(f"that structures overlap in {dataset.name} {remedy} data.regions")


def plan_for(inspection: Inspection, config: Config) -> Plan:
    """Make the plan for the machine and the view of a configuration.

    Raises:
        DataError: no case can be used, no mask holds a structure, or the labels as a whole cannot be trained on.
    """
    return make_plan(inspection, gpu_memory_gib(config), _wished_view(config))


def gpu_memory_gib(config: Config) -> float | None:
    """Memory of the GPU that the configuration will train on, or None for a CPU."""
    device = choose_device(config.trainer.device)
    if device.type != "cuda":
        return None
    return float(torch.cuda.get_device_properties(device).total_memory) / 2**30


def resolve(config: Config, plan: Plan) -> Config:
    """Fill in what the configuration leaves open, from the network, the plan and the machine.

    Raises:
        UsageError: what is chosen by name is unknown, lacks an option that is set, cannot be built, or does not fit the
            view of the plan.
    """
    check_choices(config)
    _require_view(config, plan)
    options = _network_options(config, plan)
    outputs = _supervised_outputs(config.network.name, options, plan)
    weights = config.loss.level_weights or halving_weights(outputs)
    if len(weights) != outputs:
        raise UsageError(f"loss.level_weights has {len(weights)} values for {outputs} supervised outputs")
    trainer = config.trainer
    endless = trainer.max_minutes is None and trainer.max_epochs is None
    workers = config.data.workers
    filled: dict[str, dict[str, Any]] = {
        "network": {"options": options},
        "loss": {
            "options": filled_options(config, "loss"),
            "level_weights": weights,
            "presence_weight": PRESENCE_WEIGHT if config.loss.presence_weight is None else config.loss.presence_weight,
        },
        "optimizer": {
            "options": filled_options(config, "optimizer"),
            "learning_rate": learning_rate(config.optimizer),
        },
        "augment": {"options": _augment_options(config, plan)},
        "data": {
            "view": plan.view.value,
            "patch_size": config.data.patch_size or plan.patch_size.value,
            "batch_size": config.data.batch_size or plan.batch_size.value,
            "workers": workers if workers is not None else max(1, min(8, (torch.get_num_threads() + 1) // 2)),
        },
        "trainer": {
            "max_epochs": DEFAULT_EPOCHS if endless else trainer.max_epochs,
            "steps_per_epoch": trainer.steps_per_epoch or DEFAULT_STEPS,
            "validation_cases": trainer.validation_cases
            or (PATCHES_VALIDATE if plan.view.value == "patches" else None),
        },
    }
    values = config.model_dump()
    return Config.model_validate({name: values[name] | filled.get(name, {}) for name in values})


def _network_options(config: Config, plan: Plan) -> dict[str, Any]:
    """Return every option of the network: as set, from the plan, or its own default."""
    given, known = config.network.options, NETWORKS.options(config.network.name)
    width = given.get("width", plan.width.value)
    suggested = plan.network.value | {"width": width}
    planned = {word: suggested.get(word, width) for word in PLANNED if word in known}
    planned |= {word: value for word, value in suggested.items() if word in known}
    if plan.scheme.regions and "structures" in known:
        planned["structures"] = plan.classes  # no channel of theirs is background
    return filled_options(config, "network") | planned | given


def _augment_options(config: Config, plan: Plan) -> dict[str, Any]:
    """Return every option of the augmentation: as set, from the plan, or its own default."""
    known = AUGMENTATIONS.options(config.augment.name)
    planned = {word: value for word, value in plan.augment.value.items() if word in known}
    return filled_options(config, "augment") | planned | config.augment.options


def _require_view(config: Config, plan: Plan) -> None:
    view = plan.view.value
    if config.data.view not in (None, view):
        raise UsageError(f"data.view={config.data.view}, but the plan is of {view}: leave one of them out")
    if config.data.patch_size is not None:
        try:
            require_patch_size(config.data.patch_size, view)
        except ValueError as error:
            raise UsageError(f"data.{error}") from error
    dims = config.network.options.get("spatial_dims", plan.recipe.spatial_dims)
    if dims != plan.recipe.spatial_dims:
        raise UsageError(f"network.spatial_dims={dims}, but the plan is of {view}: set data.view, not this")


def _supervised_outputs(name: str, options: dict[str, Any], plan: Plan) -> int:
    """Count the logits that the network gives in training; it is built without weights for that."""
    try:
        with torch.device("meta"):
            network = create_network(name, plan.recipe.in_channels, plan.classes, **untrained(options))
    except UsageError as error:
        if plan.view.value == "patches":
            raise UsageError(f"{error}; slices are trained on with data.view=slices") from error
        raise
    if network.spatial_dims != plan.recipe.spatial_dims:
        other = "patches" if network.spatial_dims == 3 else "slices"
        raise UsageError(
            f"network '{name}' is for {other}, and the plan is of {plan.view.value}: set data.view={other}"
        )
    return network.num_supervised


def find_splits(run: RunFolder, cases: list[Case], config: Config, given: list[Split] | None = None) -> list[Split]:
    """Return the folds of a run: as they are stored, edited or not, as given, or dealt out as the configuration says.

    A patient on both sides of a stored fold is named in the log, and how many cases stand in no fold.

    Args:
        run: the run.
        cases: all of them.
        config: its settings.
        given: folds to begin a run with.

    Raises:
        DataError: a stored fold has a case on both sides, or none on one, or nothing can be held back.
        UsageError: a name of `data.validation` fits no case, or the run has other folds than are given.
    """
    if not run.splits.is_file():
        return splits_of(cases, config) if given is None else given
    if given is not None:
        require_same_folds(run.splits, given, cases)
    splits = read_splits(run.splits, cases)
    for note in doubts_of(splits, cases, str(run.splits)):
        _log.warning("%s", note)
    return splits


def _given_folds(request: TrainRequest, dataset: Dataset, cases: list[Case]) -> list[Split] | None:
    """Read the folds that a request names, without cases that are not in use; say what is doubtful about them."""
    if request.splits is None:
        return None
    if request.config.data.validation is not None:
        raise UsageError("--splits and data.validation both say which cases validate: leave out one")
    if request.anonymise is not None:
        raise UsageError("--splits calls cases as the data do, and --anonymise by numbers: leave out one")
    splits = read_splits(request.splits, dataset.cases)
    used = {case.id for case in cases}
    dropped = {name for split in splits for name in names_of(split)} - used
    if dropped:
        _log.warning(
            "%s: not trained on or scored: %s that cannot be used, such as %s",
            *(request.splits, counted(len(dropped), "case"), min(dropped)),
        )
    kept = [
        Split(
            train=[name for name in split["train"] if name in used], val=[name for name in split["val"] if name in used]
        )
        for split in splits
    ]
    for note in doubts_of(kept, cases, str(request.splits)):
        _log.warning("%s", note)
    return kept


def splits_of(cases: list[Case], config: Config) -> list[Split]:
    """Deal the cases out as the configuration says: into folds, or into one split of named validation cases.

    Raises:
        DataError: nothing can be held back.
        UsageError: a name of `data.validation` fits no case.
    """
    if config.data.validation is not None:
        return [fixed_split(cases, config.data.validation)]
    return make_splits(cases, config.data.folds, config.trainer.seed)
