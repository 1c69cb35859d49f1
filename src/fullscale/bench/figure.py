"""A picture of the decoder benchmark: milliseconds of each skip in both forms, seconds of the whole network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fullscale.errors import UsageError
from fullscale.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DIRECT, FACTORED = "#9aa3ad", "#7b2fbf"
SUFFIXES = (".png", ".svg", ".pdf")
_STAGES = {"inference": "inference", "inference_compiled": "inference,\ncompiled", "training_step": "training\nstep"}


def write_decoder_figure(path: Path, result: dict[str, Any]) -> None:
    """Draw what `bench_decoder` returned.

    Raises:
        UsageError: the name ends in none of `SUFFIXES`.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    require_figure_name(path)
    figure = Figure(figsize=(10, 4.4), dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    skips = sorted(result["skips"], key=lambda skip: skip["direct_s"])
    names = [f"{s['channels']} channels, {s['low_side']} to {s['low_side'] * s['factor']}" for s in skips]
    _bars(left, names, [1e3 * s["direct_s"] for s in skips], [1e3 * s["factored_s"] for s in skips])
    left.set_xscale("log")
    left.set_xlabel("milliseconds, forward (logarithmic)")
    left.set_title("each up-sampled skip", loc="left")
    rows = {name: result["network"][stage] for stage, name in _STAGES.items() if stage in result["network"]}
    direct, factored = ([row[form]["median_s"] for row in rows.values()] for form in ("direct", "factored"))
    _bars(right, list(rows), direct, factored)
    right.set_xlabel("seconds")
    right.set_title("the whole network", loc="left")
    left.legend(loc="lower right", frameon=False)
    work, machine = result["workload"], result["environment"]
    figure.suptitle(
        f"UNet 3+ of width {work['width']} on a batch of {work['batch']}, {work['spatial_dims']}D, "
        f"{work['size']} a side; "
        f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}",
        fontsize="medium",
    )
    with atomic_path(path) as part, rc_context({"svg.fonttype": "none"}):
        figure.savefig(part, format=path.suffix[1:])


def require_figure_name(path: Path) -> None:
    """Refuse a name that is no picture's.

    Raises:
        UsageError: it ends in none of `SUFFIXES`.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path} is not a picture's name: expected one that ends in {', '.join(SUFFIXES)}")


def _bars(axes: Axes, names: Sequence[str], direct: Sequence[float], factored: Sequence[float]) -> None:
    places = range(len(names))
    axes.barh([place + 0.2 for place in places], direct, height=0.38, color=DIRECT, label="direct")
    bars = axes.barh([place - 0.2 for place in places], factored, height=0.38, color=FACTORED, label="factored")
    axes.bar_label(bars, [f"{a / b:.1f}x" for a, b in zip(direct, factored, strict=True)], padding=3, fontsize="small")
    axes.set_yticks(list(places), names)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
