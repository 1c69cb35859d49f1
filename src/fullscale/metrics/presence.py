"""What guidance did: which structures it called present, and what its gate took out of the masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.geometry.volume import Volume, require_same_grid
from fullscale.metrics.overlap import Members, Scores, overlap_counts
from fullscale.metrics.slices import known_slices, slice_scores, slice_voxels

CONFUSION = ("present_found", "present_missed", "absent_invented", "absent_found")
"""Slices by what they hold and what guidance predicted: present and predicted present, and so on."""


@dataclass(frozen=True)
class Guided:
    """What a network with guidance made of one case.

    Attributes:
        gated: label map as it is handed out: structures that guidance calls absent from a slice are taken out of it.
        ungated: label map before that.
        predicted_present: `[S, structures]` whether guidance predicts each structure in each slice, feet to head.
    """

    gated: Volume
    ungated: Volume
    predicted_present: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class GuidedScores:
    """What the gate changed in one case.

    Attributes:
        case: its name.
        metrics: for each label `gated` and `ungated`, each with Dice, FP, FN and the names of `SLICES`, and `presence`
            with those of `CONFUSION`.
    """

    case: str
    metrics: dict[int, dict[str, Scores]]


@dataclass(frozen=True)
class Known:
    """What is known of a case, beyond its label map.

    Attributes:
        members: values of the structures that are made of several.
        ignored: voxels of which nothing is known, of the shape of the label map.
        unknown: labels of the structures that were not drawn.
    """

    members: Members | None = None
    ignored: npt.NDArray[np.bool_] | None = None
    unknown: Sequence[int] = ()


def presence_confusion(
    predicted_present: npt.NDArray[np.bool_], reference: Volume, labels: Sequence[int], known: Known | None = None
) -> dict[int, Scores]:
    """Count for each label the slices by what they hold and what guidance said; see `CONFUSION`.

    Args:
        predicted_present: `[S, labels]`, from feet to head.
        reference: the truth.
        labels: values of the classes, in the order of `predicted_present`.
        known: what is known of the truth; a slice that is not known whole is counted where it holds the structure.
    """
    known = known or Known()
    held, whole = slice_voxels(reference, labels, known.members) > 0, known_slices(reference, known.ignored)
    counts: dict[int, Scores] = {}
    for label, here, told in zip(labels, held.T, predicted_present.T, strict=True):
        cells = (here & told, here & ~told, whole & ~here & told, whole & ~here & ~told)
        counts[label] = {name: int(cell.sum()) for name, cell in zip(CONFUSION, cells, strict=True)}
    return counts


def score_guided(
    case: str, guided: Guided, reference: Volume, labels: Sequence[int], known: Known | None = None
) -> GuidedScores:
    """Score one case with and without the gate, and what guidance said of its slices.

    Args:
        case: its name.
        guided: what the network made of it.
        reference: the truth.
        labels: values of the classes, in the order of `guided.predicted_present`.
        known: what is known of the truth; the numbers of a structure that was not drawn are None.

    Raises:
        GeometryError: the truth lies on another grid.
    """
    require_same_grid(guided.gated, reference, "prediction and truth")
    known = known or Known()
    parts = {
        "gated": _scores(guided.gated, reference, labels, known),
        "ungated": _scores(guided.ungated, reference, labels, known),
        "presence": presence_confusion(guided.predicted_present, reference, labels, known),
    }
    by_label = {label: {part: scores[label] for part, scores in parts.items()} for label in labels}
    for label in known.unknown:
        by_label[label] = {part: dict.fromkeys(scores) for part, scores in by_label[label].items()}
    return GuidedScores(case, by_label)


def guidance_summary(cases: Sequence[GuidedScores], labels: Mapping[int, str]) -> dict[str, Any]:
    """Add up what the gate changed, for summary.json: per class over the cases, and each case.

    Dice is the mean over the cases in which both sides are scored; everything else is a sum.
    """
    return {
        "classes": {str(label): _over_cases([case.metrics[label] for case in cases]) for label in labels},
        "cases": [
            {"case": case.case, "metrics": {str(label): case.metrics[label] for label in labels}} for case in cases
        ],
    }


def _scores(prediction: Volume, reference: Volume, labels: Sequence[int], known: Known) -> dict[int, Scores]:
    counts = overlap_counts(prediction.array, reference.array, labels, known.members, known.ignored)
    slices = slice_scores(prediction, reference, labels, known.members, known.ignored)
    scores: dict[int, Scores] = {}
    for label, count in zip(labels, counts, strict=True):
        scores[label] = {"Dice": count.dice, "FP": count.fp, "FN": count.fn} | slices[label]
    return scores


def _over_cases(rows: Sequence[dict[str, Scores]]) -> dict[str, Scores]:
    total: dict[str, Scores] = {
        part: {name: _sum(row[part][name] for row in rows) for name in rows[0][part]} for part in rows[0]
    }
    pairs = [(row["gated"]["Dice"], row["ungated"]["Dice"]) for row in rows]
    dice = [(gated, ungated) for gated, ungated in pairs if gated is not None and ungated is not None]
    for k, part in enumerate(("gated", "ungated")):
        total[part]["Dice"] = float(np.mean([pair[k] for pair in dice])) if dice else None
    return total


def _sum(values: Iterable[float | None]) -> float:
    return sum(value or 0 for value in values)
