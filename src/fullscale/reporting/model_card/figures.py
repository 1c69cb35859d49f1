"""The figures of a model card: scores with intervals, groups of cases, failures, and how far to trust a mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fullscale.bundle.card import EnsembleCard
from fullscale.bundle.trust import Trust
from fullscale.geometry.units import LENGTH
from fullscale.reporting.model_card.facts import Facts
from fullscale.reporting.model_card.markdown import bullets, escaped, score_table, table
from fullscale.reporting.model_card.subgroups import Grouping, groupings
from fullscale.reporting.trust import calibration_table, quality_table
from fullscale.scoring.summary import CaseScores
from fullscale.scoring.tables import NOTHING, SCORES, about_intervals, left_out, mean_table, not_scored
from fullscale.text import counted, without_folders

WORST = 5
"""Cases that are shown as the worst."""
_MOST_COLUMNS = 6


def scores(facts: Facts) -> str:
    """Write the means of every score with their intervals, and what must be known before they are believed."""
    content = facts.summary.as_dict()
    notes = [_who_scored(facts), about_intervals(content)]
    tolerances = sorted(set(facts.summary.tolerance_mm.values()))
    within = " or ".join(f"{tolerance:g}" for tolerance in tolerances)
    notes.append(
        f"NSD is the share of both surfaces that lie within {within} {LENGTH[facts.summary.unit]} of each other. A "
        "structure that was missed scores Dice 0. Where neither the truth nor the mask holds it, nothing is scored."
    )
    if facts.held_back and any(cost.epochs > 1 for cost in facts.costs):
        notes.append(
            "Which epoch became the model was chosen by the Dice of these validation cases, so the figures favour it a "
            "little."
        )
    if facts.places.kept is not None:
        notes.append("Which view of the data was kept was chosen by these figures, so they favour it a little.")
    rules = [rule.describe() for rule in facts.card.postprocess]
    if rules:
        notes.append(f"The scores are of masks before post-processing. `predict` then does this: {'; '.join(rules)}.")
    model = facts.summary.model
    if facts.held_back and model is not None and model.trained_on:
        notes.append(f"The model was trained on some of these cases: {', '.join(model.trained_on)}.")
    notes += [*facts.reservations, *left_out(content)]
    notes += [f"Not scored: {failed.line}" for failed in not_scored(content["failures"])]
    lines = bullets([_plain(note) for note in notes])
    return f"## Scores\n\n{score_table(mean_table(content, SCORES))}\n{lines}"


def subgroups(facts: Facts) -> str:
    """Write the Dice of groups of cases."""
    found = list(groupings(facts))
    rows = [
        [grouping.by, group.name, group.structure, group.cases, _dice(group.dice), group.interval]
        for grouping in found
        for group in grouping.groups
    ]
    alone = bullets([f"{escaped(one.by)}: {escaped(one.note)}" for one in found if one.note])
    heads = ["by", "group", "structure", "cases", "mean Dice", "95 % interval"]
    shown = f"{table(heads, rows)}\n" if rows else ""
    not_parted = f"Not parted into groups:\n\n{alone}" if alone else ""
    return f"## Subgroups\n\n{_about_groups(found)}{shown}{not_parted}"


def failures(facts: Facts) -> str:
    """Write the worst cases, and how often a structure was missed or invented."""
    labels = facts.summary.labels
    dice = {case.case: mean for case in facts.summary.cases if (mean := case.mean("Dice")) is not None}
    worst = sorted(facts.summary.cases, key=lambda case: (dice.get(case.case, 2.0), case.case))[:WORST]
    columns = dict(list(labels.items())[:_MOST_COLUMNS]) if len(labels) > 1 else {}
    rows = [
        [case.case, _dice(dice[case.case]), *(_dice(case.metrics[label]["Dice"]) for label in columns)]
        for case in worst
        if case.case in dice
    ]
    heads = ["case", "mean Dice", *columns.values()]
    return (
        "## Where it fails\n\nThe cases with the lowest Dice:\n\n"
        f"{table(heads, rows)}\n"
        "Structures that were missed, and false alarms:\n\n"
        f"{table(_ERRORS, [_errors(name, label, facts.summary.cases) for label, name in labels.items()])}"
    )


def trust(facts: Facts) -> str:
    """Write how well probabilities are calibrated, and how well expected Dice ranks."""
    known = facts.card.trust or Trust()
    text = "## How far to trust a mask\n\n"
    if not known.calibration:
        text += "Probabilities are not calibrated: fewer than five validation cases hold a structure.\n\n"
    else:
        text += (
            "Probabilities are calibrated. The error is the mean difference between a probability and the share of "
            "voxels that really belong to the structure, before and after calibration:\n\n"
            f"{score_table(calibration_table(known))}\n"
        )
    if not known.quality:
        return (
            f"{text}No Dice is foretold for new masks: it takes 20 validation cases with the structure to learn it.\n"
        )
    return (
        f"{text}`predict` foretells the Dice of each new mask. How well that works was measured on validation cases "
        "that it was not learned from. A rank correlation of 1 would sort masks perfectly, 0 not at all. The mean "
        "error is worth something where it is below the error of guessing the median:\n\n"
        f"{score_table(quality_table(known))}"
    )


_ERRORS = ["structure", "cases with it", "missed", "cases without it", "false alarms", "which cases"]


def _errors(name: str, label: int, cases: Sequence[CaseScores]) -> list[object]:
    rows: Mapping[str, tuple[bool, bool]] = {
        case.case: (bool(case.metrics[label]["n_ref"]), bool(case.metrics[label]["n_pred"]))
        for case in cases
        if label not in case.unknown
    }
    missed = [case for case, held in rows.items() if held == (True, False)]
    invented = [case for case, held in rows.items() if held == (False, True)]
    holding = sum(reference for reference, _ in rows.values())
    which = ", ".join([*missed, *invented][:WORST]) + (" ..." if len(missed) + len(invented) > WORST else "")
    return [name, holding, len(missed), len(rows) - holding, len(invented), which or NOTHING]


def _who_scored(facts: Facts) -> str:
    """Say which model segmented which case."""
    cases = counted(len(facts.summary.cases), "case")
    if not facts.held_back:
        return f"The {cases} were trained on: these scores say nothing of new scans."
    if isinstance(facts.card, EnsembleCard):
        return (
            f"The {cases} were held back, and each was segmented by the one member that was not trained on it. The "
            "model averages all members, and no case is left to score that."
        )
    return f"The model segmented {cases} that it was not trained on."


def _about_groups(found: Sequence[Grouping]) -> str:
    if not any(one.groups for one in found):
        return ""
    return (
        "A group of fewer than four cases has no interval. A difference between groups may be chance where their "
        "intervals overlap.\n\n"
    )


def _dice(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4f}"


def _plain(note: str) -> str:
    """Escape what comes from files; code between backticks stays."""
    parts = without_folders(note).split("`")
    return "`".join(escaped(part) if k % 2 == 0 else part for k, part in enumerate(parts))
