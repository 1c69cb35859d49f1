"""Slices and patches trained on the same folds: the better of them, or both together, is the model of the run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from fullscale.bundle.card import MODEL_CARD
from fullscale.bundle.rules import ChosenRules
from fullscale.bundle.store import copy_bundle, save_ensemble
from fullscale.config.schema import Config
from fullscale.data.anonymise import require_apart
from fullscale.data.identity import DigestIndex
from fullscale.data.recipe import View
from fullscale.data.splits import read_splits, require_same_folds
from fullscale.errors import UsageError
from fullscale.files import only_one, write_json
from fullscale.inference.predictor import Predictor
from fullscale.inference.scored import ModelTest, predict_and_score
from fullscale.reporting.source import finished_folds, pool_folds
from fullscale.runfolder import ALL, TOGETHER, FoldFolder, RunFolder
from fullscale.scoring.summary import Summary, read_summary, write_summary
from fullscale.training.describe import describe
from fullscale.training.postprocess import choose_postprocess, recorded_choice
from fullscale.training.prepare import RunInputs, find_inputs, find_splits, resolve
from fullscale.training.request import TrainRequest
from fullscale.training.run import train

_log = logging.getLogger(__name__)


def train_views(request: TrainRequest, views: Sequence[View]) -> Summary:
    """Train every view in a run folder of its own, score them and their ensemble fold by fold, and keep the best.

    What is best is decided by the mean Dice of the cases that each fold held back. The figures of all are written
    beside the model; they favour the choice a little, as it was made by them.

    Args:
        request: what to train; its run folder receives a run for each view, and the model.
        views: two or more, different.

    Returns:
        The scores of what was kept.

    Raises:
        UsageError: a setting fits one of the views only, a fold has no cases to choose by, or the key of case names
            lies in the run.
        DataError: the data cannot be trained on, or have changed since the run was begun.
        FullscaleError: the loss became NaN; the last good checkpoint is kept.
    """
    if ALL in request.folds:
        raise UsageError("--views needs folds that hold cases back, to choose by: --fold all holds back none")
    run = RunFolder(request.run)
    if request.anonymise is not None:
        require_apart(request.anonymise, run.path)
    requests = {view: replace(request, run=run.view(view).path, config=_with_view(request, view)) for view in views}
    inputs = {view: find_inputs(one) for view, one in requests.items()}
    for view, one in requests.items():
        resolve(one.config, inputs[view].plan)  # both are refused before the first is trained
    inputs = with_same_folds(run, inputs)
    scores = {}
    for view, one in requests.items():
        _log.info("training %s", view)
        scores[view] = train(one, inputs[view])
    if request.group.is_helper:
        return Summary({}, {})
    return _keep_best(run, request, scores, inputs[views[0]])


def with_same_folds(run: RunFolder, inputs: dict[View, RunInputs]) -> dict[View, RunInputs]:
    """Give all views the folds that one of them was begun with."""
    begun = [view for view in inputs if run.view(view).splits.is_file()]
    if not begun:
        return inputs
    path, first = run.view(begun[0]).splits, inputs[begun[0]]
    if first.splits is not None:
        require_same_folds(path, first.splits, first.cases)
    splits = read_splits(path, first.cases)
    return {view: replace(one, splits=splits) for view, one in inputs.items()}


def parse_views(text: str) -> list[View]:
    """Read `slices,patches`.

    Raises:
        UsageError: it names another view, or fewer than two.
    """
    names = [name.strip() for name in text.split(",")]
    views: list[View] = [view for view in get_args(View) if view in names]
    if len(views) < 2 or len(views) != len(names):
        raise UsageError(f"--views {text}: expected slices,patches")
    return views


def _keep_best(run: RunFolder, request: TrainRequest, by_view: Mapping[View, Summary], inputs: RunInputs) -> Summary:
    """Score the views together, and make the best the model of the run."""
    with only_one(run.path, "choosing a view"):
        folds = [_score_together(run, fold, list(by_view), request, inputs) for fold in request.folds]
        scores: dict[str, Summary] = dict(by_view.items()) | {TOGETHER: pool_folds(folds)}
        dice = {name: _mean_dice(summary) for name, summary in scores.items()}
        best = max(dice, key=lambda name: dice[name])
        kept = list(by_view) if best == TOGETHER else [best]
        members = {f"{view}-fold_{k}": run.view(view).fold(k).bundle for k in request.folds for view in kept}
        chosen = _postprocess(run, run.view(best), request, inputs)
        rules = () if chosen is None else chosen.rules
        if len(members) == 1:
            copy_bundle(next(iter(members.values())), run.bundle, rules, keep=[MODEL_CARD])
        else:
            save_ensemble(run.bundle, members, rules, keep=[MODEL_CARD])
        beside = None if chosen is None else chosen.model_dump(mode="json")
        write_summary(replace(scores[best], postprocess=beside), run.summary)
        write_json(run.views, {"kept": best, "dice": dice, "folds": list(request.folds)})
    describe(run, run.path)
    told = ", ".join(f"{name} {value:.4f}" for name, value in dice.items())
    _log.info("mean Dice of the cases held back: %s; %s is kept", told, best)
    return scores[best]


def _postprocess(run: RunFolder, kept: RunFolder, request: TrainRequest, inputs: RunInputs) -> ChosenRules | None:
    """Return what helps the masks of what is kept: as it is recorded there or here, or chosen now."""
    folds = [kept.fold(fold) for fold in request.folds]
    known = recorded_choice(kept, folds) or recorded_choice(run, folds)
    return known or choose_postprocess(folds, inputs.plan.scheme, inputs.cases)


def _score_together(
    run: RunFolder, fold: str, views: Sequence[View], request: TrainRequest, inputs: RunInputs
) -> Summary:
    """Score the ensemble of the views of one fold on the cases that it held back, unless that is done already."""
    together: FoldFolder = run.view(TOGETHER).fold(fold)
    save_ensemble(together.bundle, {view: run.view(view).fold(fold).bundle for view in views})
    if together not in finished_folds(run.view(TOGETHER)):
        config = resolve(_with_view(request, views[0]), inputs.plan)
        split = find_splits(run.view(views[0]), inputs.cases, config, inputs.splits)[int(fold)]
        held_back = [case for case in inputs.cases if case.id in split["val"]]
        _log.info("fold %s: predicting %d validation cases with all views", fold, len(held_back))
        predictor = Predictor.from_run(together.path, device=config.trainer.device)
        test = ModelTest(
            *(predictor, together.validation, held_back, inputs.plan.scheme),
            index=DigestIndex(request.cache),
            data=inputs.root,
            anonymous=inputs.anonymous,
        )
        predict_and_score(test)
    return read_summary(together.summary)


def _with_view(request: TrainRequest, view: View) -> Config:
    data = request.config.data
    if data.view is not None or data.patch_size is not None:
        raise UsageError("data.view and data.patch_size are of one view: leave them out with --views")
    return request.config.model_copy(update={"data": data.model_copy(update={"view": view})})


def _mean_dice(summary: Summary) -> float:
    """Average Dice over cases, then over structures; a structure that no case scores does not count."""
    found: list[Any] = [summary.mean(label)["Dice"] for label in summary.labels]
    scored = [float(dice) for dice in found if dice is not None]
    return sum(scored) / len(scored) if scored else 0.0
