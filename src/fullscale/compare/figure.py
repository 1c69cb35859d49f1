"""A picture of a comparison: Dice of every case in every row, and accuracy against cost."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from fullscale.compare.results import Line, Results
from fullscale.reporting.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REFERENCE, OTHER, INK, RULE = "#7b2fbf", "#5f6b76", "#1d2329", "#b9c0c7"
_APART, _LABEL_HEIGHT = 0.02, 0.045
"""Costs that differ by a smaller share have their numbers in one column; height of a number, of the axes'."""


def comparison_figure(results: Results) -> Figure:
    """Draw the rows that have scores."""
    lines = [line for line in results.lines if line.by_case]
    figure = new_figure((11.5, max(4.2, 1.6 + 0.5 * len(lines))), "white")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _cases(left, lines, results.reference)
    _costs(right, lines, results)
    figure.suptitle(f"{results.dataset}: {results.budget}, folds: {results.folds}", fontsize="medium")
    return figure


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
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xlabel("Dice of a case (a dot); mean and its 95 % interval over cases (bar)")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _costs(axes: Axes, lines: list[Line], results: Results) -> None:
    """Draw each row at its own cost; the numbers beside the points are set apart where points lie close."""
    from matplotlib.ticker import LogLocator, NullFormatter

    costs = [line.macs / 1e9 for line in lines]
    means = [line.dice["mean"].mean or 0.0 for line in lines]
    span = (max(means) - min(means)) or 0.01
    heights = _label_heights(costs, means, _LABEL_HEIGHT * 1.24 * span)
    axes.set_ylim(min(means) - 0.12 * span, max(heights) + 0.12 * span)
    for number, (line, cost, mean, height) in enumerate(zip(lines, costs, means, heights, strict=True), 1):
        axes.plot(cost, mean, "o", color=_colour(line, results.reference), markersize=6, zorder=3)
        axes.annotate(
            str(number),
            (cost, mean),
            (cost * 1.1, height),
            va="center",
            fontsize="small",
            color=INK,
            arrowprops={"arrowstyle": "-", "color": RULE, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 3},
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.25)
    axes.set_xlabel(f"GMAC of a crop of {results.crops} (logarithmic)")
    axes.set_ylabel("mean Dice of a row, by its number")
    axes.grid(alpha=0.25, which="major")
    axes.spines[["top", "right"]].set_visible(False)


def _label_heights(costs: Sequence[float], means: Sequence[float], apart: float) -> list[float]:
    """Spread the numbers of rows of about one cost, so that none lies on another."""
    heights = list(means)
    left = sorted(range(len(costs)), key=lambda k: costs[k])
    while left:
        group = sorted((k for k in left if costs[k] <= costs[left[0]] * (1 + _APART)), key=lambda k: means[k])
        for lower, upper in pairwise(group):
            heights[upper] = max(heights[upper], heights[lower] + apart)
        left = [k for k in left if k not in group]
    return heights


def _colour(line: Line, reference: str) -> str:
    return REFERENCE if line.name == reference else OTHER
