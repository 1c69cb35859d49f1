"""A whole search, in reading order: look at the data once, prepare them, try, gather."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from fullscale.data.cache import default_cache
from fullscale.data.splits import choose_split
from fullscale.ending import UNASKED, Ending
from fullscale.errors import DataError, OutputError
from fullscale.files import only_one, write_json
from fullscale.runfolder import RunFolder
from fullscale.scoring.summary import read_summary
from fullscale.search.search import Search
from fullscale.search.study import Pruned, Record, Study, Trial
from fullscale.text import one_line, without_folders
from fullscale.training.claim import record_inputs, require_same_trainings
from fullscale.training.folds import is_finished, map_trainings
from fullscale.training.initial_weights import digests_of_paths
from fullscale.training.loggers import require_trackers
from fullscale.training.prepare import RunInputs, find_inputs, resolve, splits_of
from fullscale.training.request import TrainRequest
from fullscale.training.run import train
from fullscale.work.cluster import Cluster, Unwanted, stop_if_unwanted
from fullscale.work.processes import Shared

CLAIM = "space.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What to search on what.

    Attributes:
        data: folder or list of labelled scans.
        output: receives a run folder for each trial, and the results.
        search: what is searched, and the budget of a trial.
        trials: in all, those of earlier commands included.
        plan: an edited plan to use instead of one made from the data.
        cache: folder of prepared cases.
        drop_bad_cases: leave out the cases that cannot be used, instead of refusing.
        jobs: trials side by side, each in a process with its share of the cores, or a cluster.
        anonymise: a key of case names; everything that is written calls the cases by its numbers.
        ending: who may ask to end early, where trials are worked on in this process.
    """

    data: Path
    output: Path
    search: Search
    trials: int
    plan: Path | None = None
    cache: Path = field(default_factory=default_cache)
    drop_bad_cases: bool = False
    jobs: int | Cluster = 1
    anonymise: Path | None = None
    ending: Ending = UNASKED

    def run(self, number: int) -> RunFolder:
        """The run folder of a trial."""
        return RunFolder(self.output / f"trial_{number:03d}")


@dataclass(frozen=True)
class Found:
    """What a search has found so far.

    Attributes:
        records: the trials.
        importance: of each setting; None where too few trials are complete.
        inputs: the cases.
        held_back: number of cases that judged the trials.
    """

    records: list[Record]
    importance: dict[str, float] | None
    inputs: RunInputs
    held_back: int

    @property
    def best(self) -> Record | None:
        """The trial of the highest Dice, the first of those that share it; None where none is complete."""
        complete = [record for record in self.records if record.dice is not None]
        return max(complete, key=lambda record: (record.dice, -record.number), default=None)


def begin_search(job: Job) -> tuple[RunInputs, int]:
    """Look at the data, check all that can be checked, and write down what is searched.

    Returns:
        The cases, and how many of them judge the trials.

    Raises:
        UsageError: the fold does not exist, a tracker cannot be used, or the folder holds another search.
        DataError: the data cannot be trained on.
    """
    config = job.search.config()
    require_trackers(config.trainer, job.run(0))
    request = TrainRequest(
        *(job.data, job.output),
        config=config,
        plan=job.plan,
        cache=job.cache,
        drop_bad_cases=job.drop_bad_cases,
        anonymise=job.anonymise,
    )
    inputs = find_inputs(request)
    resolve(config, inputs.plan)
    splits = splits_of(inputs.cases, config)
    held_back = len(choose_split(splits, str(job.search.fold))["val"])
    _claim(job, inputs)
    return inputs, held_back


def run_search(job: Job, inputs: RunInputs, held_back: int) -> Found:
    """Work on every trial that has not ended; so the same command goes on, and more trials are added to it.

    A trial that fails does not stop the others.

    Raises:
        OutputError: the disk is full, or cannot be written.
        UsageError: another process searches in this folder.
    """
    with only_one(job.output, "searching"):
        Study.mend(job.output)
        study = _study(job)
        numbers = study.enqueue(job.trials)
        shared = Shared(inputs.with_prepared(job.cache))
        ending = job.ending if job.jobs == 1 else UNASKED  # other processes hear their own signals
        work = partial(_try, job=replace(job, ending=UNASKED), inputs=shared, ending=ending)
        trainings = {k: (f"trial {k}", job.run(k).fold(job.search.fold)) for k in numbers}
        for outcome in map_trainings(work, trainings, job.jobs, shared=[shared]):
            if outcome.error is not None:  # its process may have been killed before it could say so
                study.end(outcome.item, error=without_folders(outcome.error))
        return Found(study.records()[: job.trials], study.importance(), inputs, held_back)


def _study(job: Job) -> Study:
    return Study(job.output, job.search.dimensions, job.search.config().trainer.seed)


def _try(number: int, job: Job, inputs: Shared[RunInputs], ending: Ending) -> None:
    """Work on one trial, from its checkpoint if it has one."""
    study = _study(job)
    trial = study.take(number, job.search.prune)
    if trial is None:
        return
    _log.info("trial %d: %s", number, describe(trial.settings))
    try:
        dice = _train(number, trial, job, inputs.value, ending)
    except Pruned:
        _log.info("trial %d: pruned, it lies behind the median of the others at the same cost", number)
        study.end(number)
    except (OutputError, Unwanted):  # nothing of these is the trial's fault
        raise
    except Exception as error:
        study.end(number, error=without_folders(one_line(error)))
        raise
    else:
        _log.info("trial %d: Dice %.4f", number, dice)
        study.end(number, dice)


def _train(number: int, trial: Trial, job: Job, inputs: RunInputs, ending: Ending) -> float:
    """Train and score; return the mean Dice of the held-back cases."""
    run, fold = job.run(number), str(job.search.fold)
    if not is_finished(run, fold, inputs, f"trial {number}"):
        request = TrainRequest(
            *(job.data, run.path, (fold,)),
            config=job.search.config(trial.settings),
            cache=job.cache,
            progress=stop_if_unwanted,
            validated=trial.validated,
            ending=ending,
        )
        train(request, inputs)
    dice = read_summary(run.fold(fold).summary).foreground_mean()["Dice"]
    if dice is None:
        raise DataError("none of the held-back cases holds a structure: choose another --fold")
    return float(dice)


def _claim(job: Job, inputs: RunInputs) -> None:
    """Write down what is searched, or find that the folder holds the same search.

    Raises:
        UsageError: it holds another one; nothing is changed.
    """
    digests = digests_of_paths(job.search.config())
    file = job.output / CLAIM
    new = require_same_trainings(file, job.search, "search", "searches", digests, inputs)
    record_inputs(RunFolder(job.output), inputs)
    write_json(file, new)


def describe(settings: dict[str, Any]) -> str:
    """Write settings as the command takes them, numbers with four digits."""
    shown = ((key, f"{value:.4g}" if isinstance(value, float) else str(value)) for key, value in settings.items())
    return " ".join(f"{key}={value}" for key, value in shown)
