"""A picture of a comparison: Dice of every case in every row, and accuracy against cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fullscale.compare.results import Line, Results
from fullscale.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REFERENCE, OTHER, INK = "#7b2fbf", "#5f6b76", "#1d2329"


def write_figure(results: Results, path: Path) -> None:
    """Draw the rows that have scores, as PNG.

    Raises:
        FullscaleError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    lines = [line for line in results.lines if line.by_case]
    height = 1.6 + 0.5 * len(lines)
    figure = Figure(figsize=(11.5, max(4.2, height)), dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _cases(left, lines, results.reference)
    _costs(right, lines, results)
    figure.suptitle(f"{results.dataset}: {results.budget}, folds: {results.folds}", fontsize="medium")
    with atomic_path(path) as part:
        figure.savefig(part, format="png")


def _cases(axes: Axes, lines: list[Line], reference: str) -> None:
    for place, line in enumerate(lines):
        dice = np.array(list(line.by_case.values()))
        spread = np.random.default_rng(0).uniform(-0.22, 0.22, len(dice))
        axes.scatter(dice, place + spread, s=9, alpha=0.4, linewidths=0, color=_colour(line, reference))
        score = line.dice["mean"]
        if score.mean is not None and score.interval is not None:
            axes.plot(score.interval, (place, place), color=INK, linewidth=2.4, solid_capstyle="butt")
            axes.plot(score.mean, place, "|", color=INK, markersize=13, markeredgewidth=2)
    axes.set_yticks(range(len(lines)), [f"{line.name}  {number}" for number, line in enumerate(lines, 1)])
    axes.invert_yaxis()
    axes.set_xlabel("Dice of a case (a dot); mean and its 95 % interval over cases (bar)")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _costs(axes: Axes, lines: list[Line], results: Results) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    places = _beside([line.macs / 1e9 for line in lines])
    for number, (line, place) in enumerate(zip(lines, places, strict=True), 1):
        score = line.dice["mean"]
        assert score.mean is not None
        low, high = score.interval or (score.mean, score.mean)
        colour = _colour(line, results.reference)
        axes.errorbar(place, score.mean, [[score.mean - low], [high - score.mean]], fmt="o", color=colour, capsize=2)
        axes.annotate(
            str(number), (place, high), (0, 4), textcoords="offset points", ha="center", fontsize="small", color=INK
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.25)
    axes.set_xlabel(f"GMAC of a crop of {results.crops} (log scale),\nequal ones side by side")
    axes.set_ylabel("mean Dice")
    axes.grid(alpha=0.25, which="major")
    axes.spines[["top", "right"]].set_visible(False)


def _beside(costs: list[float]) -> list[float]:
    """Put rows of one cost a little beside each other, or one would hide the other."""
    groups = [[k for k, other in enumerate(costs) if abs(other / cost - 1) < 0.02] for cost in costs]
    return [
        cost * 1.08 ** (group.index(k) - (len(group) - 1) / 2)
        for k, (cost, group) in enumerate(zip(costs, groups, strict=True))
    ]


def _colour(line: Line, reference: str) -> str:
    return REFERENCE if line.name == reference else OTHER
