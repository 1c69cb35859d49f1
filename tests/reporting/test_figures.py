import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from fullscale.errors import FullscaleError, GeometryError, UsageError
from fullscale.geometry.orientation import reorient
from fullscale.geometry.volume import Volume
from fullscale.reporting.curves import progress_figure, write_progress
from fullscale.reporting.figures import (
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    LABEL_COLOURS,
    PALETTES,
    TRUE_POSITIVE,
    WRONG_CLASS,
    save_figure,
)
from fullscale.reporting.overlay import overlay_figure, slice_figure
from fullscale.reporting.scene import AXIAL, CORONAL, SAGITTAL, RenderOptions
from fullscale.reporting.side_by_side import side_by_side_figure

# Stored R, A, S at 2 x 1.5 x 4 mm; the origin is chosen so that the first voxel lies at (-40, -50, 100) mm.
AFFINE = np.array([[2.0, 0, 0, -40], [0, 1.5, 0, -50], [0, 0, 4, 100], [0, 0, 0, 1]])
SHAPE = (40, 60, 20)
RIGHT, LEFT = slice(30, 40), slice(0, 10)
FRONT, BACK = slice(45, 60), slice(0, 15)
HEAD, FEET = slice(15, 20), slice(0, 5)


def volume(array: npt.NDArray[Any]) -> Volume:
    return Volume(array, AFFINE)


def phantom() -> tuple[Volume, Volume, Volume]:
    """A body without any symmetry, a mask and a truth that disagree."""
    rng = np.random.default_rng(0)
    scan = rng.normal(0, 20, SHAPE)
    scan[RIGHT, FRONT, HEAD] += 300
    scan[LEFT, :, 8:] -= 150
    mask, truth = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    mask[20:34, 10:40, 4:15] = 1
    truth[22:36, 14:42, 5:17] = 1
    truth[5:9, 30:50, 10:14] = 2
    return volume(scan.astype(np.float32)), volume(mask), volume(truth)


def pixels(figure: Any) -> npt.NDArray[np.uint8]:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def panel(figure: Any, number: int) -> npt.NDArray[np.uint8]:
    """The drawn pixels of one panel; the axial ones come first, then the coronal, then the sagittal."""
    image = pixels(figure)
    box = figure.axes[number].get_window_extent()
    top, bottom = round(image.shape[0] - box.y1), round(image.shape[0] - box.y0)
    return image[top:bottom, round(box.x0) : round(box.x1)]


def texts(figure: Any, number: int) -> set[str]:
    return {text.get_text() for text in figure.axes[number].texts}


def quarter(image: npt.NDArray[Any], vertical: str, horizontal: str) -> float:
    rows, columns = image.shape[0] // 2, image.shape[1] // 2
    part = image[:rows] if vertical == "top" else image[rows:]
    part = part[:, :columns] if horizontal == "left" else part[:, columns:]
    return float(part.mean())


@pytest.mark.parametrize("codes", ["LAS", "RPI", "LPS", "SAR", "ILA", "PIR", "ASL"])
@pytest.mark.parametrize("with_truth", [True, False])
def test_the_same_anatomy_looks_the_same_whatever_orientation_is_stored(codes: str, with_truth: bool) -> None:
    scan, mask, truth = phantom()
    straight = overlay_figure(scan, mask, truth if with_truth else None, slices=3)
    stored = [reorient(v, codes) for v in (scan, mask, truth)]
    turned = overlay_figure(stored[0], stored[1], stored[2] if with_truth else None, slices=3)
    np.testing.assert_array_equal(pixels(straight), pixels(turned))


@pytest.mark.parametrize(
    ("view", "bright", "corner"),
    [
        (0, (RIGHT, FRONT, slice(None)), ("top", "left")),
        (0, (LEFT, BACK, slice(None)), ("bottom", "right")),
        (1, (RIGHT, slice(None), HEAD), ("top", "left")),
        (1, (LEFT, slice(None), FEET), ("bottom", "right")),
        (2, (slice(None), FRONT, HEAD), ("top", "left")),
        (2, (slice(None), BACK, FEET), ("bottom", "right")),
    ],
)
def test_patient_right_and_front_are_left_and_head_is_up(view: int, bright: Any, corner: tuple[str, str]) -> None:
    scan = np.full(SHAPE, 20, np.int16)
    scan[bright] = 100
    figure = overlay_figure(
        volume(scan), volume(np.zeros(SHAPE, np.uint8)), options=RenderOptions(window=(20, 100)), slices=1
    )
    image = panel(figure, view)
    brightness = {(v, h): quarter(image, v, h) for v in ("top", "bottom") for h in ("left", "right")}
    assert max(brightness, key=lambda place: brightness[place]) == corner
    assert brightness[corner] > 3 * sorted(brightness.values())[2]


def test_letters_name_the_directions_of_each_view() -> None:
    figure = overlay_figure(*phantom()[:2], slices=1)
    for number, letters in enumerate(("RLAP", "RLSI", "APSI")):
        assert {text for text in texts(figure, number) if len(text) == 1} == set(letters)
        places = {text.get_text(): text.get_position() for text in figure.axes[number].texts}
        assert places[letters[0]][0] < places[letters[1]][0]
        assert places[letters[2]][1] > places[letters[3]][1]


def test_the_place_of_each_slice_is_told_in_mm() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[3, 7, 2] = 1
    figure = overlay_figure(phantom()[0], volume(mask))
    assert "S 108.0 mm" in texts(figure, 0)
    assert "P 39.5 mm" in texts(figure, 1)
    assert "L 34.0 mm" in texts(figure, 2)


def test_a_ball_is_round_although_its_voxels_are_not() -> None:
    x, y, z = np.ogrid[:40, :60, :20]
    ball = ((x - 19.5) * 2) ** 2 + ((y - 29.5) * 1.5) ** 2 + ((z - 9.5) * 4) ** 2 <= 30**2
    scan = volume(np.zeros(SHAPE, np.int16))
    figure = overlay_figure(scan, volume(ball.astype(np.uint8)), options=RenderOptions(window=(0, 1)), slices=1)
    for number in range(3):
        red = panel(figure, number).astype(int)
        painted = red[..., 0] - red[..., 1] > 40
        rows, columns = np.flatnonzero(painted.any(axis=1)), np.flatnonzero(painted.any(axis=0))
        assert (np.ptp(rows) + 1) / (np.ptp(columns) + 1) == pytest.approx(1, abs=0.08)


def test_found_missed_invented_and_confused_have_the_colours_of_the_paper() -> None:
    mask, truth = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    mask[30:36, 20:30, 5] = 1
    truth[30:36, 25:35, 5] = 1
    mask[10:14, 20:30, 5], truth[10:14, 20:30, 5] = 1, 2
    figure = overlay_figure(phantom()[0], volume(mask), volume(truth), slices=1)
    painted = figure.axes[0].images[1].get_array()

    def colour_at(x: int, y: int) -> tuple[float, ...]:
        return tuple(painted[SHAPE[1] - 1 - y, SHAPE[0] - 1 - x, :3])

    assert colour_at(32, 27) == to_rgb(TRUE_POSITIVE)
    assert colour_at(32, 22) == to_rgb(FALSE_POSITIVE)
    assert colour_at(32, 32) == to_rgb(FALSE_NEGATIVE)
    assert colour_at(12, 25) == to_rgb(WRONG_CLASS)
    assert painted[0, 0, 3] == 0
    [legend] = figure.legends
    patches = {t.get_text(): p.get_facecolor()[:3] for t, p in zip(legend.texts, legend.get_patches(), strict=True)}
    assert patches["true positive"] == to_rgb(TRUE_POSITIVE)
    assert patches["false negative (missed)"] == to_rgb(FALSE_NEGATIVE)
    assert patches["false positive (invented)"] == to_rgb(FALSE_POSITIVE)
    assert patches["one structure taken for another"] == to_rgb(WRONG_CLASS)


def test_without_truth_each_label_has_its_colour_and_name() -> None:
    labels = phantom()[2].array.copy()
    labels[labels == 2] = 9
    figure = overlay_figure(phantom()[0], volume(labels), options=RenderOptions(names={1: "liver"}))
    [legend] = figure.legends
    assert [text.get_text() for text in legend.texts] == ["liver", "label 9"]
    assert [patch.get_facecolor()[:3] for patch in legend.get_patches()] == [to_rgb(c) for c in LABEL_COLOURS[:2]]


def test_very_many_labels_still_fit_the_legend() -> None:
    labels = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 40
    [legend] = overlay_figure(phantom()[0], volume(labels)).legends
    assert len(legend.texts) == 12
    assert legend.texts[-1].get_text() == "and 28 more"


def test_slices_cover_the_structure_from_head_to_foot() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[10:20, 10:20, 4:16] = 1
    figure = overlay_figure(phantom()[0], volume(mask), slices=6)
    places = [next(t for t in texts(figure, k) if t.startswith("S ")) for k in range(6)]
    assert places == [f"S {100 + 4 * z:.1f} mm" for z in (15, 13, 11, 9, 7, 5)]


def test_a_stray_voxel_does_not_pull_the_slices_apart() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[10:20, 10:20, 4:8] = 1
    mask[0, 0, 19] = 1
    figure = overlay_figure(phantom()[0], volume(mask), slices=6)
    assert len(figure.axes) == 4 + 2


def test_an_structure_thinner_than_the_sheet_is_shown_once_a_slice() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[10:20, 10:20, 9:11] = 1
    assert len(overlay_figure(phantom()[0], volume(mask), slices=6).axes) == 2 + 2


@pytest.mark.parametrize("shape", [(1, 1, 1), (300, 2, 2), (9, 9, 1), (2, 40, 300)])
def test_odd_shapes_and_empty_masks_are_drawn(shape: tuple[int, int, int]) -> None:
    figure = overlay_figure(Volume(np.ones(shape), AFFINE), Volume(np.zeros(shape, np.uint8), AFFINE))
    assert pixels(figure).size
    assert figure.legends[0].texts[0].get_text() == "the mask is empty"


def limits(scan: npt.NDArray[Any], **options: Any) -> tuple[float, float]:
    figure = overlay_figure(volume(scan), phantom()[1], **options)
    low, high = figure.axes[0].images[0].get_clim()
    values = "HU" if scan.min() < -500 else "grey"
    assert f"{values} from {low:.4g} to {high:.4g}" in {text.get_text() for text in figure.texts}
    return low, high


def test_a_window_that_is_given_is_used() -> None:
    assert limits(phantom()[0].array, options=RenderOptions(window=(-100, 240))) == (-100, 240)


def test_without_a_window_outliers_do_not_darken_the_picture() -> None:
    scan = np.random.default_rng(0).uniform(100, 200, SHAPE)
    scan[0, 0, :] = 1e6
    scan[1, 0, :] = np.nan
    low, high = limits(scan)
    assert 100 <= low < 102
    assert 198 < high <= 200


def test_without_a_window_a_scan_with_air_is_shown_as_soft_tissue() -> None:
    scan = np.full(SHAPE, -1000, np.int16)
    scan[10:30, 10:50] = 50
    assert limits(scan) == (-160, 240)


def test_a_constant_or_unreadable_scan_is_still_drawn() -> None:
    assert limits(np.full(SHAPE, 7.0)) == (7, 8)
    assert limits(np.full(SHAPE, np.nan)) == (0, 1)


def test_other_grids_are_refused() -> None:
    scan, mask, truth = phantom()
    moved = Volume(truth.array, AFFINE + np.eye(4)[:, [3, 0, 1, 2]] * 0.5)
    with pytest.raises(GeometryError, match="scan and mask"):
        overlay_figure(scan, moved)
    with pytest.raises(GeometryError, match="scan and truth"):
        overlay_figure(scan, mask, moved)


@pytest.mark.parametrize("window", [(240, -100), (5, 5)])
def test_an_empty_window_is_refused(window: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="is empty"):
        RenderOptions(window=window)


def test_slices_that_are_not_there_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        overlay_figure(*phantom()[:2], slices=0)
    with pytest.raises(UsageError, match="no slice at 400 mm: the scan goes from 100 to 176 mm"):
        slice_figure(*phantom()[:2], at_mm=400)


@pytest.mark.parametrize(
    ("view", "at_mm", "place"),
    [
        (AXIAL, 121.0, "S 120.0 mm"),
        (CORONAL, -20.6, "P 20.0 mm"),
        (SAGITTAL, 3.2, "R 4.0 mm"),
        (AXIAL, None, "S 140.0 mm"),
    ],
)
@pytest.mark.parametrize("codes", ["RAS", "LPI", "SAR"])
def test_one_slice_is_the_one_at_that_place_however_stored(
    view: int, at_mm: float | None, place: str, codes: str
) -> None:
    figure = slice_figure(*(reorient(v, codes) for v in phantom()), view=view, at_mm=at_mm)
    assert len(figure.axes) == 1
    assert place in texts(figure, 0)
    assert {text for text in texts(figure, 0) if len(text) == 1} == set(("APSI", "RLSI", "RLAP")[view])
    straight = slice_figure(*phantom(), view=view, at_mm=at_mm)
    np.testing.assert_array_equal(pixels(figure), pixels(straight))


def test_contours_leave_the_inside_of_the_structure_open() -> None:
    scan, mask, _ = phantom()
    for contour in (True, False):
        [axes] = slice_figure(scan, mask, options=RenderOptions(contour=contour)).axes
        filled = axes.images[1].get_array()[..., 3] > 0
        assert filled.sum() == (0 if contour else 14 * 30)
        [line] = axes.collections
        corners = line.get_paths()[0].vertices
        # 14 voxels of 2 mm by 30 of 1.5 mm, bounded half way between their voxels and those outside
        assert np.ptp(corners, axis=0).tolist() == [14 * 2, 30 * 1.5]
        assert line.get_linewidth() == [1.0]


def test_beside_a_truth_of_several_structures_each_is_outlined_in_its_colour() -> None:
    scan, mask, truth = phantom()
    figure = slice_figure(scan, mask, truth, RenderOptions(names={1: "liver", 2: "spleen"}), at_mm=148)
    assert [text.get_text() for text in figure.legends[0].texts][-2:] == ["liver", "spleen"]
    drawn = [tuple(line.get_edgecolor()[0][:3]) for line in figure.axes[0].collections]
    assert drawn[-2:] == [to_rgb(colour) for colour in LABEL_COLOURS[:2]]
    one = slice_figure(scan, mask, volume(np.where(truth.array == 2, 0, truth.array)), at_mm=148)
    assert len(one.legends[0].texts) == 3


def test_the_air_around_the_body_is_cut_off_but_nothing_that_is_painted() -> None:
    scan = np.full(SHAPE, -1000, np.int16)
    scan[10:30, 20:50] = 40
    mask = np.zeros(SHAPE, np.uint8)
    mask[15:18, 30:33, 10] = 1
    [axes] = slice_figure(volume(scan), volume(mask)).axes
    # R to L, A to P: the body spans voxels 10 to 29 of 40 and 20 to 49 of 60, with a margin of 4 % of that
    assert axes.get_xlim() == ((10 - 1) * 2, (30 + 1) * 2)
    assert axes.get_ylim() == ((60 - 20 + 1) * 1.5, (60 - 50 - 1) * 1.5)
    mask[0, 59, 10] = 1
    [axes] = slice_figure(volume(scan), volume(mask)).axes
    assert axes.get_xlim() == ((10 - 1) * 2, 40 * 2)
    assert axes.get_ylim() == ((60 - 20 + 2) * 1.5, 0)
    coronal = slice_figure(volume(scan), volume(mask), view=CORONAL).axes[0]
    assert coronal.get_ylim() == (20 * 4, 0)


def test_a_scan_without_air_is_shown_whole() -> None:
    rng = np.random.default_rng(3)
    for low, high in ((100, 900), (20, 60)):
        scan = rng.uniform(low, high, SHAPE)
        scan[:, :8] = low  # dark tissue at the border is no air
        [axes] = slice_figure(volume(scan), phantom()[1]).axes
        assert axes.get_xlim() == (0, 40 * 2)
        assert axes.get_ylim() == (60 * 1.5, 0)


def test_the_safe_palette_is_used_on_request() -> None:
    figure = overlay_figure(*phantom(), options=RenderOptions(palette="safe"))
    colours = [patch.get_facecolor()[:3] for patch in figure.legends[0].get_patches()]
    wanted = [*PALETTES["safe"].agreement[:3], *PALETTES["safe"].labels[:2]]
    assert colours == [to_rgb(colour) for colour in wanted]


def test_a_picture_is_written_whole_and_the_same_twice(tmp_path: Path) -> None:
    path = tmp_path / "out" / "overlay.png"
    save_figure(overlay_figure(*phantom(), title="a case"), path)
    first = path.read_bytes()
    save_figure(overlay_figure(*phantom(), title="a case"), path)
    assert path.read_bytes() == first
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width > 800
    assert [file.name for file in path.parent.iterdir()] == ["overlay.png"]
    for kind, begins in ((".svg", b"<?xml"), (".pdf", b"%PDF")):
        twice = [tmp_path / f"{name}{kind}" for name in "ab"]
        for file in twice:
            save_figure(overlay_figure(*phantom(), title="a case"), file)
        assert twice[0].read_bytes() == twice[1].read_bytes()
        assert twice[0].read_bytes().startswith(begins)
    with pytest.raises(UsageError, match=r"x\.jpg is no name of a picture"):
        save_figure(overlay_figure(*phantom()), tmp_path / "x.jpg")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FullscaleError, match=r"x\.png"):
        save_figure(overlay_figure(*phantom()), tmp_path / "file" / "x.png")


def test_names_are_shown_as_they_are_whatever_signs_they_hold(tmp_path: Path) -> None:
    scan, mask, truth = phantom()
    for title in (r"case $\nosuch{$ [red] {q} _x_", "case [1]$"):  # the first is no formula that could be drawn
        options = RenderOptions(names={1: title, 2: title})
        save_figure(overlay_figure(scan, mask, None, options, title=title), tmp_path / "a.svg")
        save_figure(side_by_side_figure(scan, {title: mask}, truth, options, slices=2), tmp_path / "b.png")
        assert title in (tmp_path / "a.svg").read_text()


def rows(epochs: int) -> list[dict[str, Any]]:
    return [
        {"epoch": e, "train_loss": 2.0 - e, "val_dice_mean": 0.1 * e, "val_dice_liver": 0.2 * e, "elapsed_s": 30 * e}
        | {"learning_rate": 0.01 / (e + 1), "train_presence_accuracy": 1.0}
        for e in range(epochs)
    ]


def test_curves_show_the_numbers_of_the_rows() -> None:
    figure = progress_figure(rows(4))
    left, right = figure.axes[:2]
    [loss] = left.lines
    np.testing.assert_allclose(loss.get_xydata(), [[0, 2], [1, 1], [2, 0], [3, -1]])
    curves = {line.get_label(): line.get_ydata() for line in right.lines}
    np.testing.assert_allclose(curves["mean"], [0, 0.1, 0.2, 0.3])
    np.testing.assert_allclose(curves["liver"], [0, 0.2, 0.4, 0.6])
    assert "0.300 at epoch 3" in right.get_title()
    assert "1.5 min" in {text.get_text() for text in figure.texts}


def test_curves_are_drawn_from_the_texts_of_a_csv_with_gaps() -> None:
    texts = [{name: str(value) for name, value in row.items()} for row in rows(3)]
    texts[1]["val_dice_liver"] = ""
    del texts[0]["train_loss"]
    figure = progress_figure(texts)
    liver = {line.get_label(): line.get_ydata() for line in figure.axes[1].lines}["liver"]
    np.testing.assert_allclose(liver, [0, np.nan, 0.4])


@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_the_first_epochs_are_drawn(epochs: int, tmp_path: Path) -> None:
    write_progress(tmp_path / "progress.png", rows(epochs))
    with Image.open(tmp_path / "progress.png") as image:
        assert image.width > 800


def test_drawing_leaves_no_global_state_of_pyplot() -> None:
    code = "import sys; from fullscale.reporting.curves import progress_figure\n"
    code += "progress_figure([{'epoch': 0, 'train_loss': 1.0}]).canvas.draw()\n"
    code += "sys.exit(bool({'matplotlib.pyplot', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
