"""Pictures: masks over their scan as a radiologist sees it, and the curves of a training run. Home of matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fullscale.errors import UsageError
from fullscale.evaluation.surface import surface_voxels
from fullscale.files import atomic_path
from fullscale.geometry.transform import reorient
from fullscale.geometry.volume import Affine, Volume, require_same_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXIAL, CORONAL, SAGITTAL = 2, 1, 0
"""The axis of an `LPS` array along which each view looks."""

TRUE_POSITIVE, FALSE_NEGATIVE, FALSE_POSITIVE, WRONG_CLASS = "#b14cf2", "#ffd60a", "#21c45a", "#ff7a1a"
"""As in Figure 4 of the paper: purple, yellow, green; orange where an organ was taken for another."""

LABEL_COLOURS = (
    *("#e8554d", "#3fa7f5", "#4fc46a", "#f2c230", "#b57be8", "#2ec4c6", "#f58fbf", "#f28c38", "#9fd356", "#8c9eff"),
)
"""For labels in rising order, from the start again where there are more."""

Kinds = npt.NDArray[np.uint16]
"""What is painted on each voxel: 0 nothing, k the k-th colour."""

_BACKGROUND, _INK = "#101214", "#e8eaed"
_FILL, _OUTLINE = 0.42, 0.95
_PERCENTILES = (0.5, 99.5)
_AIR_HU, _SOFT_TISSUE_HU = -500, (-160.0, 240.0)
_TAIL = 0.01
_MOST_NAMED = 12
_TILE_INCHES, _DPI = 3.0, 130


@dataclass(frozen=True)
class _Scene:
    """Scan and painting, `[X, Y, Z]` toward left, posterior and superior, with what places them."""

    scan: npt.NDArray[Any]
    kinds: Kinds
    colours: list[str]
    names: list[str]
    spacing_mm: tuple[float, ...]
    affine: Affine
    limits: tuple[float, float]
    axial: list[int]

    def extent_mm(self, view: int) -> tuple[float, float]:
        """Width and height of a slice."""
        across, down = (axis for axis in range(3) if axis != view)
        return self.scan.shape[across] * self.spacing_mm[across], self.scan.shape[down] * self.spacing_mm[down]


def overlay_figure(
    scan: Volume,
    mask: Volume,
    truth: Volume | None = None,
    window: tuple[float, float] | None = None,
    names: Mapping[int, str] | None = None,
    slices: int = 6,
    title: str | None = None,
) -> Figure:
    """Draw a mask over its scan: axial slices across the organs from head to foot, one coronal and one sagittal.

    Whatever orientation is stored, patient right is on the left of the image and anterior (coronal and sagittal:
    superior) at the top; pixels have their true proportions. Letters name the directions, numbers the position of the
    slice in mm from the scanner's origin. With the truth: true positives purple, false negatives yellow, false
    positives green. Without: a colour for each label.

    Args:
        scan: voxels `[X, Y, Z]`.
        mask: label map on the same grid.
        truth: the true label map on the same grid.
        window: grey values shown black and white, HU for CT. By default percentiles 0.5 and 99.5 of the slices drawn,
            or from -160 to 240 where the former is below -500, as only air in HU is. The picture names it.
        names: name of each label, for the legend.
        slices: how many axial ones at most.
        title: over the picture.

    Raises:
        GeometryError: the grids differ.
        UsageError: the window is empty, or fewer than one slice is wanted.
    """
    if window is not None and not window[0] < window[1]:
        raise UsageError(
            f"the window from {window[0]:g} to {window[1]:g} is empty, expected a lower and a higher value"
        )
    if slices < 1:
        raise UsageError(f"{slices} slices are wanted, expected at least 1")
    return _draw(_scene(scan, mask, truth, window, names or {}, slices), title)


def write_overlay(
    path: str | Path,
    scan: Volume,
    mask: Volume,
    truth: Volume | None = None,
    window: tuple[float, float] | None = None,
    names: Mapping[int, str] | None = None,
    slices: int = 6,
    title: str | None = None,
) -> None:
    """Write `overlay_figure` as PNG, whole or not at all.

    Raises:
        GeometryError: the grids differ.
        UsageError: the window is empty, or fewer than one slice is wanted.
        FullscaleError: the file cannot be written.
    """
    _save(overlay_figure(scan, mask, truth, window, names, slices, title), Path(path))


def progress_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the curves of a training run: loss on the left, validation Dice on the right.

    Args:
        rows: one an epoch, with `epoch` and any of `train_loss`, other `train_*loss`, `val_dice_mean`,
            `val_dice_CLASS`, `learning_rate`, `elapsed_s`; numbers or their texts, gaps allowed.
    """
    figure = _new_figure((11, 4.4), "white")
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
    _save(progress_figure(rows), Path(path))


def _new_figure(size: tuple[float, float], colour: str) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=_DPI, facecolor=colour, layout="constrained" if colour == "white" else None)
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", facecolor=figure.get_facecolor())


def _scene(
    scan: Volume,
    mask: Volume,
    truth: Volume | None,
    window: tuple[float, float] | None,
    names: Mapping[int, str],
    slices: int,
) -> _Scene:
    require_same_grid(scan, mask, "scan and mask")
    if truth is not None:
        require_same_grid(scan, truth, "scan and truth")
    volume, labels = reorient(scan, "LPS"), reorient(mask, "LPS").array
    if truth is None:
        kinds, colours, legend = _label_kinds(labels, names)
    else:
        kinds, colours, legend = _agreement_kinds(labels, reorient(truth, "LPS").array)
    axial = _axial_positions(kinds != 0, slices)
    return _Scene(
        scan=volume.array,
        kinds=kinds,
        colours=colours,
        names=legend,
        spacing_mm=tuple(round(step, 6) for step in volume.spacing_mm),
        affine=volume.affine,
        limits=window or _intensity_limits(volume.array[:, :, axial]),
        axial=axial,
    )


def _label_kinds(labels: npt.NDArray[Any], names: Mapping[int, str]) -> tuple[Kinds, list[str], list[str]]:
    """Number the labels that occur from 1; give the colour and the name of each."""
    inside = labels != 0
    values = np.unique(labels[inside])
    kinds = np.zeros(labels.shape, np.uint16)
    kinds[inside] = np.searchsorted(values, labels[inside]) + 1
    colours = [colour for colour, _ in zip(cycle(LABEL_COLOURS), values, strict=False)]
    return kinds, colours, [names.get(int(value), f"label {value}") for value in values]


def _agreement_kinds(labels: npt.NDArray[Any], truth: npt.NDArray[Any]) -> tuple[Kinds, list[str], list[str]]:
    """Number true positives 1, false negatives 2, false positives 3 and organs of another class 4."""
    found, real = labels != 0, truth != 0
    kinds = np.zeros(labels.shape, np.uint16)
    kinds[found & real] = 1
    kinds[real & ~found] = 2
    kinds[found & ~real] = 3
    wrong = found & real & (labels != truth)
    kinds[wrong] = 4
    colours = [TRUE_POSITIVE, FALSE_NEGATIVE, FALSE_POSITIVE, WRONG_CLASS]
    legend = ["true positive", "false negative (missed)", "false positive (invented)", "one organ taken for another"]
    shown = 4 if wrong.any() else 3
    return kinds, colours[:shown], legend[:shown]


def _intensity_limits(array: npt.NDArray[Any]) -> tuple[float, float]:
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(finite, _PERCENTILES))
    if low < _AIR_HU:
        return _SOFT_TISSUE_HU
    return (low, high) if low < high else (low, low + 1.0)


def _axial_positions(painted: npt.NDArray[np.bool_], slices: int) -> list[int]:
    """Choose slices evenly across what is painted, or across the scan where nothing is, from head to foot.

    The outermost hundredth of the paint is left out, so that a stray voxel does not pull the slices apart.
    """
    area = painted.sum(axis=(0, 1)).astype(float)
    share = np.cumsum(area if area.any() else area + 1)
    share /= share[-1]
    first, last = int(np.argmax(share > _TAIL)), int(np.argmax(share >= 1 - _TAIL))
    count = min(slices, last - first + 1)
    return [int(first + (k + 0.5) * (last - first + 1) / count) for k in reversed(range(count))]


def _fullest(scene: _Scene, view: int) -> int:
    """The slice of a view with the most paint, the middle one where there is none."""
    others = tuple(axis for axis in range(3) if axis != view)
    area = (scene.kinds != 0).sum(axis=others)
    return int(area.argmax()) if area.any() else len(area) // 2


def _draw(scene: _Scene, title: str | None) -> Figure:
    rows = max(2, math.isqrt(len(scene.axial) * 2 // 3))
    columns = math.ceil(len(scene.axial) / rows)
    width, height = scene.extent_mm(AXIAL)
    in_a_row = int(10 * _TILE_INCHES * (columns + 1) / (6 + max(map(len, [*scene.names, ""]))))
    top, bottom = (0.42 if title else 0.08), 0.22 + 0.2 * math.ceil(min(len(scene.names), _MOST_NAMED) / in_a_row)
    size = ((columns + 1) * _TILE_INCHES, rows * _TILE_INCHES * min(1.6, max(0.6, height / width)) + top + bottom)
    figure = _new_figure(size, _BACKGROUND)
    borders = {"left": 0.004, "right": 0.996, "bottom": bottom / size[1], "top": 1 - top / size[1]}
    grid = figure.add_gridspec(rows, columns + 1, wspace=0.02, hspace=0.02, **borders)
    for tile, position in enumerate(scene.axial):
        _draw_slice(figure.add_subplot(grid[tile // columns, tile % columns]), scene, AXIAL, position)
    for view, cell in ((CORONAL, grid[: rows // 2, columns]), (SAGITTAL, grid[rows // 2 :, columns])):
        _draw_slice(figure.add_subplot(cell), scene, view, _fullest(scene, view))
    _legend(figure, scene, in_a_row)
    if title:
        figure.text(0.5, 1 - 0.5 * top / size[1], title, color=_INK, ha="center", va="center", fontsize=12)
    return figure


def _draw_slice(axes: Axes, scene: _Scene, view: int, position: int) -> None:
    """Draw one slice; ticks at the edge of the coronal and the sagittal one show where the axial ones are."""
    grey, kinds = (_upright(array, view, position) for array in (scene.scan, scene.kinds))
    width, height = scene.extent_mm(view)
    extent = (0.0, width, height, 0.0)
    low, high = scene.limits
    axes.imshow(grey, cmap="gray", vmin=low, vmax=high, extent=extent, interpolation="bilinear")
    axes.imshow(_paint(kinds, scene.colours), extent=extent)
    for mark in () if view == AXIAL else scene.axial:
        level = height - (mark + 0.5) * scene.spacing_mm[AXIAL]
        axes.plot((0.965 * width, width), (level, level), color=_INK, linewidth=0.8)
    axes.set(xlim=(0, width), ylim=(height, 0), anchor="C")
    axes.set_axis_off()
    _letters(axes, view)
    _annotate(axes, 0.02, 0.98, _place(scene, view, position), ha="left", va="top")
    _scale_bar(axes, width, height)


def _upright(array: npt.NDArray[Any], view: int, position: int) -> npt.NDArray[Any]:
    """Cut a slice of an `LPS` array as an image `[row, column]` with anterior or superior at the top."""
    image: npt.NDArray[Any] = np.moveaxis(array, view, 0)[position].T
    return image if view == AXIAL else image[::-1]


def _paint(kinds: Kinds, colours: Sequence[str]) -> npt.NDArray[np.float64]:
    """Colour an image `[row, column]` of kinds as RGBA: translucent inside, nearly opaque at the outline."""
    from matplotlib.colors import to_rgb

    rgba = np.zeros((*kinds.shape, 4))
    for kind, colour in enumerate(colours, 1):
        inside = kinds == kind
        rgba[inside] = (*to_rgb(colour), _FILL)
        rgba[surface_voxels(inside), 3] = _OUTLINE
    return rgba


def _letters(axes: Axes, view: int) -> None:
    left, right = ("A", "P") if view == SAGITTAL else ("R", "L")
    top, bottom = ("A", "P") if view == AXIAL else ("S", "I")
    _annotate(axes, 0.015, 0.5, left, ha="left", va="center")
    _annotate(axes, 0.985, 0.5, right, ha="right", va="center")
    _annotate(axes, 0.5, 0.985, top, ha="center", va="top")
    _annotate(axes, 0.5, 0.015, bottom, ha="center", va="bottom")


def _annotate(axes: Axes, x: float, y: float, text: str, ha: str, va: str) -> None:
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=2, foreground="black")]
    axes.text(x, y, text, transform=axes.transAxes, color=_INK, fontsize=8, ha=ha, va=va, path_effects=outline)


def _place(scene: _Scene, view: int, position: int) -> str:
    """Where the middle of a slice lies on the axis it is cut along, such as `S 112.5 mm`."""
    index = (np.array([*scene.scan.shape, 3]) - 1) / 2
    index[view] = position
    at = round(float((scene.affine @ index)[view]), 1)
    return f"{('LR', 'PA', 'IS')[view][at >= 0]} {abs(at):.1f} mm"


def _scale_bar(axes: Axes, width: float, height: float) -> None:
    lengths = [factor * 10.0**power for power in range(-4, 5) for factor in (1, 2, 5)]
    length = max(step for step in lengths if step <= max(0.3 * width, lengths[0]))
    right, level = 0.95 * width, 0.955 * height
    axes.plot((right - length, right), (level, level), color=_INK, linewidth=2, solid_capstyle="butt")
    _annotate(axes, (right - length / 2) / width, 0.06, f"{length:g} mm", ha="center", va="bottom")


def _legend(figure: Figure, scene: _Scene, in_a_row: int) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=colour, label=name) for colour, name in zip(scene.colours, scene.names, strict=True)]
    if len(handles) > _MOST_NAMED:
        rest = Patch(color="none", label=f"and {len(handles) - _MOST_NAMED + 1} more")
        handles = [*handles[: _MOST_NAMED - 1], rest]
    if not handles:
        handles = [Patch(color="none", label="the mask is empty")]
    style = {"frameon": False, "labelcolor": _INK, "fontsize": 9, "columnspacing": 1.2, "handlelength": 1.2}
    figure.legend(handles=handles, loc="lower left", ncols=min(len(handles), in_a_row), **style)
    grey = "grey from {:.4g} to {:.4g}".format(*scene.limits)
    figure.text(0.992, 0.14 / figure.get_figheight(), grey, color=_INK, ha="right", fontsize=9)


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
    if 1 < len(columns) <= _MOST_NAMED:
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
    best = int(np.nanargmax(means))
    return f"Validation Dice (best mean {means[best]:.3f} at epoch {_numbers(rows, 'epoch')[best]:g})"
