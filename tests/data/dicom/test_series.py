import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fullscale.data.dicom.series import DicomHeader, is_study, list_series, read_series, read_series_grid
from fullscale.data.dicom.stack import DicomReadOptions
from fullscale.data.png_stack import read_png_stack
from fullscale.data.read import read_image, read_label
from fullscale.data.volume_files import read_volume, write_volume
from fullscale.errors import DataError, GeometryError
from fullscale.geometry.volume import Volume
from tests.dicom_slices import (
    COLUMN_MM,
    COLUMNS,
    ORIENTATIONS,
    ROW_MM,
    ROWS,
    SLICES,
    STEP_MM,
    slice_hu,
    slice_position,
    write_series,
    write_slice,
)


def refusal(folder: Path, error: type[DataError] = GeometryError, **options: Any) -> str:
    with pytest.raises(error) as caught:
        read_series(folder, DicomReadOptions(**options))
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("orientation", ORIENTATIONS.values(), ids=ORIENTATIONS.keys())
@pytest.mark.parametrize("order", [1, -1])
def test_every_voxel_lies_where_the_standards_formula_puts_its_pixel(tmp_path: Path, orientation, order: int):
    folder = write_series(tmp_path, orientation, range(SLICES)[::order])
    volume = read_series(folder)
    assert volume.shape == (COLUMNS, ROWS, SLICES)
    along_row, along_column = np.array(orientation[:3]), np.array(orientation[3:])
    for (i, j, k), hu in np.ndenumerate(volume.array):
        source, pixel = divmod(int(hu), 100)
        row, column = divmod(pixel, COLUMNS)
        lps = slice_position(source, orientation)
        lps = lps + along_row * COLUMN_MM * column + along_column * ROW_MM * row
        np.testing.assert_allclose(volume.affine @ (i, j, k, 1), [-lps[0], -lps[1], lps[2], 1], atol=1e-4)


def test_simpleitk_places_the_same_series_alike(tmp_path: Path):
    folder = write_series(tmp_path, ORIENTATIONS["oblique"])
    volume = read_series(folder)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in volume.header.files])
    image = reader.Execute()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, volume.array)
    for corner in np.ndindex(2, 2, 2):
        index = tuple(int(i) for i in np.array(corner) * (COLUMNS - 1, ROWS - 1, SLICES - 1))
        lps = np.array(image.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose((volume.affine @ (*index, 1))[:3], lps * (-1, -1, 1), atol=1e-4)


def test_non_square_pixels_take_the_second_number_between_columns(tmp_path: Path):
    assert read_series(write_series(tmp_path)).spacing_mm == (COLUMN_MM, ROW_MM, STEP_MM)


def test_slope_and_intercept_are_taken_slice_by_slice(tmp_path: Path):
    for k in range(3):
        stored = np.full((ROWS, COLUMNS), 10 - 1024)
        write_slice(tmp_path / f"{k}", stored, slice_position(k), RescaleSlope=k + 1, RescaleIntercept=-k)
    volume = read_series(tmp_path)
    assert [float(volume.array[0, 0, k]) for k in range(3)] == [10.0, 19.0, 28.0]
    assert volume.array.dtype == np.int16


def test_fractional_slope_gives_float32(tmp_path: Path):
    write_series(tmp_path, RescaleSlope=0.5, RescaleIntercept=-1000)
    volume = read_series(tmp_path)
    assert volume.array.dtype == np.float32
    assert volume.array[1, 0, 0] == (1024 + 1) * 0.5 - 1000


def test_signed_pixels(tmp_path: Path):
    signed = (slice_hu(0) - 500).astype(np.int16)
    options = {"PixelRepresentation": 1, "PixelData": signed.tobytes(), "RescaleIntercept": 0}
    write_slice(tmp_path / "a", slice_hu(0), slice_position(0), **options)
    np.testing.assert_array_equal(read_series(tmp_path).array[:, :, 0].T, signed)


def test_blank_identifiers_are_no_obstacle(tmp_path: Path):
    write_series(tmp_path, SOPInstanceUID="", SeriesInstanceUID="", SOPClassUID="")
    volume = read_series(tmp_path)
    assert volume.shape[2] == SLICES
    assert volume.header.series_uid == ""


def test_mr_needs_no_rescale_but_ct_does(tmp_path: Path):
    mr = write_series(tmp_path / "mr", Modality="MR", RescaleSlope=None, RescaleIntercept=None)
    assert read_series(mr).array.min() == 1024
    ct = write_series(tmp_path / "ct", RescaleSlope=None, RescaleIntercept=None)
    assert "its HU are unknown" in refusal(ct, DataError)


def test_one_slice_takes_its_thickness(tmp_path: Path):
    folder = write_series(tmp_path, slices=[2])
    assert read_series(folder).spacing_mm == (COLUMN_MM, ROW_MM, STEP_MM)
    thin = write_series(tmp_path / "none", slices=[2], SliceThickness=None)
    assert "its depth is unknown" in refusal(thin)


def test_files_that_are_no_dicom_are_passed_over(tmp_path: Path):
    write_series(tmp_path)
    (tmp_path / "notes.txt").write_text("x" * 500)
    (tmp_path / "._1").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "sub").mkdir()
    assert read_series(tmp_path).shape[2] == SLICES


@pytest.mark.parametrize(("length", "says"), [(0, "is no DICOM file; is it cut short?"), (500, "states no size")])
def test_a_last_slice_cut_short_does_not_vanish(tmp_path: Path, length: int, says: str):
    for k in range(SLICES):
        write_slice(tmp_path / f"{k}.dcm", slice_hu(k), slice_position(k))
    (tmp_path / "4.dcm").write_bytes((tmp_path / "4.dcm").read_bytes()[:length])
    text = refusal(tmp_path, DataError)
    assert "4.dcm" in text
    assert says in text


def test_a_missing_slice_is_named_by_its_place(tmp_path: Path):
    text = refusal(write_series(tmp_path, slices=[0, 1, 3, 4]))
    assert "6 mm from 703.00 to 709.00 mm" in text
    assert "seem to be missing: 1" in text


def test_an_uneven_distance_is_refused_beyond_a_hundredth(tmp_path: Path):
    for name, moved_mm in (("even", 0.029), ("uneven", 0.031)):
        (tmp_path / name).mkdir()
        for k in range(4):
            moved = np.array([0, 0, moved_mm * (k == 3)])
            write_slice(tmp_path / name / f"{k}", slice_hu(k), slice_position(k) + moved)
    assert read_series(tmp_path / "even").shape[2] == 4
    assert "706.00 to 709.03 mm" in refusal(tmp_path / "uneven")


def test_two_slices_at_one_position_are_named(tmp_path: Path):
    write_series(tmp_path)
    write_slice(tmp_path / "again", slice_hu(2), slice_position(2))
    text = refusal(tmp_path)
    assert "706.00 mm" in text
    assert "again" in text


def test_a_tilted_stack_is_named_by_its_angle(tmp_path: Path):
    for k in range(4):
        sideways = np.array([0, np.tan(np.radians(12)) * STEP_MM * k, 0])
        write_slice(tmp_path / f"{k}", slice_hu(k), slice_position(k) + sideways)
    text = refusal(tmp_path)
    assert "tilted by 12.00 degrees: from 700.00 to 709.00 mm" in text


def test_a_slice_shifted_sideways_is_named(tmp_path: Path):
    for k in range(5):
        moved = np.array([2.0 * (k == 2), 0, 0])
        write_slice(tmp_path / f"{k}", slice_hu(k), slice_position(k) + moved)
    assert "2 at 706.00 mm lies 2 mm off the line" in refusal(tmp_path)


def test_mixed_sizes_orientations_and_spacings_are_refused(tmp_path: Path):
    size = write_series(tmp_path / "size", slices=range(4))
    write_slice(size / "odd", np.zeros((9, 9)), slice_position(4))
    assert "another size (rows, columns) than" in refusal(size)
    orientation = write_series(tmp_path / "orientation", slices=range(4))
    write_slice(orientation / "odd", slice_hu(4), slice_position(4), ORIENTATIONS["sagittal"])
    assert "another orientation than" in refusal(orientation)
    spacing = write_series(tmp_path / "spacing", slices=range(4))
    write_slice(spacing / "odd", slice_hu(4), slice_position(4), PixelSpacing=[1, 1])
    assert "another pixel spacing than" in refusal(spacing)


def test_series_are_described_with_what_is_wrong_with_them(tmp_path: Path):
    write_series(tmp_path, SeriesDescription="thin")
    for k in (0, 1, 3, 4, 6, 7):
        write_slice(tmp_path / f"b{k}", slice_hu(0), slice_position(k), SeriesInstanceUID="9.8", Modality="MR")
    holed, whole = list_series(tmp_path).series
    assert (whole.uid, whole.modality, whole.description, whole.slices) == ("1.2.3", "CT", "thin", SLICES)
    assert whole.spacing_mm == (COLUMN_MM, ROW_MM, STEP_MM)
    assert whole.orientation == "LPS"
    assert whole.problem is None
    assert holed.spacing_mm is None
    assert "seem to be missing: 2" in str(holed.problem)


@pytest.mark.parametrize(
    ("tags", "error", "says"),
    [
        ({"ImagePositionPatient": None}, GeometryError, "has no ImagePositionPatient of 3 numbers"),
        ({"ImageOrientationPatient": None}, GeometryError, "has no ImageOrientationPatient of 6 numbers"),
        ({"PixelSpacing": None}, GeometryError, "has no PixelSpacing of 2 numbers"),
        ({"PixelSpacing": [0, 1]}, GeometryError, "positive distances"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, GeometryError, "at right angles"),
        ({"PixelData": None}, DataError, "cannot be read"),
        ({"PixelData": b"\0\0"}, DataError, "cannot be read"),
        ({"RescaleSlope": 0}, DataError, "rescale slope 0.0"),
        ({"NumberOfFrames": 4}, DataError, "holds 4 frames"),
        ({"SamplesPerPixel": 3}, DataError, "colour image"),
        ({"ModalityLUTSequence": []}, DataError, "ModalityLUTSequence"),
    ],
)
def test_a_slice_that_cannot_be_placed_or_read_is_named_with_the_reason(tmp_path: Path, tags, error, says: str):
    write_slice(tmp_path / "bad.dcm", slice_hu(0), slice_position(0), **tags)
    text = refusal(tmp_path, error)
    assert "bad.dcm" in text
    assert says in text


@pytest.mark.parametrize("contents", [[], ["notes.txt"], ["scan.nii.gz"]])
def test_a_folder_without_dicom_is_refused(tmp_path: Path, contents: list[str]):
    for name in contents:
        (tmp_path / name).write_bytes(b"x" * 300)
    assert "holds no DICOM image" in refusal(tmp_path, DataError)
    assert not is_study(tmp_path)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path):
    assert "no such folder" in refusal(tmp_path / "nowhere", DataError)
    assert not is_study(tmp_path / "nowhere")


def test_a_dicom_folder_is_known_by_any_of_its_files(tmp_path: Path):
    (tmp_path / "a.txt").write_text("notes")
    write_slice(tmp_path / "z", slice_hu(0), slice_position(0))
    assert is_study(tmp_path)
    assert is_study(tmp_path / "z")
    assert not is_study(tmp_path / "a.txt")


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_cut_or_damaged_file_is_read_or_refused_in_one_line(tmp_path_factory, data: st.DataObject):
    folder = tmp_path_factory.mktemp("damaged")
    write_slice(folder / "a", slice_hu(0), slice_position(0))
    content = bytearray((folder / "a").read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(132, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "a").write_bytes(bytes(content))
    caught: DataError | None = None
    try:
        assert read_series(folder).array.ndim == 3
    except DataError as error:
        caught = error
    assert caught is None or ("\n" not in str(caught) and str(folder) in str(caught))


def test_the_grid_alone_is_the_grid_of_the_volume(tmp_path: Path):
    folder = write_series(tmp_path, ORIENTATIONS["oblique"])
    grid, volume = read_series_grid(folder), read_series(folder)
    np.testing.assert_array_equal(grid.affine, volume.affine)
    assert grid.shape == volume.shape
    assert grid.header == volume.header


def test_the_header_is_small_and_survives_pickling(tmp_path: Path):
    header = pickle.loads(pickle.dumps(read_series(write_series(tmp_path)).header))
    assert isinstance(header, DicomHeader)
    heights = [float(pydicom.dcmread(file).ImagePositionPatient[2]) for file in header.files]
    assert heights == [700.0 + STEP_MM * k for k in range(SLICES)]


def test_a_series_written_as_nifti_lies_at_the_same_place(tmp_path: Path):
    volume = read_image(write_series(tmp_path / "series", ORIENTATIONS["oblique"]))
    write_volume(tmp_path / "a.nii.gz", volume)
    again = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-4)
    np.testing.assert_array_equal(again.array, volume.array)


def write_chaos(folder: Path, values: tuple[int, ...] = (0, 255), masks: int = SLICES) -> tuple[Path, Path]:
    """Slices named from head to feet; mask k marks one pixel, (row 1, column k), of the k-th file by name."""
    scan, truth = folder / "DICOM_anon", folder / "Ground"
    scan.mkdir(parents=True)
    truth.mkdir()
    for k in range(SLICES):
        write_slice(scan / f"i{k + 8}.dcm", slice_hu(k), slice_position(-k))
    for k in range(masks):
        pixels = np.full((ROWS, COLUMNS), values[0], np.uint8)
        pixels[1, k % COLUMNS] = values[-1]
        Image.fromarray(pixels).save(truth / f"liver_{k:03d}.png")
    return scan, truth


def test_png_masks_follow_the_file_names_of_the_slices_not_their_positions(tmp_path: Path):
    scan, truth = write_chaos(tmp_path)
    image, mask = read_image(scan), read_label(truth, scan)
    assert mask.array.dtype == np.uint8
    assert mask.array.max() == 1
    marked = sorted(image.array[mask.array == 1].tolist())
    assert marked == [100 * k + COLUMNS + k % COLUMNS for k in range(SLICES)]
    np.testing.assert_array_equal(mask.affine, image.affine)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"masks": 4}, "holds 4 PNG masks for 5 DICOM slices"),
        ({"values": (0, 63)}, "holds the values [63] besides 0"),
    ],
)
def test_png_masks_that_do_not_fit_are_refused(tmp_path: Path, options: dict[str, Any], says: str):
    scan, truth = write_chaos(tmp_path, **options)
    with pytest.raises(DataError, match=r"^[^\n]*$") as caught:
        read_label(truth, scan)
    assert says in str(caught.value)
    assert str(truth) in str(caught.value)


def test_broken_and_wrongly_sized_pngs_are_refused(tmp_path: Path):
    scan, truth = write_chaos(tmp_path)
    Image.fromarray(np.zeros((ROWS + 1, COLUMNS), np.uint8)).save(truth / "liver_002.png")
    with pytest.raises(DataError, match=r"liver_002.png: has shape \(4, 4\), its DICOM slice \(3, 4\)"):
        read_label(truth, scan)
    (truth / "liver_002.png").write_text("no picture")
    with pytest.raises(DataError, match=r"liver_002.png: cannot be read as PNG"):
        read_label(truth, scan)


def test_png_masks_need_a_dicom_series(tmp_path: Path):
    volume = Volume(np.zeros((COLUMNS, ROWS, SLICES), np.int16), np.eye(4))
    with pytest.raises(DataError, match="was not read from one"):
        read_png_stack(write_chaos(tmp_path)[1], volume)
    with pytest.raises(DataError, match="no such folder of PNG masks"):
        read_png_stack(tmp_path / "nowhere", read_series_grid(tmp_path / "DICOM_anon"))


@pytest.mark.parametrize(("dtype", "expected"), [(np.float32, "uint8"), (np.int16, "uint8")])
def test_labels_are_integers_whatever_number_type_the_file_has(tmp_path: Path, dtype, expected: str):
    labels = np.arange(8).reshape(2, 2, 2).astype(dtype)
    write_volume(tmp_path / "a.nii.gz", Volume(labels, np.eye(4)))
    read = read_label(tmp_path / "a.nii.gz", tmp_path / "unused")
    assert read.array.dtype == np.dtype(expected)
    np.testing.assert_array_equal(read.array, labels)


@pytest.mark.parametrize(("value", "named"), [(0.5, "0.5"), (np.nan, "nan"), (np.inf, "inf")])
def test_labels_that_are_no_whole_numbers_are_named(tmp_path: Path, value: float, named: str):
    labels = np.zeros((2, 2, 2), np.float32)
    labels[0, 0, 1] = value
    write_volume(tmp_path / "a.nii.gz", Volume(labels, np.eye(4)))
    with pytest.raises(DataError, match=f"a.nii.gz: labels are whole numbers, found {named} in 1 voxels"):
        read_label(tmp_path / "a.nii.gz", tmp_path / "unused")
