"""Volumes in files: every voxel where other readers have it, and back."""

import gzip
import itertools
import pickle
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from fullscale.data.volume_files import read_volume, smallest_integer_type, volume_stem, volume_suffix, write_volume
from fullscale.geometry.volume import Volume, describe_mismatch
from tests.volumes import WRITABLE, make_array, make_volume

SIGNED_PERMUTATIONS = [
    np.eye(3)[list(order)] * signs
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
]
OBLIQUE = Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix()


def ras_points_by_itk(image: sitk.Image) -> dict[tuple[int, ...], np.ndarray]:
    """Where SimpleITK places each corner voxel, its LPS turned to RAS by hand."""
    corners = itertools.product(*((0, size - 1) for size in image.GetSize()))
    return {c: np.array(image.TransformIndexToPhysicalPoint(c)) * (-1, -1, 1) for c in corners}


def voxel_mm(volume: Volume, index: tuple[int, ...]) -> np.ndarray:
    return (volume.affine @ (*index, 1))[:3]


@pytest.mark.parametrize("direction", [*SIGNED_PERMUTATIONS, OBLIQUE], ids=range(49))
def test_every_format_of_one_itk_image_gives_the_same_voxels_at_the_same_mm(tmp_path: Path, direction: np.ndarray):
    image = sitk.GetImageFromArray(make_array((6, 5, 4)))
    image.SetDirection(direction.ravel().tolist())
    image.SetSpacing((0.7, 1.3, 5.0))
    image.SetOrigin((-185.0, 98.0, 1690.5))
    for name in ("a.nii.gz", "a.nii", "a.nrrd", "a.nhdr", "a.mha", "a.mhd"):
        sitk.WriteImage(image, str(tmp_path / name))
        volume = read_volume(tmp_path / name)
        for corner, expected_mm in ras_points_by_itk(image).items():
            assert volume.array[corner] == image[corner]
            np.testing.assert_allclose(voxel_mm(volume, corner), expected_mm, atol=2e-4)


@settings(deadline=None, max_examples=30)
@given(
    order=st.sampled_from(SIGNED_PERMUTATIONS),
    degrees=st.tuples(*[st.floats(-40, 40)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 6)] * 3),
    origin=st.tuples(*[st.floats(-900, 900)] * 3),
    name=st.sampled_from(WRITABLE),
)
def test_itk_places_what_we_wrote_where_we_meant(tmp_path_factory, order, degrees, spacing, origin, name):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ order * spacing
    affine[:3, 3] = origin
    volume = Volume(make_array((3, 4, 5)), affine)
    path = tmp_path_factory.mktemp("written") / name
    write_volume(path, volume)
    image = sitk.ReadImage(str(path))
    for corner, placed_mm in ras_points_by_itk(image).items():
        assert image[corner] == volume.array[corner]
        np.testing.assert_allclose(placed_mm, voxel_mm(volume, corner), atol=1e-3)
    again = read_volume(path)
    assert describe_mismatch(volume, again) is None
    np.testing.assert_array_equal(again.array, volume.array)


@pytest.mark.parametrize("space", ["right-anterior-superior", "left-anterior-superior"])
def test_nrrd_in_another_anatomical_space_is_placed_by_its_own_axes(tmp_path: Path, space: str):
    header = (
        f"NRRD0004\ntype: short\ndimension: 3\nspace: {space}\nsizes: 2 3 4\n"
        "space directions: (1,0,0) (0,2,0) (0,0,3)\nkinds: domain domain domain\n"
        "endian: little\nencoding: raw\nspace origin: (10,20,30)\n\n"
    )
    path = tmp_path / "a.nrrd"
    path.write_bytes(header.encode() + make_array((2, 3, 4)).tobytes())
    x_sign = 1 if space.startswith("right") else -1
    expected = np.array([[x_sign, 0, 0, x_sign * 10], [0, 2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]])
    np.testing.assert_allclose(read_volume(path).affine, expected, atol=1e-9)


def test_a_mask_written_on_a_nifti_header_keeps_codes_units_and_description(tmp_path: Path):
    image = nib.Nifti1Image(make_array(), make_volume().affine)
    image.set_sform(image.affine, code=4)
    image.set_qform(image.affine, code=1)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"portal venous"
    image.header["cal_max"] = 250
    nib.save(image, tmp_path / "scan.nii.gz")
    scan = read_volume(tmp_path / "scan.nii.gz")
    write_volume(tmp_path / "mask.nii.gz", scan.with_array((scan.array > 0).astype(np.int64)))
    written = nib.load(tmp_path / "mask.nii.gz")
    assert (int(written.header["sform_code"]), int(written.header["qform_code"])) == (4, 1)
    assert written.header.get_xyzt_units() == ("mm", "sec")
    assert bytes(written.header["descrip"].item()) == b"portal venous"
    assert written.header["cal_max"] == 0
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(written.affine, nib.load(tmp_path / "scan.nii.gz").affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj), make_array() > 0)


def test_scl_slope_of_a_written_mask_is_one_in_the_file_itself(tmp_path: Path):
    image = nib.Nifti1Image(make_array(), np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    nib.save(image, tmp_path / "scan.nii")
    scan = read_volume(tmp_path / "scan.nii")
    write_volume(tmp_path / "mask.nii", scan.with_array((scan.array > 0).astype(np.uint8)))
    slope, inter = struct.unpack("<2f", (tmp_path / "mask.nii").read_bytes()[112:120])
    assert (slope, inter) == (1.0, 0.0)


def test_a_moved_volume_is_written_where_it_was_moved_to_whatever_its_header_says(tmp_path: Path):
    write_volume(tmp_path / "scan.nii.gz", make_volume())
    scan = read_volume(tmp_path / "scan.nii.gz")
    moved = scan.affine.copy()
    moved[0, 3] += 0.001
    write_volume(tmp_path / "moved.nii.gz", Volume(scan.array, moved, scan.header))
    np.testing.assert_allclose(nib.load(tmp_path / "moved.nii.gz").affine, moved, atol=2e-5)


def test_a_sheared_grid_goes_to_the_sform_alone(tmp_path: Path):
    affine = np.eye(4)
    affine[1, 2] = 0.3
    write_volume(tmp_path / "a.nii", Volume(make_array(), affine))
    written = nib.load(tmp_path / "a.nii")
    assert (int(written.header["sform_code"]), int(written.header["qform_code"])) == (1, 0)
    np.testing.assert_allclose(read_volume(tmp_path / "a.nii").affine, affine, atol=1e-6)


@pytest.mark.parametrize(("source", "target"), list(itertools.permutations(WRITABLE, 2)))
def test_crossing_formats_keeps_voxels_and_place(tmp_path: Path, source: str, target: str):
    volume = make_volume(low=0, high=3)
    write_volume(tmp_path / "in" / source, volume)
    write_volume(tmp_path / "out" / target, read_volume(tmp_path / "in" / source))
    back = read_volume(tmp_path / "out" / target)
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.array.dtype == np.uint8
    assert describe_mismatch(volume, back) is None


def test_slope_and_intercept_are_applied_as_float32(tmp_path: Path):
    intensities = make_array() / 7
    nib.save(nib.Nifti1Image(intensities, np.eye(4), dtype=np.int16), tmp_path / "a.nii.gz")
    raw = gzip.decompress((tmp_path / "a.nii.gz").read_bytes())
    slope, inter = struct.unpack("<2f", raw[112:120])
    kept = np.frombuffer(raw[352:], np.int16).reshape(intensities.shape, order="F")
    volume = read_volume(tmp_path / "a.nii.gz")
    assert volume.array.dtype == np.float32
    assert slope not in (0.0, 1.0)
    np.testing.assert_allclose(volume.array, kept * np.float64(slope) + inter, atol=1e-4)
    np.testing.assert_allclose(volume.array, intensities, atol=slope)


def test_integers_without_scaling_stay_integers_of_native_byte_order(tmp_path: Path):
    image = nib.Nifti1Image(make_array(), np.eye(4), nib.Nifti1Header(endianness=">"), dtype=np.int16)
    nib.save(image, tmp_path / "a.nii")
    assert struct.unpack(">i", (tmp_path / "a.nii").read_bytes()[:4]) == (348,)
    volume = read_volume(tmp_path / "a.nii")
    assert volume.array.dtype == np.dtype("int16")
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.array, make_array())


def test_nan_and_infinity_are_kept(tmp_path: Path):
    array = make_array().astype(np.float64)
    array[0, 0, 0], array[1, 1, 1] = np.nan, np.inf
    for name in WRITABLE:
        write_volume(tmp_path / name, Volume(array, np.eye(4)))
        read = read_volume(tmp_path / name).array
        assert read.dtype == np.float32
        assert np.isnan(read[0, 0, 0])
        assert np.isposinf(read[1, 1, 1])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0, 1), "uint8"),
        ((0, 255), "uint8"),
        ((0, 256), "int16"),
        ((-1, 2), "int8"),
        ((-200, 2), "int16"),
        ((0, 40000), "uint16"),
        ((-1, 40000), "int32"),
        ((0, 2**31), "uint32"),
    ],
)
def test_integers_are_stored_as_the_smallest_type_that_holds_them(tmp_path: Path, values, expected: str):
    array = np.array(values, np.int64).reshape(2, 1, 1)
    assert smallest_integer_type(array) == np.dtype(expected)
    for name in ("a.nii.gz", "a.nrrd"):
        write_volume(tmp_path / name, Volume(array, np.eye(4)))
        read = read_volume(tmp_path / name).array
        assert read.dtype == np.dtype(expected)
        np.testing.assert_array_equal(read, array)


def test_a_boolean_mask_is_stored_as_zeros_and_ones(tmp_path: Path):
    write_volume(tmp_path / "a.nii.gz", Volume(make_array() > 0, np.eye(4)))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").array, (make_array() > 0).astype(np.uint8))


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha"])
def test_a_single_trailing_time_point_is_squeezed(tmp_path: Path, name: str):
    array = make_array((4, 5, 6, 1))
    if name.endswith(".mha"):
        image = sitk.Image([4, 5, 6, 1], sitk.sitkInt16)
        for index in np.ndindex(array.shape):
            image[index] = int(array[index])
        image.SetOrigin((1.0, 2.0, 3.0, 0.0))
        sitk.WriteImage(image, str(tmp_path / name))
    else:
        nib.save(nib.Nifti1Image(array, np.diag([1, 1, 1, 1])), tmp_path / name)
    volume = read_volume(tmp_path / name)
    np.testing.assert_array_equal(volume.array, array[..., 0])
    if name.endswith(".mha"):
        np.testing.assert_allclose(volume.affine[:3, 3], (-1, -2, 3))


def test_nifti_2_is_read_and_written_as_nifti_2(tmp_path: Path):
    nib.save(nib.Nifti2Image(make_array(), np.eye(4)), tmp_path / "a.nii.gz")
    scan = read_volume(tmp_path / "a.nii.gz")
    write_volume(tmp_path / "b.nii.gz", scan)
    assert isinstance(nib.load(tmp_path / "b.nii.gz"), nib.Nifti2Image)


def test_a_volume_survives_pickling_with_its_header(tmp_path: Path):
    write_volume(tmp_path / "a.nii.gz", make_volume())
    scan = pickle.loads(pickle.dumps(read_volume(tmp_path / "a.nii.gz")))
    write_volume(tmp_path / "b.nii.gz", scan)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_a_compressed_file_without_gz_in_its_name_is_read(tmp_path: Path):
    write_volume(tmp_path / "a.nii.gz", make_volume())
    (tmp_path / "a.nii.gz").rename(tmp_path / "a.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").array, make_volume().array)


def test_a_description_is_stored(tmp_path: Path):
    for name in ("a.nii.gz", "a.nrrd"):
        write_volume(tmp_path / name, make_volume(), description="synthetic")
        image = sitk.ReadImage(str(tmp_path / name))
        assert "synthetic" in [image.GetMetaData(key) for key in image.GetMetaDataKeys()]


def test_suffix_and_stem_of_names():
    assert volume_suffix("folder.nii/a.NII.GZ") == ".nii.gz"
    assert volume_suffix("a.PNG") == ".png"
    assert volume_suffix("a.pdf") is None
    assert volume_suffix(".nii.gz") is None
    assert volume_stem("x/case.1_0000.nii.gz") == "case.1_0000"
    assert volume_stem("x/patient") == "patient"
