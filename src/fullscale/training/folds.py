"""Several trainings side by side, on a cluster, or in shares: what is finished is left alone, each failure is kept."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from fullscale.data.identity import digest_of
from fullscale.data.kept import Kept, Task, map_kept
from fullscale.data.splits import choose_split
from fullscale.ending import UNASKED
from fullscale.errors import DataError, OutputError, UsageError
from fullscale.reporting.source import finished_folds, pool_folds
from fullscale.runfolder import ALL, FoldFolder, RunFolder
from fullscale.scoring.summary import Summary, read_summary
from fullscale.shares import remember_request
from fullscale.text import one_line
from fullscale.training.loggers import require_trackers
from fullscale.training.prepare import RunInputs, find_inputs, find_splits, resolve
from fullscale.training.request import TrainRequest
from fullscale.training.run import close_run, train
from fullscale.work.cluster import Cluster, stop_if_unwanted
from fullscale.work.executor import Outcome, make_executor, map_cases
from fullscale.work.ledger import FOLDER, Ledger
from fullscale.work.processes import Shared
from fullscale.work.shard import Shard

Item = TypeVar("Item")

_log = logging.getLogger(__name__)


def train_folds(
    request: TrainRequest, jobs: int | Cluster, shard: Shard | None = None
) -> tuple[Summary | None, list[Outcome[str, None]]]:
    """Train folds of a run side by side; one that fails does not stop the others.

    Args:
        request: what to train.
        jobs: trainings at a time, each in a process of its own, or the cluster whose workers train.
        shard: the folds that this command trains, dealt in turn; what failed three times is not tried again.

    Returns:
        The scores of the folds that are finished, None where none is, and what became of each.

    Raises:
        UsageError: the request contradicts itself, or the run that is in the folder already.
        DataError: the data cannot be trained on, or have changed since the run was begun.
        OutputError: the disk is full, or cannot be written.
    """
    run = RunFolder(request.run)
    require_trackers(request.config.trainer, run)  # before the folds, which would all make its database at once
    inputs = find_inputs(request)
    if resolve(request.config, inputs.plan).trainer.devices != 1:
        raise UsageError("trainer.devices: with --jobs, --dask or --shard each fold trains on one device")
    numbered = [fold for fold in request.folds if fold != ALL]
    if numbered:  # refused once, before any work
        splits = find_splits(run, inputs.cases, request.config, inputs.splits)
        for fold in numbered:
            choose_split(splits, fold)
    if shard is not None:
        remember_request(run.path / FOLDER, "train", {"folds": list(request.folds)}, overwrite=True)
    inputs = inputs.with_prepared(request.cache, request.verify)
    folds = request.folds if shard is None else shard.dealt(request.folds)
    trainings = {fold: (f"fold {fold}", run.fold(fold)) for fold in folds}
    shared = Shared(inputs)
    ending = request.ending if jobs == 1 else UNASKED  # other processes hear their own signals
    work = partial(_train, request=replace(request, progress=stop_if_unwanted, ending=ending), inputs=shared)
    given = [] if inputs.splits is None else [json.dumps(inputs.splits)]
    how = digest_of(request.config.model_dump_json(), *(digest.whole for digest in inputs.digests.values()), *given)
    kept = None if shard is None else (run.path, how)
    outcomes = list(map_trainings(work, trainings, jobs, kept, [shared]))
    done = [read_summary(run.fold(one.item).summary) for one in outcomes if one.error is None]
    return (pool_folds(done) if done else None), outcomes


def map_trainings(
    work: Callable[[Item], None],
    trainings: dict[Item, tuple[str, FoldFolder]],
    jobs: int | Cluster,
    kept: tuple[Path, str] | None = None,
    shared: Sequence[Shared[Any]] = (),
) -> Iterator[Outcome[Item, None]]:
    """Work on trainings, and log what failed, whose error is then a `DataError` of one line.

    Args:
        work: trains, unless that is done already.
        trainings: each with its name and the folder of its fold.
        jobs: trainings at a time.
        kept: the folder in whose ledger failures are kept, and a digest of what is trained; None keeps none.
        shared: values that each process needs.

    Raises:
        OutputError: the disk is full, which concerns every training alike.
    """
    with make_executor(jobs, *shared) as executor:
        if kept is None:
            found = map_cases(executor, work, list(trainings), name=lambda item: trainings[item][0])
        else:
            function = kept_training(work, *kept)
            found = map_kept(executor, function, tasks_of(trainings, kept[0]))
        for outcome in found:
            if isinstance(outcome.error, OutputError):
                raise outcome.error
            if outcome.error is None:
                yield outcome
                continue
            line = _line_of(outcome.error)
            _log.error("%s failed: %s", outcome.name, line)
            yield replace(outcome, error=DataError(line))


def _line_of(error: Exception) -> str:
    """Say in a line why a training failed."""
    return one_line(error) or type(error).__name__


def kept_training(work: Callable[[Item], None], output: Path, how: str) -> Kept[Item, None]:
    """Return trainings whose failures are kept in the ledger of a folder."""
    return Kept(work, output, FOLDER, how, _nothing, _nothing, describe=_describe)


def tasks_of(trainings: dict[Item, tuple[str, FoldFolder]], output: Path) -> list[Task[Item]]:
    """List trainings as tasks; one without scores is not done, whatever the ledger says."""
    ledger, tasks = Ledger(output), []
    for item, (name, fold) in trainings.items():
        row = ledger.get(name)
        stale = row is not None and row.state == "done" and not fold.has_scores
        tasks.append(Task(item, name, earlier=None if stale else row))
    return tasks


def missing_folds(run: RunFolder, folds: Sequence[str]) -> list[str]:
    """Name the folds that are not finished."""
    finished = [fold.name for fold in finished_folds(run)]
    return [f"fold {fold}" for fold in folds if fold not in finished]


def _train(fold: str, request: TrainRequest, inputs: Shared[RunInputs]) -> None:
    if not is_finished(RunFolder(request.run), fold, inputs.value, f"fold {fold}"):
        train(replace(request, folds=(fold,)), inputs.value)


def is_finished(run: RunFolder, fold: str | int, inputs: RunInputs, name: str) -> bool:
    """Tell whether a fold has its scores; if so, log it, and do what follows the last fold where a kill came first."""
    if run.fold(fold) not in finished_folds(run):
        return False
    _log.info("%s: done already", name)
    close_run(run, inputs)
    return True


def _describe(_: str, error: Exception) -> str:
    """Say why a training failed; a full disk, and another process in its folder, say nothing of it."""
    if isinstance(error, OutputError | UsageError):
        raise error
    return _line_of(error)


def _nothing(_: object) -> None:
    """Trainings leave their results in their folders."""
