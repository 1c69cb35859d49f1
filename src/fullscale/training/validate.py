"""Scores of the cases that were held back: predicted as a user would, from the files and with the bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fullscale.data.labels import merge_label_map
from fullscale.data.layouts import Case
from fullscale.data.nifti import write_volume
from fullscale.data.read import read_label
from fullscale.evaluation.evaluate import evaluate
from fullscale.evaluation.guidance import GuidedScores, score_guided
from fullscale.evaluation.summary import Summary, write_summary
from fullscale.geometry.volume import Volume
from fullscale.inference.guided import is_guided, predict_guided
from fullscale.inference.predictor import Predictor


def validate(predictor: Predictor, folder: Path, cases: list[Case], labels: dict[int, str]) -> Summary:
    """Write the mask of each labelled case and `summary.json` into `folder`; score the gate too where there is one."""
    guidance = []
    for case in cases:
        prediction, scores = _predict(predictor, case, labels)
        write_volume(folder / f"{case.id}.nii.gz", prediction)
        guidance += scores
    summary = replace(evaluate(folder, {case.id: case for case in cases}, labels), guidance=guidance)
    write_summary(summary, folder / "summary.json")
    return summary


def _predict(predictor: Predictor, case: Case, labels: dict[int, str]) -> tuple[Volume, list[GuidedScores]]:
    if not is_guided(predictor):
        return predictor.predict(case.image), []
    assert case.label is not None
    guided = predict_guided(predictor, case.image)
    truth = merge_label_map(read_label(case.label, case.image), labels)
    return guided.gated, [score_guided(case.id, guided, truth, list(predictor.card.labels))]
