"""What the report of a run says of when not to trust the masks of its model."""

from __future__ import annotations

from dataclasses import dataclass

from fullscale.bundle.card import CARD, read_card
from fullscale.bundle.trust import Calibration, ReliabilityBin, Trust
from fullscale.reporting.charts import Point, line_chart
from fullscale.runfolder import RunFolder
from fullscale.scoring.tables import Table, name_cell, number_cell

LINES = {"as the network gives them": "c1", "calibrated": "c2", "as they should be": "ink"}
"""Lines of a reliability diagram, and the colour of each."""


@dataclass(frozen=True)
class TrustPart:
    """The part of a report.

    Attributes:
        calibration: a row for each structure.
        quality: the same of expected Dice.
        charts: reliability diagram of each structure, by its name.
        lines: colour of each line in them.
    """

    calibration: Table
    quality: Table
    charts: dict[str, str]
    lines: dict[str, str]


def trust_of(run: RunFolder) -> TrustPart | None:
    """Read what the model of a run knows; None where it knows nothing.

    Raises:
        DataError: its card cannot be read.
    """
    card = run.bundle / CARD
    trust = read_card(card).trust if card.is_file() else None
    if trust is None:
        return None
    charts = {name: _diagram(found) for name, found in trust.calibration.items()}
    return TrustPart(calibration_table(trust), quality_table(trust), charts, LINES)


def calibration_table(trust: Trust) -> Table:
    """Make a row for each structure whose probabilities are calibrated."""
    table = Table(["class", "cases", "temperature", "error before", "error after"])
    for name, c in trust.calibration.items():
        errors = [number_cell(error, ".4f") for error in (c.ece_before, c.ece_after)]
        table.rows.append([name_cell(name), number_cell(c.cases, "d"), number_cell(c.temperature, ".2f"), *errors])
    return table


def quality_table(trust: Trust) -> Table:
    """Make a row for each structure whose Dice is foretold."""
    table = Table(
        ["class", "cases", "rank correlation", "mean error", "error of the median", "in the interval", "review below"]
    )
    for name, q in trust.quality.items():
        e = q.evaluated
        errors = [number_cell(value, ".3f") for value in (e.mean_error, e.spread)]
        ends = [number_cell(e.coverage, ".0%"), number_cell(q.review_below, ".3f")]
        table.rows.append([name_cell(name), number_cell(q.cases, "d"), number_cell(e.spearman, ".2f"), *errors, *ends])
    return table


def _diagram(found: Calibration) -> str:
    before, after, ideal = LINES
    lines = {
        before: [_point(one) for one in found.before],
        after: [_point(one) for one in found.after],
        ideal: [Point(0, 0, ""), Point(1, 1, "")],
    }
    return line_chart(lines, "probability", "share that the truth holds", to_one=True, colours=list(LINES.values()))


def _point(one: ReliabilityBin) -> Point:
    return Point(one.predicted, one.observed, f"{one.predicted:.3f}: {one.observed:.3f} of {one.share:.1%} of voxels")
