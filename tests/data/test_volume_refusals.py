"""Volume files that cannot be read or written: refused in one line, and nothing is torn."""

import gzip
import resource
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from fullscale.data import volume_files
from fullscale.data.volume_files import read_volume, write_volume
from fullscale.errors import DataError, FullscaleError, GeometryError
from fullscale.geometry.volume import Volume
from tests.volumes import WRITABLE, make_array, make_volume, one_line_about


def refusal(path: Path, error: type[FullscaleError] = DataError) -> str:
    """What is said of a file that cannot be read: one line that names it."""
    with pytest.raises(error) as caught:
        read_volume(path)
    assert one_line_about(caught.value, path)
    return str(caught.value)


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
        ("a.png", save_text, "cannot be read"),
        ("a.docx", save_text, "'.docx' is not a volume file; use one of .nii.gz, .nii, .nrrd"),
        ("a.nii.gz", Path.mkdir, "is a folder"),
        ("a.nii.gz", lambda _: None, "no such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path, name: str, save, says: str):
    save(tmp_path / name)
    assert says in refusal(tmp_path / name)


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
    assert says in refusal(tmp_path / name, GeometryError)


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
        ("a.webp", np.zeros((2, 2, 2), np.uint8), "'.webp' is not a volume file"),
        ("a.png", np.zeros((2, 2, 2), np.uint8), "a PNG holds one slice of whole numbers; write .tif"),
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
