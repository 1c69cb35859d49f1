"""Other decisions than by one half, on validation cases: `python benchmarks/decisions.py RUN...`.

Of each structure of a run whose folds hold `evidence/`: the Dice by a probability of more than one half; by a threshold
that is chosen on four fifths of the cases and measured on the other; and by RankSEG (Dai and Li 2023, "RankSEG: A
consistent ranking-based framework for segmentation"), as the probabilities are and calibrated on the other fifths.

RankSEG takes the voxels of the highest probability, as many as give the highest expected Dice. With thousands of voxels
the size of the truth is all but certain, so that the expected Dice of the t highest is twice the sum of their
probabilities over t, the sum of all probabilities, and 1: the paper's blind approximation with the mean in place of the
Poisson-binomial. Voxels are counted by log-odds in steps of 0.1, and structures decided one by one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from fullscale.bundle.card import CARD, read_card
from fullscale.inference.trust.calibration import BINS, CENTRES, fit_calibration, parts_of
from fullscale.inference.trust.evidence import Evidence
from fullscale.runfolder import RunFolder

Floats = npt.NDArray[np.float64]


def dice_from(counts: npt.NDArray[np.int64]) -> Floats:
    """Return the Dice of the voxels from each bin on, of counts `[truth, BINS]`."""
    right, taken = (np.cumsum(part[::-1])[::-1] for part in (counts[1], counts.sum(axis=0)))
    return 2 * right / (taken + counts[1].sum())


def rank(counts: npt.NDArray[np.int64], temperature: float) -> int:
    """Return the bin from which RankSEG takes voxels; of their truth nothing is used."""
    both = counts.sum(axis=0).astype(float)
    mass = both * expit(CENTRES / temperature)
    summed, taken = (np.cumsum(part[::-1])[::-1] for part in (mass, both))
    return int(np.argmax(2 * summed / (taken + mass.sum() + 1)))


def gains(counts: npt.NDArray[np.int64]) -> dict[str, Floats]:
    """Return what each decision adds to the Dice of each case, of counts `[cases, truth, BINS]`."""
    dice = np.array([dice_from(case) for case in counts])
    half = dice[:, BINS // 2]
    found = {name: np.zeros(len(counts)) for name in ("threshold", "RankSEG", "RankSEG, calibrated")}
    for part in parts_of(len(counts)):
        best = int(np.argmax(dice[~part].mean(axis=0)))
        fitted = fit_calibration(counts[~part])
        temperature = 1.0 if fitted is None else fitted.temperature
        for case in np.flatnonzero(part):
            bins = best, rank(counts[case], 1.0), rank(counts[case], temperature)
            for name, at in zip(found, bins, strict=True):
                found[name][case] = dice[case, at] - half[case]
    return {"one half": half, **found}


def main(run: RunFolder) -> None:
    """Write a row for each structure: mean Dice by one half, what others add, and standard errors."""
    structures = read_card(run.bundle / CARD).structures.values()
    files = [file for fold in run.folds() for file in sorted(fold.evidence.glob("*.npz"))]
    cases = [Evidence.load(file.parent, file.stem) for file in files]
    for k, structure in enumerate(structures):
        counts = np.array([case.by_truth(k).sum(axis=1) for case in cases if case.known[k]])
        half, *others = gains(counts).items()
        told = [f"{added.mean():+.4f} ({added.std(ddof=1) / len(added) ** 0.5:.4f})" for _, added in others]
        sys.stdout.write(f"| {run.path.name} | {structure} | {half[1].mean():.4f} | {' | '.join(told)} |\n")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        main(RunFolder(Path(argument)))
