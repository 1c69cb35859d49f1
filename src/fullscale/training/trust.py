"""What the validation cases of a run's folds teach about when not to trust a mask."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from fullscale.bundle.trust import Calibration, Quality, Trust
from fullscale.data.labels import LabelScheme
from fullscale.errors import DataError
from fullscale.inference.trust.calibration import FEWEST_CASES as FEWEST_TO_CALIBRATE
from fullscale.inference.trust.calibration import fit_calibration
from fullscale.inference.trust.counts import SEEN
from fullscale.inference.trust.evidence import Evidence, has_evidence
from fullscale.inference.trust.quality import FEWEST_CASES, features_of, fit_quality
from fullscale.runfolder import ALL, FoldFolder
from fullscale.scoring.summary import read_summary

_log = logging.getLogger(__name__)


def learn_trust(folds: Sequence[FoldFolder], scheme: LabelScheme) -> Trust | None:
    """Fit a temperature and an expected Dice for each structure.

    Args:
        folds: finished ones.
        scheme: names of the structures.

    Returns:
        None where nothing was kept of the validation cases, or it cannot be read, which is logged.
    """
    try:
        cases = _read(folds)
    except DataError as error:
        _log.warning("nothing is learned of when not to trust a mask: %s", error)
        return None
    if not cases:
        return None
    calibration: dict[str, Calibration] = {}
    quality: dict[str, Quality] = {}
    for k, name in enumerate(scheme.structures.values()):
        known = [case for case in cases if case.known[k]]
        found = _calibrate(k, name, known)
        expected = _expect(k, name, known, 1.0 if found is None else found.temperature)
        calibration |= {} if found is None else {name: found}
        quality |= {} if expected is None else {name: expected}
    return Trust(calibration=calibration, quality=quality)


def has_learned_all(folds: Sequence[FoldFolder], trust: Trust | None) -> bool:
    """Whether there is nothing to learn from that was not learned from."""
    return trust is not None or not any(_kept(fold) for fold in folds)


def _kept(fold: FoldFolder) -> list[str]:
    """List the cases of a fold that something is kept of."""
    if fold.name == ALL:  # scored on what it was trained on
        return []
    return [case.case for case in read_summary(fold.summary).cases if has_evidence(fold.evidence, case.case)]


def _read(folds: Sequence[FoldFolder]) -> list[Evidence]:
    return [Evidence.load(fold.evidence, case) for fold in folds for case in _kept(fold)]


def _calibrate(k: int, name: str, cases: Sequence[Evidence]) -> Calibration | None:
    found = fit_calibration(np.array([case.by_truth(k).sum(axis=1) for case in cases])) if cases else None
    if found is None:
        few = f"fewer than {FEWEST_TO_CALIBRATE} validation cases have voxels of it"
        _log.info("calibration: none for %s, %s", name, few)
    else:
        _log.info("calibration: %s", found.describe(name))
    return found


def _expect(k: int, name: str, cases: Sequence[Evidence], temperature: float) -> Quality | None:
    held = [(case, shape) for case in cases if (shape := case.shapes[k]) is not None]
    rows = [features_of(case.counts[k, SEEN], shape, temperature) for case, shape in held]
    present = np.mean([case.counts[k, 1].any() for case in cases]) if cases else 0.0
    found = fit_quality(rows, np.array([case.dice(k) for case, _ in held]), float(present))
    if found is None:
        few = f"{len(rows)} validation masks hold it, and it takes {FEWEST_CASES}"
        _log.info("expected Dice: none for %s, %s", name, few)
    else:
        _log.info("expected Dice: %s", found.describe(name))
    return found
