"""A whole comparison, in reading order: look at the data once, check every row, train them, gather."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fullscale.compare.comparison import Comparison, Row
from fullscale.config.schema import Config
from fullscale.data.cache import default_cache
from fullscale.data.case import Case
from fullscale.data.plan import Plan
from fullscale.data.splits import choose_split
from fullscale.documents import read_model
from fullscale.errors import DataError, OutputError, UsageError
from fullscale.files import only_one, write_json, write_text
from fullscale.reporting.source import finished_folds
from fullscale.runfolder import RunFolder
from fullscale.text import without_folders
from fullscale.training.claim import record_inputs, require_same_data
from fullscale.training.initial_weights import digests_of_paths, without_paths
from fullscale.training.prepare import RunInputs, find_inputs_of_views, resolve, splits_of
from fullscale.training.request import TrainRequest
from fullscale.training.run import close_run, train
from fullscale.work.cluster import Cluster
from fullscale.work.executor import make_executor, map_cases

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


def run_comparison(job: Job) -> list[Outcome]:
    """Train every row on every fold; what is done already is left alone, so the same command goes on.

    A row that fails does not stop the others.

    Raises:
        OutputError: the disk is full, or cannot be written.
        UsageError: a row cannot be built, a fold does not exist, or the folder holds another comparison; nothing is
            written then.
        DataError: the data cannot be trained on.
    """
    rows = job.comparison.rows
    asked = [job.comparison.config(row) for row in rows]
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
    with only_one(job.output, "comparing"):
        views = {of.plan.view.value: of for of in inputs}
        prepared = {view: of.with_prepared(job.cache) for view, of in views.items()}
        outcomes = [
            Outcome(row, config, prepared[of.plan.view.value], job.output / row.name, {})
            for row, config, of in zip(rows, configs, inputs, strict=True)
        ]
        trainings = [(outcome, fold) for fold in range(job.comparison.folds) for outcome in outcomes]
        with make_executor(job.jobs) as executor:
            for answer in map_cases(executor, partial(_train, job), trainings, name=_name):
                outcome, fold = answer.item
                if isinstance(answer.error, OutputError):
                    raise answer.error  # a full disk concerns every row alike
                if answer.error is not None:
                    why = " ".join(f"{answer.error or type(answer.error).__name__}".split())
                    outcome.failures[fold] = without_folders(why)  # results are handed on
                    _log.error("%s failed: %s", answer.name, why)
    return outcomes


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
    new = without_paths(job.comparison.model_dump(mode="json"), digests)
    file = job.output / CLAIM
    if file.is_file():
        old = without_paths(_read_claim(file), digests)
        changed = [key for key in new if old[key] != new[key]]
        if changed:
            raise UsageError(
                f"{job.output} compares with another {changed[0]} ({_short(old[changed[0]])}, not "
                f"{_short(new[changed[0]])}): repeat the command as it was to go on, or choose another folder with -o"
            )
        require_same_data(RunFolder(job.output), inputs[0])
    for of in inputs:
        if of.plan != inputs[0].plan:
            write_text(RunFolder(job.output).plan_of(of.plan.view.value), of.plan.model_dump_json(indent=2) + "\n")
    record_inputs(RunFolder(job.output), inputs[0])
    write_json(file, new)


def _read_claim(file: Path) -> dict[str, Any]:
    """Return what a folder compares, with every value filled in that its version did not have yet."""
    try:
        return read_model(file, Comparison, "the comparison").model_dump(mode="json")
    except DataError as error:
        raise DataError(f"{error}; choose another folder with -o") from error


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _train(job: Job, training: tuple[Outcome, int]) -> None:
    """Train one fold of one row, unless it has its scores already."""
    outcome, fold = training
    if RunFolder(outcome.run).fold(fold) in finished_folds(RunFolder(outcome.run)):
        _log.info("%s: done already", _name(training))
        close_run(RunFolder(outcome.run), outcome.inputs)
        return
    _log.info("%s: %s", _name(training), job.comparison.budget)
    config = job.comparison.config(outcome.row)
    train(TrainRequest(job.data, outcome.run, (str(fold),), config, cache=job.cache), outcome.inputs)


def _name(training: tuple[Outcome, int]) -> str:
    outcome, fold = training
    return f"{outcome.row.name}, fold {fold}"
