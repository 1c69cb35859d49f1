"""A picture of the decoder benchmark: milliseconds of each skip in both forms, seconds of the whole network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fullscale.reporting.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DIRECT, FACTORED, GRID = "#8a939c", "#7b2fbf", "#c9cfd6"
_STAGES = {"inference": "inference", "inference_compiled": "inference,\ncompiled", "training_step": "training\nstep"}


def decoder_figure(result: dict[str, Any]) -> Figure:
    """Draw what `bench_decoder` returned."""
    figure = new_figure((10.5, 4.4), "white")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    skips = sorted(result["skips"], key=lambda skip: skip["direct_s"])
    names = [f"{s['channels']} channels, {s['low_side']} to {s['low_side'] * s['factor']}" for s in skips]
    _points(left, names, [1e3 * s["direct_s"] for s in skips], [1e3 * s["factored_s"] for s in skips])
    left.set_xlabel("milliseconds, forward (logarithmic)")
    left.set_title("each up-sampled skip", loc="left")
    rows = {name: result["network"][stage] for stage, name in _STAGES.items() if stage in result["network"]}
    direct, factored = ([row[form]["median_s"] for row in rows.values()] for form in ("direct", "factored"))
    _bars(right, list(rows), direct, factored)
    right.set_xlabel("seconds")
    right.set_title("the whole network", loc="left")
    right.legend(loc="lower right", frameon=False)
    work, machine = result["workload"], result["environment"]
    figure.suptitle(
        f"UNet 3+ of width {work['width']} on a batch of {work['batch']}, {work['spatial_dims']}D, "
        f"{work['size']} a side; "
        f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}",
        fontsize="medium",
    )
    return figure


def _points(axes: Axes, names: Sequence[str], direct: Sequence[float], factored: Sequence[float]) -> None:
    """Draw both forms as points on a logarithmic axis, which has no zero that a bar could start at."""
    places = range(len(names))
    axes.hlines(places, factored, direct, color=GRID, linewidth=3, zorder=1)
    axes.scatter(direct, places, s=46, color=DIRECT, marker="s", label="direct", zorder=2)
    axes.scatter(factored, places, s=46, color=FACTORED, label="factored", zorder=2)
    for place, slow, quick in zip(places, direct, factored, strict=True):
        axes.annotate(
            f"{slow / quick:.1f}x",
            (max(slow, quick), place),
            (8, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
        )
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", alpha=0.3)
    axes.margins(x=0.15)
    _name_rows(axes, names)


def _bars(axes: Axes, names: Sequence[str], direct: Sequence[float], factored: Sequence[float]) -> None:
    places = range(len(names))
    axes.barh([place + 0.2 for place in places], direct, height=0.38, color=DIRECT, label="direct")
    bars = axes.barh([place - 0.2 for place in places], factored, height=0.38, color=FACTORED, label="factored")
    axes.bar_label(bars, [f"{a / b:.1f}x" for a, b in zip(direct, factored, strict=True)], padding=3, fontsize="small")
    axes.margins(x=0.12)
    _name_rows(axes, names)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.spines[["top", "right"]].set_visible(False)
