"""A model scored on labelled scans: predicted from the files as a user would; with guidance, without its gate too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fullscale.data.case import Case
from fullscale.data.labels import LabelScheme
from fullscale.data.read import read_label
from fullscale.data.volume_files import write_volume
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume
from fullscale.inference.guided import predict_guided
from fullscale.inference.predictor import Predictor
from fullscale.metrics.presence import GuidedScores, score_guided
from fullscale.metrics.surface import TOLERANCE_MM, Tolerance
from fullscale.runfolder import SUMMARY
from fullscale.scoring.evaluate import evaluate
from fullscale.scoring.summary import Failure, Summary, write_summary


def predict_and_score(
    predictor: Predictor,
    folder: Path,
    cases: Sequence[Case],
    labels: Mapping[int, str],
    tolerance_mm: Tolerance = TOLERANCE_MM,
    progress: Callable[[int], None] | None = None,
) -> Summary:
    """Write the mask of each labelled case and `summary.json` into `folder`.

    Args:
        predictor: the model; with guidance, its gate is scored too.
        folder: for the masks and the scores.
        cases: scans with their truth.
        labels: name of each value in the truth; values that share a name are merged.
        tolerance_mm: of the surface Dice.
        progress: called after each case with the number of all of them.

    Returns:
        The scores. A case whose scan or truth cannot be used is among the failures.

    Raises:
        DataError: no case could be scored.
        FullscaleError: the folder cannot be written.
    """
    guidance: list[GuidedScores] = []
    failures: list[Failure] = []
    done: dict[str, Case] = {}
    for case in cases:
        try:
            prediction, scores = _predict(predictor, case, labels)
        except DataError as error:
            failures.append(Failure(case.id, str(error)))
        else:
            write_volume(folder / f"{case.id}.nii.gz", prediction)
            guidance += scores
            done[case.id] = case
        if progress is not None:
            progress(len(cases))
    if not done:
        first = failures[0] if failures else Failure("-", "there are no labelled cases")
        raise DataError(f"none of {len(cases)} cases could be segmented, such as {first.case}: {first.message}")
    summary = evaluate(folder, done, labels, tolerance_mm)
    summary = replace(summary, guidance=guidance, failures=[*failures, *summary.failures])
    write_summary(summary, folder / SUMMARY)
    return summary


def _predict(predictor: Predictor, case: Case, labels: Mapping[int, str]) -> tuple[Volume, list[GuidedScores]]:
    mask, guided = predict_guided(predictor, case.image)
    if guided is None:
        return mask, []
    assert case.label is not None
    truth = LabelScheme(labels).merge(read_label(case.label, case.image))
    return mask, [score_guided(case.id, guided, truth, list(predictor.card.structures))]
