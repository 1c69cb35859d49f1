"""Pictures of masks over their scan, as a radiologist sees it: a contact sheet, or one slice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fullscale.geometry.units import LENGTH
from fullscale.geometry.volume import Volume
from fullscale.reporting.figures import BACKGROUND, INK, MOST_NAMED, new_figure
from fullscale.reporting.scene import AXIAL, CORONAL, SAGITTAL, Kinds, RenderOptions, Scene, build_scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patheffects import AbstractPathEffect

_FILL = 0.35
_LINE, _FINE_LINE = 1.0, 0.5
"""Widths of outlines in points: of a scan, and of an image, whose structures may be a few pixels wide."""
TILE_INCHES = 3.0
_HATCH, _HATCH_OPACITY = "////", 0.4


def overlay_figure(
    scan: Volume | Sequence[Volume],
    mask: Volume,
    truth: Volume | None = None,
    options: RenderOptions | None = None,
    slices: int = 6,
    title: str | None = None,
    ignored: Volume | None = None,
) -> Figure:
    """Draw a mask over its scan: axial slices across the structures from head to foot, one coronal and one sagittal.

    Whatever orientation is stored, patient right is on the left of the image and anterior (coronal and sagittal:
    superior) at the top; pixels have their true proportions. Letters name the directions, numbers the position of the
    slice in mm from the scanner's origin. The air around the body is cut off. With the truth: true positives purple,
    false negatives yellow, false positives green, and where the truth has several structures, an outline of each.
    Without: a colour for each label. Structures that overlap are outlines, those of the truth dashed. An image alone is
    drawn twice: as it is, and under its mask.

    Args:
        scan: voxels `[X, Y, Z]`; or three of them, shown as red, green and blue.
        mask: label map on the same grid.
        truth: the true label map on the same grid.
        options: window, names, colours.
        slices: how many axial ones at most.
        title: over the picture.
        ignored: voxels of which nothing is known, not 0, on the same grid; they are hatched.

    Raises:
        GeometryError: the grids differ.
        UsageError: fewer than one slice is wanted.
    """
    scene = build_scene(scan, mask, truth, options or RenderOptions(), slices, ignored)
    return _draw_image(scene, title) if scene.is_image else _draw(scene, title)


def slice_figure(
    scan: Volume | Sequence[Volume],
    mask: Volume,
    truth: Volume | None = None,
    options: RenderOptions | None = None,
    view: int = AXIAL,
    at_mm: float | None = None,
    title: str | None = None,
    ignored: Volume | None = None,
) -> Figure:
    """Draw one slice, by default the one that holds most of the structures; see `overlay_figure`.

    Args:
        scan: voxels `[X, Y, Z]`; or three of them, shown as red, green and blue.
        mask: label map on the same grid.
        truth: the true label map on the same grid.
        options: window, names, colours.
        view: AXIAL, CORONAL or SAGITTAL.
        at_mm: place of the slice, from the scanner's origin toward head, front or right as in RAS; the nearest is
            drawn.
        title: over the picture.
        ignored: voxels of which nothing is known, not 0, on the same grid; they are hatched.

    Raises:
        GeometryError: the grids differ.
        UsageError: the scan has no slice at that place.
    """
    scene = build_scene(scan, mask, truth, options or RenderOptions(), 1, ignored)
    position = scene.fullest(view) if at_mm is None else scene.nearest(view, at_mm)
    side = 2.2 * TILE_INCHES
    figure, borders = start_sheet(scene, side, side * steepness(scene, view), title)
    draw_slice(figure.add_subplot(figure.add_gridspec(1, 1, **borders)[0]), scene, view, position, marks=())
    return figure


def _draw(scene: Scene, title: str | None) -> Figure:
    rows = max(2, math.isqrt(len(scene.axial) * 2 // 3))
    columns = math.ceil(len(scene.axial) / rows)
    width, height = (columns + 1) * TILE_INCHES, rows * TILE_INCHES * steepness(scene, AXIAL)
    figure, borders = start_sheet(scene, width, height, title)
    grid = figure.add_gridspec(rows, columns + 1, wspace=0.02, hspace=0.02, **borders)
    for tile, position in enumerate(scene.axial):
        draw_slice(figure.add_subplot(grid[tile // columns, tile % columns]), scene, AXIAL, position, marks=())
    for view, cell in ((CORONAL, grid[: rows // 2, columns]), (SAGITTAL, grid[rows // 2 :, columns])):
        draw_slice(figure.add_subplot(cell), scene, view, scene.fullest(view), marks=scene.axial)
    return figure


def _draw_image(scene: Scene, title: str | None) -> Figure:
    side = 2 * TILE_INCHES
    figure, borders = start_sheet(scene, 2 * side, side * steepness(scene, AXIAL), title)
    grid = figure.add_gridspec(1, 2, wspace=0.01, **borders)
    bare = replace(scene, kinds=np.zeros_like(scene.kinds), outlines=[], borders=[], ignored=None)
    for column, shown in enumerate((bare, scene)):
        draw_slice(figure.add_subplot(grid[0, column]), shown, AXIAL, 0, marks=())
    return figure


def steepness(scene: Scene, view: int) -> float:
    """Height of a tile over its width: that of what is shown, within reason."""
    left, right, top, bottom = scene.shown_mm(view)
    return min(1.6, max(0.6, (bottom - top) / (right - left)))


def start_sheet(scene: Scene, width: float, height: float, title: str | None) -> tuple[Figure, dict[str, float]]:
    """Start a figure with room for pictures of so many inches between its title and its legend; give their borders."""
    names = [name for _, name in _named(scene)]
    in_a_row = max(1, int(10 * width / (6 + max(map(len, [*names, ""])))))
    shown = min(len(names), MOST_NAMED) + (2 if scene.outlines else 0) + (scene.ignored is not None)
    top, bottom = (0.42 if title else 0.08), 0.22 + 0.2 * math.ceil(shown / in_a_row)
    full = height + top + bottom
    figure = new_figure((width, full), BACKGROUND)
    _legend(figure, scene, in_a_row)
    if title:
        figure.text(0.5, 1 - 0.5 * top / full, title, color=INK, ha="center", va="center", fontsize=12)
    return figure, {"left": 0.004, "right": 0.996, "bottom": bottom / full, "top": 1 - top / full}


def draw_slice(axes: Axes, scene: Scene, view: int, position: int, marks: Sequence[int]) -> None:
    """Draw one slice; marks at the edge of a coronal or a sagittal one show where the axial ones are."""
    grey, kinds = (_upright(array, view, position) for array in (scene.scan, scene.kinds))
    width, height = scene.extent_mm(view)
    extent = (0.0, width, height, 0.0)
    low, high = scene.limits
    if grey.ndim == 3:
        grey = ((grey - low) / (high - low)).clip(0, 1)
    axes.imshow(grey, cmap="gray", vmin=low, vmax=high, extent=extent, interpolation="bilinear")
    axes.imshow(_paint(kinds, scene.colours, 0.0 if scene.contour else _FILL), extent=extent, interpolation="nearest")
    _trace(axes, kinds, scene, (width, height))
    _draw_further(axes, scene, view, position)
    left, right, top, bottom = scene.shown_mm(view)
    for mark in marks:
        level = height - (mark + 0.5) * scene.spacing_mm[AXIAL]
        axes.plot(
            (right - 0.035 * (right - left), right),
            (level, level),
            color=INK,
            linewidth=0.8,
            path_effects=_dark_edge(2),
        )
    axes.set(xlim=(left, right), ylim=(bottom, top), anchor="C")
    axes.set_axis_off()
    if scene.unit == "mm":
        _letters(axes, view, beside_marks=bool(marks))
    if not scene.is_image:
        _annotate(axes, 0.02, 0.98, _place(scene, view, position), ha="left", va="top")
    _scale_bar(axes, scene.shown_mm(view), LENGTH[scene.unit])


def _trace(axes: Axes, kinds: Kinds, scene: Scene, extent: tuple[float, float]) -> None:
    """Draw the borders of an image of kinds as thin lines, which do not hide what they bound."""
    width = _FINE_LINE if scene.is_image else _LINE
    for kind, colour in enumerate(scene.colours, 1):
        inside = kinds == kind
        if inside.any():
            axes.contour(*_around(inside, extent), levels=[0.5], colors=[colour], linewidths=width)


def _draw_further(axes: Axes, scene: Scene, view: int, position: int) -> None:
    """Outline the structures that overlap, and hatch what is ignored."""
    for outline in [*scene.borders, *scene.outlines]:
        for mask, style in ((outline.found, "solid"), (outline.truth, "dashed")):
            if mask is not None:
                shown = _around(_upright(mask, view, position), scene.extent_mm(view))
                axes.contour(*shown, levels=[0.5], colors=[outline.colour], linestyles=[style], linewidths=1.2)
    if scene.ignored is not None:
        shown = _around(_upright(scene.ignored, view, position), scene.extent_mm(view))
        hatched = axes.contourf(*shown, levels=[0.5, 1.5], colors="none", hatches=[_HATCH])
        hatched.set(edgecolor=(INK, _HATCH_OPACITY), linewidth=0.0)


def _around(
    mask: npt.NDArray[np.bool_], extent: tuple[float, float]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Place the voxels of a slice for a contour, with a margin of nothing around it that closes what it cuts."""
    rows, columns = mask.shape
    width, height = extent
    x = (np.arange(-1, columns + 1) + 0.5) * width / columns
    y = (np.arange(-1, rows + 1) + 0.5) * height / rows
    return x, y, np.pad(mask.astype(float), 1)


def _upright(array: npt.NDArray[Any], view: int, position: int) -> npt.NDArray[Any]:
    """Cut a slice of an `LPS` array as an image `[row, column, ...]` with anterior or superior at the top."""
    image: npt.NDArray[Any] = np.swapaxes(np.moveaxis(array, view, 0)[position], 0, 1)
    return image if view == AXIAL else image[::-1]


def _paint(kinds: Kinds, colours: Sequence[str], fill: float) -> npt.NDArray[np.float64]:
    """Colour an image `[row, column]` of kinds as RGBA, so opaque."""
    from matplotlib.colors import to_rgb

    rgba = np.zeros((*kinds.shape, 4))
    for kind, colour in enumerate(colours, 1):
        rgba[kinds == kind] = (*to_rgb(colour), fill)
    return rgba


def _letters(axes: Axes, view: int, beside_marks: bool) -> None:
    left, right = ("A", "P") if view == SAGITTAL else ("R", "L")
    top, bottom = ("A", "P") if view == AXIAL else ("S", "I")
    _annotate(axes, 0.015, 0.5, left, ha="left", va="center")
    _annotate(axes, 0.95 if beside_marks else 0.985, 0.5, right, ha="right", va="center")
    _annotate(axes, 0.5, 0.985, top, ha="center", va="top")
    _annotate(axes, 0.5, 0.015, bottom, ha="center", va="bottom")


def _annotate(axes: Axes, x: float, y: float, text: str, ha: str, va: str) -> None:
    axes.text(x, y, text, transform=axes.transAxes, color=INK, fontsize=8, ha=ha, va=va, path_effects=_dark_edge(2))


def _dark_edge(width: float) -> list[AbstractPathEffect]:
    """What keeps light lines and letters apart from a light scan."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground="black")]


def _place(scene: Scene, view: int, position: int) -> str:
    """Where the middle of a slice lies on the axis it is cut along, such as `S 112.5 mm`; of a stack, its number."""
    if scene.unit == "px":
        return f"{position + 1} of {scene.scan.shape[view]}"
    at = round(scene.place_mm(view, position), 1)
    return f"{('LR', 'PA', 'IS')[view][at >= 0]} {abs(at):.1f} mm"


def _scale_bar(axes: Axes, shown: tuple[float, float, float, float], unit: str) -> None:
    left, right, top, bottom = shown
    width = right - left
    lengths = [factor * 10.0**power for power in range(-4, 5) for factor in (1, 2, 5)]
    length = max(step for step in lengths if step <= max(0.3 * width, lengths[0]))
    end, level = left + 0.95 * width, top + 0.955 * (bottom - top)
    axes.plot(
        (end - length, end), (level, level), color=INK, linewidth=2, solid_capstyle="butt", path_effects=_dark_edge(3.5)
    )
    _annotate(axes, 0.95 - length / 2 / width, 0.06, f"{length:g} {unit}", ha="center", va="bottom")


def _named(scene: Scene) -> list[tuple[str, str]]:
    """List colour and name of all that is painted or outlined."""
    outlined = [(outline.colour, outline.name) for outline in [*scene.borders, *scene.outlines]]
    return [*zip(scene.colours, scene.names, strict=True), *outlined]


def _legend(figure: Figure, scene: Scene, in_a_row: int) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=colour, label=name) for colour, name in _named(scene)]
    if len(handles) > MOST_NAMED:
        rest = Patch(color="none", label=f"and {len(handles) - MOST_NAMED + 1} more")
        handles = [*handles[: MOST_NAMED - 1], rest]
    if not handles:
        handles = [Patch(color="none", label="the mask is empty")]
    if any(outline.truth is not None for outline in scene.outlines):
        handles += [Line2D([], [], color=INK, label="mask"), Line2D([], [], color=INK, ls="dashed", label="truth")]
    if scene.ignored is not None:
        handles.append(Patch(facecolor="none", edgecolor=INK, hatch=_HATCH, label="ignored"))
    style = {"frameon": False, "labelcolor": INK, "fontsize": 9, "columnspacing": 1.2, "handlelength": 1.2}
    figure.legend(handles=handles, loc="lower left", ncols=min(len(handles), in_a_row), **style)
    grey = "{} from {:.4g} to {:.4g}".format(scene.values, *scene.limits)
    figure.text(0.992, 0.14 / figure.get_figheight(), grey, color=INK, ha="right", fontsize=9)
