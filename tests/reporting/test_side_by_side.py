"""Masks of several models beside each other: rows, heads and Dice by hand, one grey scale and one frame."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullscale.data.volume_files import write_volume
from fullscale.geometry.volume import Volume
from fullscale.reporting.scene import RenderOptions
from fullscale.reporting.side_by_side import side_by_side_figure
from tests.conftest import Command

SHAPE = (40, 60, 20)
AFFINE = np.diag([2.0, 1.5, 4, 1])


def box(*ranges: tuple[int, int]) -> Volume:
    array = np.zeros(SHAPE, np.uint8)
    array[tuple(slice(*ends) for ends in ranges)] = 1
    return Volume(array, AFFINE)


SCAN = Volume(np.random.default_rng(0).normal(100, 20, SHAPE).astype(np.float32), AFFINE)
TRUTH = box((10, 20), (10, 20), (4, 16))
HALF = box((10, 15), (10, 20), (4, 16))  # Dice 2 * 600 / (600 + 1200)
MASKS = {"good": TRUTH, "half": HALF}


def test_each_mask_has_a_row_with_its_dice_and_the_same_slices() -> None:
    figure = side_by_side_figure(SCAN, MASKS, TRUTH, slices=3)
    heads = [axes.texts[0].get_text() for axes in figure.axes if not axes.images]
    assert heads == ["good: Dice 1.000", "half: Dice 0.667"]
    tiles = [axes for axes in figure.axes if axes.images]
    places = [
        next(t.get_text() for t in axes.texts if "mm" in t.get_text() and len(t.get_text()) > 6) for axes in tiles
    ]
    assert len(tiles) == 6
    assert places[:3] == places[3:]
    assert len({axes.images[0].get_clim() for axes in tiles}) == 1
    assert len({(axes.get_xlim(), axes.get_ylim()) for axes in tiles}) == 1


def test_without_a_truth_heads_are_names() -> None:
    figure = side_by_side_figure(SCAN, MASKS, slices=2)
    assert [axes.texts[0].get_text() for axes in figure.axes if not axes.images] == ["good", "half"]


def test_regions_are_scored_by_their_values() -> None:
    options = RenderOptions(names={1: "whole"}, members={1: (1, 2)})
    other = Volume(np.where(HALF.array > 0, 2, 0).astype(np.uint8), AFFINE)
    figure = side_by_side_figure(SCAN, {"half": other}, TRUTH, options, slices=1)
    assert figure.axes[0].texts[0].get_text() == "half: Dice 0.667"


def test_the_command_names_masks_by_their_folders_where_files_are_called_alike(
    tmp_path: Path, fullscale: Command
) -> None:
    files = {name: tmp_path / name / "c.nii.gz" for name in ("scan", "truth", *MASKS)}
    for file, volume in zip(files.values(), (SCAN, TRUTH, *MASKS.values()), strict=True):
        write_volume(file, volume)
    command = ["overlay", files["scan"], files["good"], files["truth"], "-o", tmp_path / "sheet.png"]
    drawn = fullscale(*command, "--compare", files["half"], "--slices", "2")
    assert drawn.returncode == 0, drawn.stderr
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.height > 800
    twice = fullscale(*command, "--compare", files["good"], "--overwrite")
    assert (twice.returncode, twice.stderr.count("\n")) == (2, 1)
    assert "two masks are called 'good': name them, as --compare NAME=MASK" in twice.stderr
    named = fullscale(*command, "--compare", f"again={files['good']}", "--overwrite")
    assert named.returncode == 0, named.stderr
    alone = fullscale(*command, "--compare", files["half"], "--view", "axial", "--overwrite")
    assert alone.returncode == 2
    missing = fullscale(*command, "--compare", tmp_path / "none.nii.gz", "--overwrite")
    assert (missing.returncode, missing.stderr.count("\n")) == (3, 1)


@pytest.mark.parametrize("slices", [1, 4])
def test_one_slice_puts_the_masks_into_one_row(slices: int) -> None:
    figure = side_by_side_figure(SCAN, MASKS, TRUTH, slices=slices)
    tops = {round(axes.get_position().y0, 3) for axes in figure.axes if axes.images}
    assert len(tops) == (1 if slices == 1 else 2)
