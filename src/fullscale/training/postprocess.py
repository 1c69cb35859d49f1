"""What the validation cases of a run's folds say of post-processing: rules for the model that the run hands over."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from fullscale.bundle.card import CARD, read_card
from fullscale.bundle.rules import ChosenRules
from fullscale.data.case import Case
from fullscale.data.labels import LabelScheme
from fullscale.data.read import read_label
from fullscale.data.truth import truth_of
from fullscale.errors import DataError
from fullscale.inference.postprocess import CaseMasks, choose_rules
from fullscale.runfolder import ALL, FoldFolder, RunFolder
from fullscale.scoring.summary import CaseScores, read_summary
from fullscale.training.trust import has_learned_all, learn_trust

_log = logging.getLogger(__name__)


def recorded_choice(run: RunFolder, folds: Sequence[FoldFolder]) -> ChosenRules | None:
    """Return what was chosen for the models that these folds have now, if it is recorded beside the run's scores."""
    try:
        found = read_summary(run.summary).postprocess
        chosen = None if found is None else ChosenRules.model_validate(found)
    except (DataError, ValueError):  # no scores yet, or those of another version: then it is chosen anew
        return None
    current = chosen is not None and chosen.members == fold_digests(folds) and has_learned_all(folds, chosen.trust)
    return chosen if current else None


def choose_postprocess(folds: Sequence[FoldFolder], scheme: LabelScheme, known: Sequence[Case]) -> ChosenRules | None:
    """Choose rules on the validation masks that the models of the folds have made, and learn what they teach of trust.

    Args:
        folds: finished ones.
        scheme: what the values in the truth stand for.
        known: the cases of the run, with what is known of each.

    Returns:
        None where there is nothing to look at: no case was held back, or a mask or truth is gone, which is logged.
    """
    held_back = [fold for fold in folds if fold.name != ALL]
    members, by_id = fold_digests(folds), {case.id: case for case in known}
    cases = [(fold, case) for fold in held_back for case in read_summary(fold.summary).cases if not case.resampled]
    if not cases:
        return None
    _log.info("choosing post-processing on the masks of %d validation cases", len(cases))
    try:
        read = [partial(_read, scheme, fold, case, by_id.get(case.case)) for fold, case in cases]
        rules = choose_rules(read, scheme)
    except DataError as error:
        _log.warning("no post-processing is chosen: %s", error)
        return None
    for rule in rules:
        _log.info("post-processing: %s", rule.describe())
    if not rules:
        _log.info("no post-processing helps the validation cases: masks stay as they are decided")
    return ChosenRules(members=members, rules=tuple(rules), trust=learn_trust(held_back, scheme))


def fold_digests(folds: Sequence[FoldFolder]) -> dict[str, str]:
    """Return the digest of each fold's model, by the fold's name."""
    return {fold.path.name: read_card(fold.bundle / CARD).digest for fold in folds}


def _read(scheme: LabelScheme, fold: FoldFolder, case: CaseScores, known: Case | None) -> CaseMasks:
    """Read the mask of a case, wherever the run lies by now, and its truth.

    Raises:
        DataError: a file is gone, or the two are not of one shape.
    """
    mask = fold.validation / Path(case.prediction_file).name
    if known is None:
        raise DataError(f"{case.case} is not among the cases of the run any more")
    found, truth = scheme.keep(read_label(mask, known.first, scheme)), truth_of(known, scheme)
    real = scheme.keep(truth.labels)
    if found.shape != real.shape:
        raise DataError(f"{mask} has shape {found.shape}, its truth {real.shape}")
    return CaseMasks(found.array, real.array, real.voxel_ml, truth.ignored, truth.unknown)
