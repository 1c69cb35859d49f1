"""The curves of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fullscale.reporting.figures import LABEL_COLOURS, MOST_NAMED, new_figure, save_figure
from fullscale.scoring.statistics import steady_scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def progress_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the curves of a training run: loss on the left, validation Dice on the right.

    Args:
        rows: one an epoch, with `epoch` and any of `train_loss`, other `train_*loss`, `val_dice_mean`,
            `val_dice_CLASS`, `learning_rate`, `elapsed_s`; numbers or their texts, gaps allowed.
    """
    figure = new_figure((11, 4.4), "white")
    left, right = figure.subplots(1, 2)
    keys = list(dict.fromkeys(key for row in rows for key in row))
    losses = [key for key in keys if key.startswith("train_") and key.endswith("loss")]
    _curves(left, rows, {key.removeprefix("train_"): key for key in losses}, "loss", "upper right")
    left.set(title="Training loss", xlabel="epoch")
    dice = {key.removeprefix("val_dice_"): key for key in keys if key.startswith("val_dice_")}
    _curves(right, rows, dice, "mean", "lower right")
    right.set(title=_best(rows), xlabel="epoch", ylim=(0, 1.02))
    _learning_rate(left, rows)
    spent = _numbers(rows, "elapsed_s")
    if len(spent) and np.isfinite(spent[-1]):
        figure.text(0.99, 0.012, f"{spent[-1] / 60:.1f} min", ha="right", color="#666", fontsize=8)
    return figure


def write_progress(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write `progress_figure` as PNG, whole or not at all.

    Raises:
        FullscaleError: the file cannot be written.
    """
    save_figure(progress_figure(rows), Path(path))


def _numbers(rows: Sequence[Mapping[str, Any]], key: str) -> npt.NDArray[np.float64]:
    """Read one column; gaps are NaN."""
    return np.array([np.nan if row.get(key) in (None, "") else float(row[key]) for row in rows], dtype=np.float64)


def _curves(axes: Axes, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], first: str, place: str) -> None:
    """Draw columns over the epochs, the first one in black and thicker, and a legend at a place."""
    from matplotlib.ticker import MaxNLocator

    colours = cycle(LABEL_COLOURS)
    for name, key in columns.items():
        colour, width = ("black", 2.0) if name == first else (next(colours), 1.2)
        marker = "o" if len(rows) < 12 else None
        line = axes.plot(
            _numbers(rows, "epoch"), _numbers(rows, key), color=colour, linewidth=width, marker=marker, ms=3.5
        )
        line[0].set(label=name.replace("_", " "), zorder=3 if name == first else 2)
    axes.grid(color="#e3e5e8", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if 1 < len(columns) <= MOST_NAMED:
        axes.legend(frameon=False, fontsize=9, loc=place)


def _learning_rate(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    rates = _numbers(rows, "learning_rate")
    if np.isfinite(rates).any():
        twin = axes.twinx()
        twin.plot(_numbers(rows, "epoch"), rates, color="#9aa0a6", linewidth=1, linestyle=":")
        twin.set_ylabel("learning rate (dotted)", color="#80868b", fontsize=9)
        twin.tick_params(colors="#80868b", labelsize=8)
        twin.set_ylim(bottom=0)
        twin.spines[["top"]].set_visible(False)


def _best(rows: Sequence[Mapping[str, Any]]) -> str:
    means = _numbers(rows, "val_dice_mean")
    if not np.isfinite(means).any():
        return "Validation Dice"
    validated = np.flatnonzero(np.isfinite(means))
    best = validated[int(np.argmax(steady_scores(means[validated].tolist())))]
    return f"Validation Dice (mean {means[best]:.3f} at epoch {_numbers(rows, 'epoch')[best]:g}, which is kept)"
