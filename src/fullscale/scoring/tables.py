"""Tables of scores, built once: the screen, the report and a comparison show the same cells."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fullscale.geometry.units import LENGTH, SIZE, Unit
from fullscale.scoring.summary import Summary
from fullscale.text import counted

_APART = 3
NOTHING = "-"
"""Stands where there is no number."""


class Column(NamedTuple):
    """How a metric is headed and written; head and form leave room for the units of lengths and sizes."""

    head: str
    form: str


METRICS = {
    "Dice": Column("Dice", ".4f"),
    "IoU": Column("IoU", ".4f"),
    "Precision": Column("precision", ".3f"),
    "Recall": Column("recall", ".3f"),
    "NSD": Column("NSD", ".3f"),
    "HD95": Column("HD95 {length}", ".2f"),
    "ASSD": Column("ASSD {length}", ".2f"),
    "volume_ml": Column("{size}", ".{decimals}f"),
    "reference_volume_ml": Column("true {size}", ".{decimals}f"),
    "absolute_volume_error_ml": Column("error {size}", ".{decimals}f"),
}
"""Every metric that a table may show."""

VOLUMES = ("volume_ml", "reference_volume_ml", "absolute_volume_error_ml")
SCORES = tuple(name for name in METRICS if name not in VOLUMES)
BRIEF = ("Dice", "NSD", "HD95", "ASSD", "volume_ml", "reference_volume_ml")
"""The metrics that fit beside each other everywhere."""


def head_of(metric: str, unit: Unit) -> str:
    """Name a column, with what it is counted in."""
    return METRICS[metric].head.format(length=LENGTH[unit], size=SIZE[unit])


def form_of(metric: str, unit: Unit) -> str:
    """Say how the numbers of a column are written: pixels are whole."""
    return METRICS[metric].form.format(decimals=1 if unit == "mm" else 0)


class Cell(NamedTuple):
    """What stands in a table.

    Attributes:
        text: as it is shown.
        value: what it is sorted by.
        interval: 95 % interval of the number, as it is shown; empty where there is none.
    """

    text: str
    value: float | str
    interval: str = ""


@dataclass(frozen=True)
class Table:
    """Heads and rows; the first column names the row."""

    heads: list[str]
    rows: list[list[Cell]] = field(default_factory=list)


def name_cell(text: str) -> Cell:
    """Make a cell of a name."""
    return Cell(text, text)


def number_cell(value: float | None, form: str, interval: Sequence[float] | None = None) -> Cell:
    """Make a cell of a number, with its interval where there is one; None sorts below every number."""
    if value is None:
        return Cell(NOTHING, -1)
    between = "" if interval is None else f"{interval[0]:{form}} to {interval[1]:{form}}"
    return Cell(format(value, form), value, between)


def metric_cell(scores: Mapping[str, Any], metric: str, unit: Unit, intervals: Mapping[str, Any] | None = None) -> Cell:
    """Make the cell of one metric of `scores`, written as the metric is."""
    return number_cell(scores[metric], form_of(metric, unit), (intervals or {}).get(metric))


def case_table(summary: Summary) -> Table:
    """Make a row for each case and class: what a scan looks like in numbers."""
    table = Table(["case", "class", *(head_of(metric, summary.unit) for metric in BRIEF), "empty slices hit"])
    for case in summary.cases:
        for label, scores in case.metrics.items():
            cells = [metric_cell(scores, metric, summary.unit) for metric in BRIEF]
            hit = number_cell(scores["false_positive_slices"], "d")
            table.rows.append([name_cell(case.case), name_cell(summary.labels[label]), *cells, hit])
    return table


def mean_table(
    content: Mapping[str, Any], metrics: Sequence[str] = BRIEF, with_interval: Collection[str] = SCORES
) -> Table:
    """Make a row of means for each class, and one for all of them.

    Args:
        content: of a summary, as in summary.json.
        metrics: keys of `METRICS`.
        with_interval: those whose interval is shown.
    """
    table = Table(["class", "cases", *(head_of(metric, content["unit"]) for metric in metrics)])
    rows = [(content["labels"][k], scores, content["interval"][k]) for k, scores in content["mean"].items()]
    if len(rows) > 1:
        rows.append(("mean of the classes", content["foreground_mean"], content["foreground_interval"]))
    for name, scores, intervals in rows:
        shown = {metric: interval for metric, interval in intervals.items() if metric in with_interval}
        cells = [metric_cell(scores, metric, content["unit"], shown) for metric in metrics]
        table.rows.append([name_cell(name), number_cell(scores["cases"], "d"), *cells])
    return table


def about_intervals(content: Mapping[str, Any]) -> str:
    """Say what the intervals of the means are, or why there are none.

    Args:
        content: of a summary, as in summary.json.
    """
    from fullscale.scoring.statistics import FEWEST_CASES  # which loads scipy

    if any(interval for found in content["interval"].values() for interval in found.values()):
        return f"95 % intervals of the means are bootstrapped over cases; fewer than {FEWEST_CASES} cases give none."
    return f"No intervals: fewer than {FEWEST_CASES} cases do not show how cases differ."


class NotScored(NamedTuple):
    """Cases that were not scored for one reason.

    Attributes:
        line: that says it, of all of them.
        each: a line for each.
    """

    line: str
    each: list[str]


def not_scored(failures: Sequence[Mapping[str, str]]) -> list[NotScored]:
    """Put together what is said of more than three cases alike: many scans without a mask are one line.

    Args:
        failures: of a summary, as in summary.json.
    """
    alike: dict[str, list[Mapping[str, str]]] = {}
    for failure in failures:
        _, named, reason = failure["message"].partition(": ")  # a message begins with its file
        alike.setdefault(reason if named else failure["message"], []).append(failure)
    found = []
    for reason, group in alike.items():
        each = [f"{failure['case']}: {failure['message']}" for failure in group]
        if len(group) > _APART:
            names = ", ".join(failure["case"] for failure in group[:_APART])
            found.append(NotScored(f"{len(group)} cases, such as {names}: {reason}", each))
        else:
            found += [NotScored(line, [line]) for line in each]
    return found


def left_out(content: Mapping[str, Any]) -> list[str]:
    """Say what the scores do not count because the truth says nothing of it, a line each.

    Args:
        content: of a summary, as in summary.json.
    """
    lines = []
    for label, mean in content["mean"].items():
        if mean["unknown_cases"]:
            all_cases = len(content["metric_per_case"])
            lines.append(
                f"{content['labels'][label]} was not labelled in {mean['unknown_cases']} of {all_cases} cases, which "
                "are not scored for it"
            )
    ignored = [case["ignored_voxels"] for case in content["metric_per_case"] if case["ignored_voxels"]]
    if ignored:
        voxels, cases = counted(sum(ignored), "voxel"), counted(len(ignored), "case")
        lines.append(f"{voxels} ignored in {cases}: no score counts them")
    return lines


def paired_table(paired: Mapping[str, Any], names: Mapping[int, str]) -> Table:
    """Make a row for each class of a paired evaluation, and one for all of them.

    Args:
        paired: a `PairedEvaluation`, as in summary.json.
        names: of the labels.
    """
    heads = ["class", "cases", "Dice here", "there", "difference", "p", "effect size", "detectable", "verdict"]
    table = Table(heads)
    rows = [(names[int(label)], found) for label, found in paired["classes"].items()]
    if len(rows) > 1 and paired["mean"]:
        rows.append(("mean of the classes", paired["mean"]))
    for name, found in rows:
        p_value = found["p_value"] if found["adjusted_p"] is None else found["adjusted_p"]
        table.rows.append(
            [
                name_cell(name),
                number_cell(found["cases"], "d"),
                number_cell(found["mean"], ".4f"),
                number_cell(found["other_mean"], ".4f"),
                number_cell(found["difference"], "+.4f", found["interval"]),
                number_cell(p_value, ".2g"),
                number_cell(found["effect_size"], "+.2f"),
                number_cell(found["smallest_difference"], ".4f"),
                name_cell(found["verdict"]),
            ]
        )
    return table
