"""A model scored on labelled scans by several commands, each its share of the cases, and their scores joined."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fullscale.data.case import Case
from fullscale.data.identity import digest_of, files_of
from fullscale.data.kept import Kept, Task, map_kept
from fullscale.inference.batch import jobs_of
from fullscale.inference.predictor import Predictor
from fullscale.inference.scored import ModelTest, mask_of
from fullscale.metrics.presence import GuidedScores
from fullscale.progress import Progress, ignore
from fullscale.scoring.shares import join_scores, score_share
from fullscale.scoring.summary import Summary
from fullscale.shares import MASKS
from fullscale.work.cluster import Workers
from fullscale.work.executor import Outcome, make_executor
from fullscale.work.ledger import Ledger
from fullscale.work.processes import Shared
from fullscale.work.shard import Shard


def score_model_share(
    test: ModelTest, shard: Shard, jobs: Workers = 1, progress: Progress = ignore, overwrite: bool = False
) -> list[Outcome[Any, Any]]:
    """Segment and score the cases of a share; what was done before, and has not changed, is not done again.

    Args:
        test: the model and all cases.
        shard: which cases.
        jobs: processes that share them; None as the machine allows, one on a GPU.
        progress: told of each case that is segmented.
        overwrite: replace masks that this command did not write.

    Returns:
        What became of each case: of those whose mask could not be made that, of the others their scores.

    Raises:
        FullscaleError: the folder cannot be written.
    """
    tasks = [task for task in _tasks(test) if shard.holds(task.name)]
    shared = Shared(test.predictor)
    kept = _kept(test, shared, overwrite)
    with make_executor(jobs_of(test.predictor, jobs, len(tasks)), shared) as executor:
        outcomes: list[Outcome[Any, Any]] = list(map_kept(executor, kept, tasks, progress))
    done = {outcome.name: outcome.item for outcome in outcomes if outcome.failure() is None}
    failed = [outcome for outcome in outcomes if outcome.name not in done]
    return failed + (score_share(test.scoring(done), test.summary, Shard(), jobs) if done else [])


def join_model_scores(test: ModelTest) -> tuple[Summary | None, list[str]]:
    """Put the scores of all shares together.

    Returns:
        The scores, None where there are none yet, and the cases that are missing.

    Raises:
        DataError: no case could be scored.
    """
    outcomes, missing = _kept(test, Shared(test.predictor)).all_ended(_tasks(test))
    segmented = {outcome.name: outcome.item for outcome in outcomes if outcome.failure() is None}
    if segmented:
        unscored = join_scores(test.scoring(segmented), test.summary)[1]
        missing += unscored
        outcomes = [outcome for outcome in outcomes if outcome.name not in unscored]
    if not any(outcome.failure() is None for outcome in outcomes) and missing:
        return None, sorted(missing)

    def score(done: Any) -> Summary:
        summary, _ = join_scores(test.scoring(done), test.summary)
        assert summary is not None
        return summary

    return test.joined(outcomes, score), sorted(missing)


def _tasks(test: ModelTest) -> Iterator[Task[Case]]:
    ledger = Ledger(test.folder, MASKS)
    for case in test.cases:
        mask = mask_of(case, test.folder)
        content = files_of(case.files)  # the truth too: what the gate of a guided network does is measured against it
        yield Task(case, case.id, content, _said(case), (mask,), ledger.get(case.id))


def _said(case: Case) -> str:
    return json.dumps([list(case.channels), case.labelled, case.empty, case.by_name, case.colours])


def _kept(test: ModelTest, predictor: Shared[Predictor], overwrite: bool = False) -> Kept[Case, list[GuidedScores]]:
    card = test.predictor.card
    how = digest_of(json.dumps([card.digest, test.scheme.as_dict()]))
    return Kept(test.segment(predictor), test.folder, MASKS, how, _packed, _unpacked, overwrite)


def _packed(guidance: list[GuidedScores]) -> list[Any]:
    return [vars(scores) for scores in guidance]


def _unpacked(plain: list[Any]) -> list[GuidedScores]:
    """Make the scores again of what a ledger holds, whose keys are texts."""
    return [GuidedScores(one["case"], {int(label): of for label, of in one["metrics"].items()}) for one in plain]
