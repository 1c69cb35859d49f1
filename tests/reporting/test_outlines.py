"""Pictures of structures that overlap, and of what is ignored."""

from pathlib import Path

import numpy as np

from fullscale.geometry.volume import Volume
from fullscale.reporting.overlay import overlay_figure, slice_figure
from fullscale.reporting.scene import RenderOptions, build_scene
from tests.conftest import Command
from tests.masks import AFFINE, SHAPE, cube, write_mask

REGIONS = RenderOptions(names={2: "whole", 1: "core"}, members={2: (1, 2), 1: (1,)})


def volumes() -> tuple[Volume, Volume, Volume]:
    mask = np.maximum(cube(2, label=2, size=6), 0)
    mask[3:5, 3:5, 3:5] = 1
    hidden = np.zeros(SHAPE, np.uint8)
    hidden[:, :, 5] = 1
    return tuple(Volume(array, AFFINE) for array in (cube().astype(np.int16), mask, hidden))


def legend(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_regions_are_outlined_and_the_truth_is_dashed():
    scan, mask, hidden = volumes()
    scene = build_scene(scan, mask, mask, REGIONS, 3, hidden)
    assert [outline.name for outline in scene.outlines] == ["whole", "core"]
    assert [int(outline.found.sum()) for outline in scene.outlines] == [96, 8]
    assert (scene.colours, int(scene.ignored.sum())) == ([], 120)
    assert legend(overlay_figure(scan, mask, mask, REGIONS, ignored=hidden)) == [
        *("whole", "core", "mask", "truth", "ignored")
    ]
    assert legend(overlay_figure(scan, mask, options=REGIONS)) == ["whole", "core"]


def test_what_is_ignored_is_not_painted_but_hatched():
    scan, mask, hidden = volumes()
    scene = build_scene(scan, mask, mask, RenderOptions(), 3, hidden)
    assert not scene.kinds[scene.ignored].any()
    shown = slice_figure(scan, mask, mask, ignored=hidden, at_mm=12.5)
    assert [c.hatches for c in shown.axes[0].collections if any(getattr(c, "hatches", ()))] == [["////"]]
    assert legend(overlay_figure(scan, mask, ignored=hidden))[-1] == "ignored"


def test_the_command_draws_both(tmp_path: Path, fullscale: Command):
    scan, mask, hidden = volumes()
    write_mask(tmp_path / "scan.nii.gz", scan.array * 50)
    truth = np.where(hidden.array, 9, mask.array)
    for name, array in (("mask", mask.array), ("truth", truth), ("view", 1 - hidden.array)):
        write_mask(tmp_path / f"{name}.nii.gz", array)
    common = ["overlay", tmp_path / "scan.nii.gz", tmp_path / "mask.nii.gz", tmp_path / "truth.nii.gz"]
    for n, ignore in enumerate((9, tmp_path / "view.nii.gz")):
        done = fullscale(*common, "-o", tmp_path / f"{n}.png", "--regions", "whole=1+2,core=1", "--ignore", ignore)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()
