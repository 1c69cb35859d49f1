"""A whole comparison, in reading order: look at the data once, check every row, train them, gather."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from fullscale.compare.comparison import Comparison, Row
from fullscale.config.schema import Config
from fullscale.data.cache import default_cache
from fullscale.data.case import Case
from fullscale.data.identity import digest_of
from fullscale.data.plan import Plan
from fullscale.data.splits import choose_split
from fullscale.errors import UsageError
from fullscale.files import locked, only_one, write_json, write_text
from fullscale.reporting.source import finished_folds
from fullscale.runfolder import FoldFolder, RunFolder
from fullscale.shares import remember_request
from fullscale.text import without_folders
from fullscale.training.claim import record_inputs, require_same_trainings
from fullscale.training.folds import is_finished, kept_training, map_trainings, tasks_of
from fullscale.training.initial_weights import digests_of_paths
from fullscale.training.loggers import require_trackers
from fullscale.training.prepare import RunInputs, find_inputs_of_views, resolve, splits_of
from fullscale.training.request import TrainRequest
from fullscale.training.run import close_run, train
from fullscale.work import executor
from fullscale.work.cluster import Cluster, stop_if_unwanted
from fullscale.work.ledger import FOLDER
from fullscale.work.processes import Shared
from fullscale.work.shard import Shard

CLAIM = "comparison.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What to compare on what.

    Attributes:
        data: folder or list of labelled scans.
        output: receives a run folder for each row, and the results.
        comparison: the rows and their budget.
        plan: an edited plan to use instead of one made from the data.
        cache: folder of prepared cases.
        drop_bad_cases: leave out the cases that cannot be used, instead of refusing.
        jobs: trainings side by side, each in a process with its share of the cores.
        anonymise: a key of case names; everything that is written calls the cases by its numbers.
    """

    data: Path
    output: Path
    comparison: Comparison
    plan: Path | None = None
    cache: Path = field(default_factory=default_cache)
    drop_bad_cases: bool = False
    jobs: int | Cluster = 1
    anonymise: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a row.

    Attributes:
        row: its name and settings.
        config: with every value filled in.
        inputs: the cases, in the view of the row.
        run: its run folder.
        failures: why a fold has no scores, by fold.
    """

    row: Row
    config: Config
    inputs: RunInputs
    run: Path
    failures: dict[int, str]


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        row: its number, from 0.
        fold: likewise.
    """

    row: int
    fold: int


def run_comparison(job: Job) -> list[Outcome]:
    """Train every row on every fold; what is done already is left alone, so the same command goes on.

    A row that fails does not stop the others.

    Raises:
        OutputError: the disk is full, or cannot be written.
        UsageError: a row cannot be built, a fold does not exist, or the folder holds another comparison; nothing is
            written then.
        DataError: the data cannot be trained on.
    """
    outcomes = _begin(job)
    with only_one(job.output, "comparing"):
        outcomes = _with_prepared(job, outcomes)
        shared = Shared(outcomes)
        work = partial(_train, job=job, outcomes=shared)
        for answer in map_trainings(work, _trainings(job, outcomes), job.jobs, shared=[shared]):
            _take_failure(outcomes, answer)
    return outcomes


def train_share(job: Job, shard: Shard, overwrite: bool = False) -> list[executor.Outcome[Training, None]]:
    """Train a share of the trainings, dealt in turn; what is done, or failed three times, is left alone.

    Args:
        job: the whole comparison.
        shard: which trainings.
        overwrite: forget what data other shares were given.

    Returns:
        What became of each.

    Raises: as of `run_comparison`.
    """
    with locked(job.output):  # another share may begin too
        outcomes = _begin(job)
        remember_request(job.output / FOLDER, "compare", _asked(job), overwrite)
    outcomes = _with_prepared(job, outcomes)
    trainings = _trainings(job, outcomes)
    mine = {training: trainings[training] for training in shard.dealt(list(trainings))}
    shared, kept = Shared(outcomes), (job.output, _digest(job, outcomes))
    work = partial(_train, job=job, outcomes=shared)
    return list(map_trainings(work, mine, job.jobs, kept, [shared]))


def joined_comparison(job: Job) -> tuple[list[Outcome], list[str]]:
    """Say what became of every row, without training.

    Returns:
        The rows, and the trainings that have not ended.
    """
    outcomes, missing = _begin(job), []
    trainings = _trainings(job, outcomes)
    work = partial(_train, job=job, outcomes=Shared(outcomes))
    kept = kept_training(work, job.output, _digest(job, outcomes))
    for task in tasks_of(trainings, job.output):
        outcome = outcomes[task.item.row]
        run = RunFolder(outcome.run)
        if trainings[task.item][1] in finished_folds(run):
            close_run(run, outcome.inputs)
            continue
        ended = kept.ended(task)
        if ended is None or ended.error is None:
            missing.append(task.name)
            outcome.failures[task.item.fold] = "it is not trained yet"
        else:
            _take_failure(outcomes, ended)
    return outcomes, missing


def _asked(job: Job) -> dict[str, Any]:
    """Say in plain values what every share must be given alike, beside rows and budget."""
    plan = None if job.plan is None else str(job.plan.absolute())
    return {"data": str(job.data.absolute()), "plan": plan, "drop_bad_cases": job.drop_bad_cases}


def _begin(job: Job) -> list[Outcome]:
    """Look at the data, check every row, and write down what is compared."""
    rows = job.comparison.rows
    asked = [job.comparison.config(row) for row in rows]
    for row, config in zip(rows, asked, strict=True):
        require_trackers(config.trainer, RunFolder(job.output / row.name))
    request = TrainRequest(  # what the first row says of cases and labels, all rows say
        job.data,
        job.output,
        config=asked[0],
        plan=job.plan,
        cache=job.cache,
        drop_bad_cases=job.drop_bad_cases,
        anonymise=job.anonymise,
    )
    inputs = find_inputs_of_views(request, asked)
    configs = [_resolve(row, config, of.plan) for row, config, of in zip(rows, asked, inputs, strict=True)]
    _require_folds(job, inputs[0].cases, configs[0])
    _claim(job, inputs, configs)
    return [
        Outcome(row, config, of, job.output / row.name, {})
        for row, config, of in zip(rows, configs, inputs, strict=True)
    ]


def _with_prepared(job: Job, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Prepare the cases for each view that a row has."""
    views = {outcome.inputs.plan.view.value: outcome.inputs for outcome in outcomes}
    prepared = {view: inputs.with_prepared(job.cache) for view, inputs in views.items()}
    return [replace(outcome, inputs=prepared[outcome.inputs.plan.view.value]) for outcome in outcomes]


def _trainings(job: Job, outcomes: Sequence[Outcome]) -> dict[Training, tuple[str, FoldFolder]]:
    """List every training, with its name and the folder of its fold."""
    return {
        Training(k, fold): (f"{outcome.row.name}, fold {fold}", RunFolder(outcome.run).fold(fold))
        for fold in range(job.comparison.folds)
        for k, outcome in enumerate(outcomes)
    }


def _take_failure(outcomes: Sequence[Outcome], answer: executor.Outcome[Training, None]) -> None:
    if answer.error is not None:
        line = without_folders(answer.error)  # results are handed on
        outcomes[answer.item.row].failures[answer.item.fold] = line


def _resolve(row: Row, config: Config, plan: Plan) -> Config:
    try:
        return resolve(config, plan)
    except UsageError as error:
        raise UsageError(f"row {row.name}: {error}") from error


def _require_folds(job: Job, cases: list[Case], config: Config) -> None:
    splits = splits_of(cases, config)
    if job.comparison.folds > len(splits):
        raise UsageError(
            f"{job.comparison.folds} folds are wanted, these cases have {len(splits)} with "
            f"data.folds={config.data.folds}: ask for fewer, or set data.folds"
        )
    choose_split(splits, str(job.comparison.folds - 1))


def _claim(job: Job, inputs: Sequence[RunInputs], configs: Sequence[Config]) -> None:
    """Write down what is compared, or find that the folder holds the same comparison.

    Raises:
        UsageError: it holds another one; nothing is changed.
        DataError: weights that a row starts from cannot be read; nothing is changed.
    """
    digests = {path: digest for config in configs for path, digest in digests_of_paths(config).items()}
    file = job.output / CLAIM
    new = require_same_trainings(file, job.comparison, "comparison", "compares", digests, inputs[0])
    for of in inputs:
        if of.plan != inputs[0].plan:
            write_text(RunFolder(job.output).plan_of(of.plan.view.value), of.plan.model_dump_json(indent=2) + "\n")
    record_inputs(RunFolder(job.output), inputs[0])
    write_json(file, new)


def _digest(job: Job, outcomes: Sequence[Outcome]) -> str:
    """Name what is trained: a training that failed is tried anew where this has changed."""
    digests = [digest.whole for outcome in outcomes for digest in outcome.inputs.digests.values()]
    return digest_of(job.comparison.model_dump_json(), *digests)


def _train(training: Training, job: Job, outcomes: Shared[list[Outcome]]) -> None:
    """Train one fold of one row, unless it has its scores already."""
    outcome = outcomes.value[training.row]
    name = f"{outcome.row.name}, fold {training.fold}"
    if is_finished(RunFolder(outcome.run), training.fold, outcome.inputs, name):
        return
    _log.info("%s: %s", name, job.comparison.budget)
    request = TrainRequest(
        job.data,
        outcome.run,
        (str(training.fold),),
        job.comparison.config(outcome.row),
        cache=job.cache,
        progress=stop_if_unwanted,
    )
    train(request, outcome.inputs)
