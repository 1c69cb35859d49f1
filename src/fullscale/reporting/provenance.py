"""Which model made the scores of a report, and what a reader must know before believing them."""

from __future__ import annotations

from fullscale.bundle.card import CARD, SHORT, read_card
from fullscale.reporting.source import Source
from fullscale.runfolder import RunFolder


def fold_rows(source: Source) -> list[list[str]]:
    """Say of each fold which model made its scores, from which epoch, and whether they are in the means."""
    return [
        [
            record.fold.name,
            "–" if record.digest is None else record.digest[:SHORT],
            *(str(record.model.get(key, "–")) for key in ("epoch", "step", "created")),
            "yes" if record.fold.name in source.folds else "no",
        ]
        for record in source.records
    ]


def reservations(source: Source) -> list[str]:
    """What a reader must know before believing the scores."""
    notes = [f"Fold {record.fold.name}: {record.problem}." for record in source.records if record.problem]
    model = source.summary.model
    if model is not None and model.trained_on:
        notes.append(
            f"The model was trained on {len(model.trained_on)} of these cases ({', '.join(model.trained_on[:5])}"
            f"{', ...' if len(model.trained_on) > 5 else ''}): their scores say nothing of new scans."
        )
    return notes


def rules_of_masks(run: RunFolder) -> list[str]:
    """Say what the model of a run does to its masks after they are decided, and what that gave on validation.

    Raises:
        DataError: its card cannot be read.
    """
    card = run.bundle / CARD
    return [rule.describe() for rule in read_card(card).postprocess] if card.is_file() else []
