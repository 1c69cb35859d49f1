"""Masks scored by several commands, each its share of the cases, and their scores joined."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fullscale.data.identity import digest_of
from fullscale.data.kept import Kept, Task, map_kept
from fullscale.progress import Progress, ignore
from fullscale.scoring.evaluate import Found, Scoring
from fullscale.scoring.pairing import Pair
from fullscale.scoring.summary import METRICS, Failure, Summary
from fullscale.work.cluster import Workers
from fullscale.work.executor import Outcome, choose_workers, make_executor
from fullscale.work.ledger import Ledger
from fullscale.work.shard import Shard


def journals_of(summary: Path) -> Path:
    """Return the folder of the journals from which a summary is joined."""
    return summary.parent / f".{summary.name}.ledger"


def score_share(
    scoring: Scoring, summary: Path, shard: Shard, jobs: Workers = 1, progress: Progress = ignore
) -> list[Outcome[Any, Found]]:
    """Score the cases of a share; what was scored before, and has not changed, is taken from the ledger.

    Args:
        scoring: of all cases.
        summary: the file that all shares together become.
        shard: which cases.
        jobs: processes that share them; None as the machine allows.
        progress: told of each case that is scored.

    Raises:
        FullscaleError: the ledger cannot be written.
    """
    tasks = [task for task in _tasks(scoring, summary) if shard.holds(task.name)]
    with make_executor(choose_workers(jobs, len(tasks))) as executor:
        return list(map_kept(executor, _kept(scoring, summary), tasks, progress))


def join_scores(scoring: Scoring, summary: Path) -> tuple[Summary | None, list[str]]:
    """Put the scores of all shares together.

    Returns:
        The scores, None where there are none yet, and the cases that are missing.

    Raises:
        DataError: no case could be scored.
    """
    outcomes, missing = _kept(scoring, summary).all_ended(_tasks(scoring, summary))
    return (scoring.summary(outcomes) if outcomes else None), missing


def failures_of(outcomes: list[Outcome[Any, Any]]) -> list[Failure]:
    """List the cases of a share that failed, each with its line."""
    lines = ((outcome.name, outcome.failure()) for outcome in outcomes)
    return [Failure(name, line) for name, line in lines if line is not None]


def _tasks(scoring: Scoring, summary: Path) -> Iterator[Task[tuple[str, Pair]]]:
    ledger = Ledger(summary.parent, journals_of(summary).name)
    for name, pair in sorted(scoring.pairs.items()):
        yield Task((name, pair), name, pair.content, pair.said, earlier=ledger.get(name))


def _kept(scoring: Scoring, summary: Path) -> Kept[tuple[str, Pair], Found]:
    how = [scoring.scheme.as_dict(), scoring.open_ended, scoring.tolerance_mm, scoring.resample, METRICS]
    folder = journals_of(summary).name
    return Kept(scoring.function(), summary.parent, folder, digest_of(json.dumps(how)), asdict, _unpacked)


def _unpacked(plain: dict[str, Any]) -> Found:
    """Make scores again of what a ledger holds, whose keys are texts."""
    metrics = {int(label): scores for label, scores in plain["metrics"].items()}
    occurring = {int(label): name for label, name in plain["occurring"].items()}
    return Found(**plain | {"metrics": metrics, "occurring": occurring, "unknown": tuple(plain["unknown"])})
