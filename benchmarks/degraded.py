"""Expected against true Dice of scans that are made worse: `python benchmarks/degraded.py RUN DATA`.

Every second validation case of fold 0 teaches the expected Dice. The others are segmented by the fold's model as they
are, with noise, blurred, inverted and upside down. RUN must hold `fold_0/evidence`; DATA is its data set, of one
channel.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.stats import spearmanr

from fullscale.bundle.trust import Quality
from fullscale.data.case import Case
from fullscale.data.discover import discover
from fullscale.data.read import read_image
from fullscale.data.truth import truth_of
from fullscale.inference.predictor import Predictor
from fullscale.inference.trust.calibration import fit_calibration
from fullscale.inference.trust.counts import SEEN, Counting
from fullscale.inference.trust.evidence import Evidence
from fullscale.inference.trust.quality import expected_dice, features_of, fit_quality
from fullscale.runfolder import RunFolder

Array = npt.NDArray[np.float64]


def _noisy(share: float) -> Callable[[Array], Array]:
    return lambda a: a + np.random.default_rng(0).normal(0, share * a.std(), a.shape)


CHANGES: dict[str, Callable[[Array], Array]] = {
    "as it is": lambda a: a,
    "noise of 0.5 standard deviations": _noisy(0.5),
    "noise of 1": _noisy(1.0),
    "blurred by 1.5 voxels": lambda a: ndimage.gaussian_filter(a, 1.5),
    "blurred by 2.5": lambda a: ndimage.gaussian_filter(a, 2.5),
    "inverted": lambda a: a.max() - a,
    "upside down": lambda a: a[:, :, ::-1],
}


def learned_of(cases: list[Evidence], k: int) -> tuple[Quality, float]:
    """Learn the expected Dice of structure `k`; return its temperature too."""
    calibration = fit_calibration(np.array([case.by_truth(k).sum(axis=1) for case in cases]))
    by = 1.0 if calibration is None else calibration.temperature
    held = [(case, shape) for case in cases if (shape := case.shapes[k]) is not None]
    rows = [features_of(case.counts[k, SEEN], shape, by) for case, shape in held]
    quality = fit_quality(rows, np.array([case.dice(k) for case, _ in held]), 1.0)
    assert quality is not None, "too few cases"
    return quality, by


def told_of(predictor: Predictor, case: Case, change: str, learned: list[tuple[Quality, float]]) -> list[list[float]]:
    """Return of each structure the true Dice of a changed scan, the expected one, and its interval."""
    scan, changed = read_image(case.first), CHANGES[change]
    truth = truth_of(case, predictor.card.scheme).labels.array
    truth = changed(truth) if change == "upside down" else truth
    counted = Counting(predictor.card.scheme, full_size=False)
    worse = scan.with_array(np.ascontiguousarray(changed(scan.array.astype(float)), dtype=np.float32))
    mask = predictor.watched({predictor.channels[0]: worse}, [counted]).array
    [(counts, size)] = counted.of_members
    told = []
    for k, (value, (quality, by)) in enumerate(zip(predictor.card.structures, learned, strict=True)):
        shape = counted.shapes[k]
        assert shape is not None, f"{case.id}, {change}: nothing found"
        dice = 2 * ((mask == value) & (truth == value)).sum() / ((mask == value).sum() + (truth == value).sum())
        told.append([dice, *expected_dice(quality, features_of(counts[k, SEEN], shape, by, size))])
    return told


def main(run: RunFolder, data: Path) -> None:
    """Write a row for each change and structure, and the rank correlation over all."""
    names = json.loads(run.splits.read_text())[0]["val"]
    known = discover(data).dataset
    assert known is not None
    cases = {case.id: case for case in known.cases}
    fold, predictor = run.fold(0), Predictor.from_run(run.fold(0).path)
    structures = list(predictor.card.structures.values())
    teachers = [Evidence.load(fold.evidence, name) for name in names[1::2]]
    learned = [learned_of(teachers, k) for k in range(len(structures))]
    every: list[list[tuple[float, float]]] = [[] for _ in structures]
    for change in CHANGES:
        found = np.array([told_of(predictor, cases[name], change, learned) for name in names[::2]])
        for k, structure in enumerate(structures):
            true, expected, low, high = found[:, k].T
            every[k] += zip(true, expected, strict=True)
            held, below = ((low <= true) & (true <= high)).mean(), (expected < learned[k][0].review_below).mean()
            shown = f"{true.mean():.2f} | {expected.mean():.2f} | {held:.0%} | {below:.0%}"
            sys.stdout.write(f"| {change} | {structure} | {shown} |\n")
            sys.stdout.flush()
    for structure, pairs in zip(structures, every, strict=True):
        sys.stdout.write(f"{structure}: rank correlation over all {spearmanr(*np.array(pairs).T).statistic:.2f}\n")


if __name__ == "__main__":
    main(RunFolder(Path(sys.argv[1])), Path(sys.argv[2]))
