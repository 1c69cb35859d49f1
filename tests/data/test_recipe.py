"""The recipe and its way back: by hand, by properties over orientations, and against plain NumPy."""

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fullscale.data.labels import LabelScheme
from fullscale.data.recipe import Intensity, Recipe, image_slices, label_slices, slice_geometry
from fullscale.errors import DataError
from fullscale.geometry.orientation import reorient
from fullscale.geometry.volume import Volume
from fullscale.views.slices import with_neighbours

WINDOW = Intensity(per="dataset", low=-100, high=200, mean=50, std=25)
CODES = ["RAS", "LPS", "LAS", "SRA", "PIR", "ASL", "ILP"]


def a_scan(shape: tuple[int, int, int] = (6, 8, 5), spacing: tuple[float, float, float] = (1, 2, 5)) -> Volume:
    values = np.random.default_rng(3).integers(-300, 400, shape).astype(np.int16)
    return Volume(values, np.diag([*spacing, 1.0]))


@pytest.mark.parametrize("codes", CODES)
def test_the_same_patient_gives_the_same_slices_however_stored(codes: str) -> None:
    recipe = Recipe(intensity=WINDOW, spacing_mm=1.5)
    scan = a_scan()
    stored = reorient(scan, codes)
    expected = image_slices({"image": scan}, slice_geometry(scan, recipe), recipe)[0]
    np.testing.assert_array_equal(image_slices({"image": stored}, slice_geometry(stored, recipe), recipe)[0], expected)
    assert expected.shape == (5, round(8 * 2 / 1.5), 8)  # 6 mm across is 4 voxels, below the smallest side of 8


@pytest.mark.parametrize("codes", CODES)
def test_labels_come_back_to_the_voxels_they_were_cut_from(codes: str) -> None:
    recipe = Recipe(intensity=WINDOW, spacing_mm=None)
    labels = Volume(np.random.default_rng(5).choice([0, 2, 7], (6, 8, 5)).astype(np.uint8), np.diag([1.0, 2, 5, 1]))
    stored = reorient(labels, codes)
    geometry = slice_geometry(stored, recipe)
    classes = label_slices(stored, geometry, LabelScheme({0: "background", 2: "a", 7: "b"}))
    back = geometry.to_volume(np.array([0, 2, 7], dtype=np.uint8)[classes], stored)
    np.testing.assert_array_equal(back.array, stored.array)
    np.testing.assert_array_equal(back.affine, stored.affine)
    merged = label_slices(stored, geometry, LabelScheme({0: "background", 2: "a", 7: "a"}))
    np.testing.assert_array_equal(merged, classes > 0)


def test_slices_run_from_feet_to_head_rows_to_the_front_columns_to_the_right() -> None:
    array = np.zeros((3, 4, 5), dtype=np.int16)
    array[2, 1, 4] = 200
    scan = reorient(Volume(array, np.diag([1.0, 1, 1, 1])), "LPI")
    recipe = Recipe(intensity=WINDOW, spacing_mm=None)
    slices = image_slices({"image": scan}, slice_geometry(scan, recipe), recipe)[0]
    assert np.unravel_index(slices.argmax(), slices.shape) == (4, 1, 2)


def normalised(intensity: Intensity, scan: Any) -> Any:
    return intensity.scale(scan).apply(scan)


def test_a_window_clips_and_scales_in_hounsfield_units() -> None:
    np.testing.assert_allclose(normalised(WINDOW, np.array([-500, -100, 50, 200, 900])), [-6, -6, 0, 6, 6])


def test_statistics_of_the_voxels_that_are_not_0() -> None:
    """An organ of 700 to 900 among tissue of 300 to 500, alone in an empty field of view: 0.4 % of the voxels."""
    rng, scan = np.random.default_rng(0), np.zeros((24, 128, 128), np.int16)
    scan[8:15, 40:54, 40:54] = rng.integers(300, 500, (7, 14, 14))
    scan[9:13, 43:49, 43:49] += 400
    assert np.ptp(normalised(Intensity(per="scan"), scan)) == 0  # of all voxels, both percentiles are 0
    found = normalised(Intensity(per="scan", voxels="nonzero"), scan)
    inside = scan[scan != 0].astype(float)
    low, high = np.percentile(inside, [0.5, 99.5])
    clipped = inside.clip(low, high)
    np.testing.assert_allclose(found[scan != 0], (clipped - clipped.mean()) / clipped.std(), atol=1e-5)
    np.testing.assert_allclose(found[scan == 0], (low - clipped.mean()) / clipped.std(), atol=1e-5)
    assert found[9:13, 43:49, 43:49].min() > found[8, 40:54, 40:54].max() + 1


def test_statistics_of_the_body_leave_out_the_padding_and_nothing_else() -> None:
    """Bodies of one tissue in fields of view of two sizes: what is around them must not change what they look like."""
    body = np.random.default_rng(0).normal(0.2, 1, (6, 8, 8)).astype(np.float32)
    body[2, 3, 3] = 0  # a voxel of the body may be 0
    low, high = np.percentile(body, [0.5, 99.5])
    clipped = body.clip(low, high)
    for margin in (1, 5):
        scan = np.pad(body, margin, constant_values=-4.5)
        inside = (slice(margin, -margin),) * 3
        found = normalised(Intensity(per="scan", voxels="body"), scan)[inside]
        np.testing.assert_allclose(found, (clipped - clipped.mean()) / clipped.std(), atol=1e-5)
    uneven = np.pad(body, 1, constant_values=-4.5)
    uneven[0, 0, 0] = 1
    np.testing.assert_array_equal(
        normalised(Intensity(per="scan", voxels="body"), uneven), normalised(Intensity(per="scan"), uneven)
    )


def test_an_empty_scan_has_no_statistics_and_stays_empty() -> None:
    for voxels in ("all", "nonzero", "body"):
        intensity = Intensity(per="scan", voxels=voxels)
        np.testing.assert_array_equal(normalised(intensity, np.zeros((2, 3, 4), np.int16)), np.zeros((2, 3, 4)))


@given(st.floats(0.1, 50), st.floats(-1000, 1000))
@settings(max_examples=40, deadline=None)
def test_normalisation_per_scan_forgets_gain_and_offset(gain: float, offset: float) -> None:
    values = np.random.default_rng(0).normal(size=(4, 5, 6))
    per_scan = Intensity(per="scan")
    np.testing.assert_allclose(normalised(per_scan, values * gain + offset), normalised(per_scan, values), atol=2e-2)


def test_a_constant_scan_stays_finite() -> None:
    assert np.isfinite(normalised(Intensity(per="scan"), np.full((2, 8, 8), 7.0))).all()


@pytest.mark.parametrize("spacing", [None, 1.7, (2.5, 1.7, 1.7)])
@pytest.mark.parametrize("per", ["dataset", "scan"])
def test_a_scan_prepared_a_few_slices_at_a_time_is_that_prepared_at_once(
    spacing: float | None, per: Literal["dataset", "scan"], monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = Volume(np.random.default_rng(0).normal(50, 30, (21, 17, 11)).astype(np.float32), np.diag([1, 1.2, 3, 1]))
    recipe = Recipe(
        intensity=Intensity(per=per, low=0, high=99, mean=40, std=20),
        spacing_mm=spacing,
        view="patches" if isinstance(spacing, tuple) else "slices",
        neighbours=0,
    )
    geometry = slice_geometry(scan, recipe)
    at_once = image_slices({"image": scan}, geometry, recipe)
    monkeypatch.setattr("fullscale.data.recipe._VOXELS_AT_ONCE", 2 * 21 * 17)
    np.testing.assert_array_equal(image_slices({"image": scan}, geometry, recipe), at_once)


def test_nan_voxels_are_refused_with_their_number() -> None:
    array = np.zeros((8, 8, 3), dtype=np.float32)
    array[1, 1, 1] = np.nan
    array[2, 2, 2] = np.inf
    scan, recipe = Volume(array, np.eye(4)), Recipe(intensity=WINDOW, spacing_mm=None)
    with pytest.raises(DataError, match="2 NaN or infinite"):
        image_slices({"image": scan}, slice_geometry(scan, recipe), recipe)[0]


def test_a_spacing_that_would_make_slices_of_terabytes_is_refused() -> None:
    scan = Volume(np.zeros((64, 48, 2), dtype=np.int16), np.diag([0.7, 0.7, 5, 1]))
    with pytest.raises(DataError, match=r"spacing_mm 0\.001 its slices of 48x64 would become 33600x44800"):
        slice_geometry(scan, Recipe(intensity=WINDOW, spacing_mm=0.001))


def test_neighbours_repeat_at_the_ends() -> None:
    slices = np.arange(4)[None, :, None, None] * np.ones((1, 1, 2, 2))
    assert [with_neighbours(slices, i, 1)[:, 0, 0].tolist() for i in range(4)] == [
        [0, 0, 1],
        [0, 1, 2],
        [1, 2, 3],
        [2, 3, 3],
    ]
    assert with_neighbours(slices[:, :1], 0, 2).shape == (5, 2, 2)
    assert with_neighbours(np.concatenate([slices, -slices]), 2, 1)[:, 0, 0].tolist() == [1, 2, 3, -1, -2, -3]
    assert Recipe(intensity=WINDOW, spacing_mm=1, neighbours=2).in_channels == 5
