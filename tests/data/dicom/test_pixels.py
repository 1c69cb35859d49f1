"""Pixels: compressed, shifted, and in multi-frame files."""

from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from fullscale.data.dicom.series import read_series
from fullscale.data.read import read_image
from fullscale.errors import GeometryError
from tests.dicom_slices import (
    COLUMNS,
    ROWS,
    SLICES,
    refusal,
    slice_hu,
    slice_position,
    write_enhanced,
    write_series,
    write_slice,
)


def compress(file: Path, syntax: str, photometric: str = "MONOCHROME2") -> None:
    """Encode the pixels of a file that was written plainly."""
    dataset = pydicom.dcmread(file)
    dataset.PhotometricInterpretation = photometric
    if syntax == JPEGLosslessSV1:
        frame = imagecodecs.jpeg_encode(dataset.pixel_array, lossless=True, bitspersample=16)
        dataset.PixelData = encapsulate([frame])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax
    else:
        plugins = {RLELossless: "pydicom", JPEG2000Lossless: "pylibjpeg", JPEGLSLossless: "pyjpegls"}
        dataset.compress(syntax, encoding_plugin=plugins[syntax], generate_instance_uid=False)
    dataset.save_as(file, enforce_file_format=True)


@pytest.mark.parametrize(
    "syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1], ids=lambda u: u.name
)
def test_compressed_pixels_are_the_plain_ones(tmp_path: Path, syntax: str):
    pixels = np.random.default_rng(0).integers(-1024, 3000, (SLICES, 37, 45))
    for k in range(SLICES):
        for folder in (tmp_path / "plain", tmp_path / "packed"):
            folder.mkdir(exist_ok=True)
            write_slice(folder / f"{k}.dcm", pixels[k], slice_position(k))
    plain, folder = read_series(tmp_path / "plain"), tmp_path / "packed"
    for file in folder.iterdir():
        compress(file, syntax)
    packed = read_series(folder)
    np.testing.assert_array_equal(packed.array, plain.array)
    assert packed.array.dtype == plain.array.dtype
    image = sitk.ReadImage([str(file) for file in packed.header.files])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, packed.array)


def test_a_damaged_lossless_jpeg_is_refused_in_one_line(tmp_path: Path):
    folder = write_series(tmp_path / "packed")
    file = sorted(folder.iterdir())[0]
    compress(file, JPEGLosslessSV1)
    content = file.read_bytes()
    start = content.index(b"\xff\xd8\xff")
    file.write_bytes(content[: start + 20] + bytes(len(content) - start - 20))
    assert file.name in refusal(folder)


def test_monochrome1_says_how_to_show_values_not_what_they_are(tmp_path: Path):
    shown = read_series(write_series(tmp_path / "one", PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(shown.array, read_series(write_series(tmp_path / "two")).array)


def test_bits_above_the_stored_ones_do_not_count(tmp_path: Path):
    stored = (slice_hu(0) + 1024).astype(np.uint16) | 0xF000
    options = {"BitsStored": 12, "HighBit": 11, "PixelData": stored.tobytes()}
    write_slice(tmp_path / "a", slice_hu(0), slice_position(0), **options)
    np.testing.assert_array_equal(read_series(tmp_path).array[:, :, 0].T, slice_hu(0))
    signed = {"PixelRepresentation": 1, "PixelData": np.full((ROWS, COLUMNS), 0x0FFF, np.uint16).tobytes()}
    write_slice(tmp_path / "a", slice_hu(0), slice_position(0), **options | signed)
    assert set(read_series(tmp_path).array.ravel().tolist()) == {-1 - 1024}


def test_an_enhanced_ct_is_the_same_volume_frame_by_frame(tmp_path: Path):
    plain = read_series(write_series(tmp_path / "plain"))
    enhanced = read_series(write_enhanced(tmp_path / "enhanced", [3, 0, 4, 2, 1]))
    slopes = np.arange(1, SLICES + 1)
    np.testing.assert_array_equal(enhanced.array, plain.array * slopes)
    np.testing.assert_allclose(enhanced.affine, plain.affine)
    alone = read_image(tmp_path / "enhanced" / "enhanced.dcm")
    np.testing.assert_array_equal(alone.array, enhanced.array)
    assert "frame 2 " in refusal_of_frames(tmp_path / "twice", [0, 1, 1])
    assert "from 700.00 to 706.00 mm" in refusal_of_frames(tmp_path / "gap", [0, 2, 3, 4])


def refusal_of_frames(folder: Path, order: list[int]) -> str:
    return refusal(write_enhanced(folder, order), GeometryError)


def test_a_frame_count_that_disagrees_with_the_frames_is_refused(tmp_path: Path):
    folder = write_enhanced(tmp_path / "enhanced", [0, 1, 2], NumberOfFrames=9)
    assert "states 9 frames but describes 3" in refusal(folder)
