"""Masks of one scan by several models beside each other, as in Figure 4 of the UNet 3+ paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fullscale.geometry.volume import Volume, require_same_grid
from fullscale.reporting.figures import INK
from fullscale.reporting.frame import body_frame, joined
from fullscale.reporting.overlay import TILE_INCHES, draw_slice, start_sheet, steepness
from fullscale.reporting.scene import AXIAL, RenderOptions, Scene, build_scene, repainted
from fullscale.scoring.evaluate import score_arrays

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEAD_INCHES = 0.3


def side_by_side_figure(
    scan: Volume | Sequence[Volume],
    masks: Mapping[str, Volume],
    truth: Volume | None = None,
    options: RenderOptions | None = None,
    slices: int = 6,
    title: str | None = None,
    ignored: Volume | None = None,
) -> Figure:
    """Draw a row for each mask and a column for each axial slice, chosen by the truth, or by the first mask.

    See `overlay_figure` for what is drawn. With the truth, each row is headed by its mean Dice over the structures.
    Masks of an image stand in one row.

    Args:
        scan: voxels `[X, Y, Z]`; or three of them, shown as red, green and blue.
        masks: label map of each model, by its name, on the same grid.
        truth: the true label map on the same grid.
        options: window, names, colours.
        slices: how many axial ones at most.
        title: over the picture.
        ignored: voxels of which nothing is known, not 0, on the same grid; they are hatched.

    Raises:
        GeometryError: the grids differ.
        UsageError: fewer than one slice is wanted.
    """
    options = options or RenderOptions()
    first = next(iter(masks.values()))
    shared = build_scene(scan, first if truth is None else truth, None, options, slices, ignored)
    for name, mask in masks.items():
        require_same_grid(scan if isinstance(scan, Volume) else scan[0], mask, f"scan and mask {name}")
    scenes = {name: repainted(shared, mask, truth, options) for name, mask in masks.items()}
    if shared.frame is not None:
        frames = [body_frame(scene.scan, scene.kinds, scene.values == "HU") for scene in scenes.values()]
        scenes = {name: replace(scene, frame=joined(frames)) for name, scene in scenes.items()}
    return _draw(scenes, shared.axial, _heads(masks, truth, options, ignored), title)


def _draw(scenes: Mapping[str, Scene], axial: Sequence[int], heads: Sequence[str], title: str | None) -> Figure:
    """Draw a row for each mask, or a tile where there is one slice alone."""
    most = max(scenes.values(), key=lambda scene: len(scene.names))
    rows, columns = (len(scenes), len(axial)) if len(axial) > 1 else (1, len(scenes))
    tile = TILE_INCHES * steepness(most, AXIAL)
    figure, borders = start_sheet(most, columns * TILE_INCHES, rows * (tile + _HEAD_INCHES), title)
    heights = [_HEAD_INCHES, tile] * rows
    grid = figure.add_gridspec(2 * rows, columns, height_ratios=heights, wspace=0.02, hspace=0.0)
    grid.update(**borders)
    for number, (head, scene) in enumerate(zip(heads, scenes.values(), strict=True)):
        row, column = (2 * number, slice(None)) if rows == len(scenes) else (0, number)
        above = figure.add_subplot(grid[row, column])
        above.set_axis_off()
        above.text(0.005, 0.5, head, transform=above.transAxes, color=INK, ha="left", va="center", fontsize=10)
        for place, position in enumerate(axial, number if rows == 1 else 0):
            draw_slice(figure.add_subplot(grid[row + 1, place]), scene, AXIAL, position, marks=())
    return figure


def _heads(
    masks: Mapping[str, Volume], truth: Volume | None, options: RenderOptions, ignored: Volume | None
) -> list[str]:
    if truth is None:
        return list(masks)
    hidden = None if ignored is None else ignored.array != 0
    labels = [*options.members] or [value for value in np.unique(truth.array).tolist() if value]
    heads = []
    for name, mask in masks.items():
        scores = score_arrays(
            *(mask.array, truth.array, truth.affine[:3, :3], labels),
            surface=False,
            members=options.members or None,
            ignored=hidden,
            unit=truth.unit,
        )
        dice = [score["Dice"] for score in scores.values() if score["Dice"] is not None]
        heads.append(f"{name}: Dice {np.mean(dice):.3f}" if dice else name)
    return heads
