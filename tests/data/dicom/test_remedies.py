"""Stacks that need a remedy: missing and uneven slices, a tilted gantry."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from fullscale.data.dicom.series import read_series, read_series_grid
from fullscale.data.dicom.stack import DicomReadOptions
from fullscale.errors import GeometryError
from tests.dicom_slices import (
    COLUMN_MM,
    COLUMNS,
    ROW_MM,
    ROWS,
    STEP_MM,
    refusal,
    slice_hu,
    slice_position,
    write_series,
    write_slice,
)


def test_gaps_are_filled_only_when_asked_and_then_told(tmp_path: Path):
    whole = read_series(write_series(tmp_path / "whole"))
    holed = write_series(tmp_path / "holed", slices=[0, 1, 3, 4])
    text = refusal(holed, GeometryError)
    assert "(slices 2 and 3)" in text
    assert "--allow-gaps" in text
    filled = read_series(holed, DicomReadOptions(allow_gaps=True))
    np.testing.assert_array_equal(filled.array, whole.array), "slices rise evenly, so lines between them meet the truth"
    np.testing.assert_allclose(filled.affine, whole.affine)
    assert filled.notes == ("gaps filled: 1 of 5 slices are interpolated, at 706.00 mm along the normal",)
    assert read_series_grid(holed, DicomReadOptions(allow_gaps=True)).shape == whole.shape


def test_uneven_slices_are_evened_out_at_their_own_places(tmp_path: Path):
    heights = [0, 3, 6, 10, 12]
    for k, height in enumerate(heights):
        position = np.array([0, 0, height])
        write_slice(tmp_path / f"{k}", np.full((ROWS, COLUMNS), 10 * height), position)
    even = read_series(tmp_path, DicomReadOptions(allow_gaps=True))
    z = (even.affine @ np.array([[0, 0, k, 1] for k in range(even.shape[2])]).T)[2]
    np.testing.assert_allclose(even.array[0, 0], 10 * z, atol=0.5)


def test_a_stack_with_more_holes_than_slices_is_refused_even_so(tmp_path: Path):
    for k in (0, 1, 40):
        write_slice(tmp_path / f"{k}", slice_hu(0), slice_position(k))
    assert "too many to fill" in refusal(tmp_path, GeometryError, DicomReadOptions(allow_gaps=True))


def write_tilted(folder: Path, degrees: float) -> None:
    """A tilted stack through a smooth object: the value of a voxel follows from where it lies."""
    folder.mkdir()
    rows, columns = np.mgrid[0:24, 0:16]
    for k in range(7):
        shift = np.tan(np.radians(degrees)) * STEP_MM * k
        values = 4 * (rows * ROW_MM + shift) + 2 * columns * COLUMN_MM + STEP_MM * k
        write_slice(folder / f"{k}", np.rint(10 * values), np.array([0, shift, STEP_MM * k]))


@pytest.mark.parametrize("degrees", [12.0, -7.0])
def test_a_tilted_stack_is_straightened_in_place_only_when_asked(tmp_path: Path, degrees: float):
    write_tilted(tmp_path / "tilted", degrees)
    assert "--untilt" in refusal(tmp_path / "tilted", GeometryError)
    straight = read_series(tmp_path / "tilted", DicomReadOptions(untilt=True))
    steps = straight.affine[:3, :3]
    np.testing.assert_allclose(steps.T @ steps, np.diag(np.diag(steps.T @ steps)), atol=1e-9)
    places = np.argwhere(straight.array > straight.array.min())
    x, y, z = (places @ steps.T + straight.affine[:3, 3]).T
    expected = 10 * (4 * -y + 2 * -x + z)
    found = straight.array[tuple(places.T)]
    inside = np.abs(found - expected) < 12
    assert inside.mean() > 0.93, "all but the rims, where a pixel meets the outside"
    fill = int(straight.array.min())
    stored = [pydicom.dcmread(file).pixel_array.astype(int) - 1024 - fill for file in (tmp_path / "tilted").iterdir()]
    assert (straight.array.astype(int) - fill).sum() == pytest.approx(np.sum(stored), rel=1e-3), "nothing was cut off"
    assert straight.notes[0].startswith("untilted")
