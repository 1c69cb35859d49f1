import gzip
import itertools
import pickle
import resource
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from fullscale.data import volume_files
from fullscale.data.volume_files import read_volume, smallest_integer_type, volume_stem, volume_suffix, write_volume
from fullscale.errors import DataError, FullscaleError, GeometryError
from fullscale.geometry.volume import Volume, describe_mismatch

WRITABLE = ("case.nii.gz", "case.nii", "case.nrrd", "case.mha")
SIGNED_PERMUTATIONS = [
    np.eye(3)[list(order)] * signs
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
]
OBLIQUE = Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix()


def make_array(shape: tuple[int, ...] = (4, 5, 6), low: int = -1000, high: int = 1000) -> np.ndarray:
    return np.random.default_rng(7).integers(low, high, shape).astype(np.int16)


def make_volume(**options: int) -> Volume:
    affine = np.array([[-0.7, 0, 0, 172.9], [0, 0.7, 0, -179.3], [0, 0, 5, -368], [0, 0, 0, 1]])
    return Volume(make_array(**options), affine)


def one_line_about(error: BaseException, path: Path) -> bool:
    return "\n" not in str(error) and str(path) in str(error)


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
    assert volume_suffix("a.png") is None
    assert volume_suffix(".nii.gz") is None
    assert volume_stem("x/case.1_0000.nii.gz") == "case.1_0000"
    assert volume_stem("x/patient") == "patient"


def save_text(path: Path) -> None:
    path.write_text("no scan\n" * 100)


def save_empty(path: Path) -> None:
    path.touch()


def save_cut(path: Path) -> None:
    write_volume(path, make_volume())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])


def save_without_checksum(path: Path) -> None:
    write_volume(path, make_volume())
    path.write_bytes(path.read_bytes()[:-5])


def save_corrupt_checksum(path: Path) -> None:
    write_volume(path, make_volume())
    whole = bytearray(path.read_bytes())
    whole[-6] ^= 0xFF
    path.write_bytes(bytes(whole))


def save_header_only(path: Path) -> None:
    write_volume(path, make_volume())
    path.write_bytes(path.read_bytes()[:100])


def save_bad_datatype(path: Path) -> None:
    write_volume(path, make_volume())
    content = bytearray(path.read_bytes())
    content[70:72] = struct.pack("<h", 999)
    path.write_bytes(bytes(content))


def save_four_dimensional(path: Path) -> None:
    nib.save(nib.Nifti1Image(make_array((4, 5, 6, 3)), np.diag([1, 1, 1, 1])), path)


def save_flat(path: Path) -> None:
    nib.save(nib.Nifti1Image(make_array((4, 5)), np.diag([1, 1, 1, 1])), path)


def save_colour(path: Path) -> None:
    rgb = np.zeros((4, 5, 6), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    nib.save(nib.Nifti1Image(rgb, np.eye(4)), path)


def save_vectors(path: Path) -> None:
    sitk.WriteImage(sitk.Image([3, 4, 5], sitk.sitkVectorInt16, 2), str(path))


@pytest.mark.parametrize(
    ("name", "save", "says"),
    [
        ("a.nii.gz", save_text, "is not a NIfTI file"),
        ("a.nii", save_text, "is not a NIfTI file"),
        ("a.mha", save_text, "cannot be read"),
        ("a.nrrd", save_text, "cannot be read"),
        *((f"a{suffix}", save_empty, "is empty (0 bytes)") for suffix in volume_files.SUFFIXES),
        *((name, save_cut, "cannot be read") for name in WRITABLE),
        ("a.nii.gz", save_without_checksum, "cannot be read"),
        ("a.nii.gz", save_corrupt_checksum, "cannot be read"),
        ("a.nii", save_header_only, "cannot be read"),
        ("a.nii", save_bad_datatype, "cannot be read"),
        ("a.nii.gz", save_four_dimensional, "shape (4, 5, 6, 3) has 4 dimensions, expected one 3D scan; split it"),
        ("a.nii.gz", save_flat, "shape (4, 5) has 2 dimensions"),
        ("a.nii.gz", save_colour, "expected plain numbers"),
        ("a.nrrd", save_vectors, "holds 2 values a voxel"),
        ("a.png", save_text, "'.png' is not a volume file; use one of .nii.gz, .nii, .nrrd"),
        ("a.nii.gz", Path.mkdir, "is a folder"),
        ("a.nii.gz", lambda _: None, "no such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path, name: str, save, says: str):
    save(tmp_path / name)
    with pytest.raises(DataError) as caught:
        read_volume(tmp_path / name)
    assert one_line_about(caught.value, tmp_path / name)
    assert says in str(caught.value)


def save_codes_zero(path: Path) -> None:
    image = nib.Nifti1Image(make_array(), None)
    assert int(image.header["sform_code"]) == int(image.header["qform_code"]) == 0
    nib.save(image, path)


def save_in_metres(path: Path) -> None:
    image = nib.Nifti1Image(make_array(), np.diag([0.001, 0.001, 0.001, 1]))
    image.header.set_xyzt_units("meter")
    nib.save(image, path)


def save_without_place(path: Path) -> None:
    write_volume(path, make_volume())
    head, mark, body = path.read_bytes().partition(b"\n\n" if path.suffix == ".nrrd" else b"ElementDataFile")
    gone = (b"space", b"Offset", b"TransformMatrix")
    path.write_bytes(b"\n".join(line for line in head.split(b"\n") if not line.startswith(gone)) + mark + body)


def save_flattened(path: Path) -> None:
    image = nib.Nifti1Image(make_array(), np.eye(4))
    image.header["srow_z"] = 0
    image.header["sform_code"] = 1
    nib.Nifti1Image(make_array(), None, image.header).to_filename(path)


@pytest.mark.parametrize(
    ("name", "save", "says"),
    [
        ("a.nii.gz", save_codes_zero, "qform_code and sform_code are both 0"),
        ("a.nii.gz", save_in_metres, "stores positions in meter, expected mm"),
        ("a.nii.gz", save_flattened, "flattens the volume"),
        ("a.nrrd", save_without_place, "no space in its header"),
        ("a.mha", save_without_place, "no TransformMatrix, Offset in its header"),
    ],
)
def test_no_affine_is_invented(tmp_path: Path, name: str, save, says: str):
    save(tmp_path / name)
    with pytest.raises(GeometryError) as caught:
        read_volume(tmp_path / name)
    assert one_line_about(caught.value, tmp_path / name)
    assert says in str(caught.value)


@settings(deadline=None, max_examples=150)
@given(position=st.integers(0, 351), value=st.integers(0, 255), name=st.sampled_from(["a.nii", "a.nii.gz"]))
def test_a_damaged_header_is_read_or_refused_in_one_line(tmp_path_factory, position: int, value: int, name: str):
    path = tmp_path_factory.getbasetemp() / f"damaged-{name}"
    write_volume(path, make_volume())
    content = path.read_bytes()
    raw = bytearray(gzip.decompress(content) if name.endswith("gz") else content)
    raw[position] = value
    path.write_bytes(gzip.compress(bytes(raw)) if name.endswith("gz") else bytes(raw))
    refusal: DataError | None = None
    try:
        assert read_volume(path).array.ndim == 3
    except DataError as error:
        refusal = error
    assert refusal is None or one_line_about(refusal, path)


@pytest.mark.parametrize("name", WRITABLE)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, name: str):
    path = tmp_path / name
    write_volume(path, make_volume())
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(FullscaleError) as caught:
            write_volume(path, make_volume(shape=(40, 40, 40)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert one_line_about(caught.value, path)
    assert caught.value.exit_code == 1
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_interrupted_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch, interruption):
    path = tmp_path / "mask.nii.gz"
    write_volume(path, make_volume())
    before = path.read_bytes()

    def half_a_file(_: nib.Nifti1Image, temporary: Path) -> None:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith("mask.nii.gz")
        temporary.write_bytes(b"half")
        raise interruption

    monkeypatch.setattr(nib, "save", half_a_file)
    with pytest.raises((KeyboardInterrupt, FullscaleError)):
        write_volume(path, make_volume())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "array", "says"),
    [
        ("a.png", np.zeros((2, 2, 2), np.uint8), "'.png' is not a volume file"),
        ("a.mhd", np.zeros((2, 2, 2), np.uint8), "write .mha or .nrrd"),
        ("a.nii.gz", np.zeros((2, 2, 2), np.complex64), "complex64"),
        ("a.nii.gz", np.zeros((2, 0, 2), np.uint8), "shape (2, 0, 2)"),
    ],
)
def test_what_cannot_be_written_is_refused_in_one_line(tmp_path: Path, name: str, array: np.ndarray, says: str):
    with pytest.raises(DataError) as caught:
        write_volume(tmp_path / name, Volume(array, np.eye(4)))
    assert one_line_about(caught.value, tmp_path / name)
    assert says in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(FullscaleError) as caught:
        write_volume(tmp_path / "file" / "a.nii.gz", make_volume())
    assert one_line_about(caught.value, tmp_path / "file" / "a.nii.gz")
