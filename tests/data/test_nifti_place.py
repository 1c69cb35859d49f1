"""Where a NIfTI lies when its header says it twice, or with the rounding of another writer."""

import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from fullscale.data.volume_files import read_volume, write_volume
from fullscale.errors import DataError, GeometryError
from fullscale.geometry.volume import describe_mismatch

HALF_TURN = np.diag([-7.0, -7.0, 24.0, 1.0])
HALF_TURN[:3, 3] = (165, 165, -100)
VOXELS = np.arange(60, dtype=np.int16).reshape(3, 4, 5)


def save(path: Path, sform: np.ndarray | None, qform: np.ndarray | None, codes: tuple[int, int] = (2, 1)) -> Path:
    image = nib.Nifti1Image(VOXELS, None)
    image.set_sform(sform, codes[0] if sform is not None else 0)
    image.set_qform(qform, codes[1] if qform is not None else 0)
    nib.save(image, path)
    return path


def with_quaternion(path: Path, d: float) -> Path:
    """A qform of half a turn about z, b = c = 0, whose d is what another writer's rounding made of it."""
    content = bytearray(save(path, None, HALF_TURN).read_bytes())
    content[256:268] = struct.pack("<3f", 0, 0, d)
    path.write_bytes(bytes(content))
    return path


@pytest.mark.parametrize("excess", [2e-7, 5e-6, 1e-4])
def test_a_quaternion_longer_than_one_by_rounding_is_read_as_simpleitk_reads_it(tmp_path: Path, excess: float):
    path = with_quaternion(tmp_path / "a.nii", 1 + excess)
    volume = read_volume(path)
    np.testing.assert_allclose(volume.affine, HALF_TURN, atol=1e-4)
    image = sitk.ReadImage(str(path))
    np.testing.assert_allclose(image.GetDirection(), np.eye(3).ravel(), atol=1e-6)
    np.testing.assert_array_equal(volume.array, VOXELS)
    assert len(volume.notes) == (1 if excess == 1e-4 else 0)
    write_volume(tmp_path / "mask.nii", volume.with_array(VOXELS % 2))
    assert describe_mismatch(read_volume(tmp_path / "mask.nii"), volume) is None
    np.testing.assert_allclose(nib.load(tmp_path / "mask.nii").affine, HALF_TURN, atol=1e-4)


def test_a_quaternion_that_is_no_rotation_is_refused_or_not_used(tmp_path: Path):
    with pytest.raises(DataError, match=r"^[^\n]*a.nii: [^\n]*$"):
        read_volume(with_quaternion(tmp_path / "a.nii", 1.4))
    content = bytearray(save(tmp_path / "b.nii", HALF_TURN, HALF_TURN).read_bytes())
    content[256:268] = struct.pack("<3f", 0, 0, 1.4)
    (tmp_path / "b.nii").write_bytes(bytes(content))
    volume = read_volume(tmp_path / "b.nii")
    np.testing.assert_allclose(volume.affine, HALF_TURN)
    assert volume.notes == ("sform (code 2) is used; the qform is no rotation",)


def test_a_flat_sform_gives_way_to_the_qform(tmp_path: Path):
    flat = HALF_TURN.copy()
    flat[2] = 0
    volume = read_volume(save(tmp_path / "a.nii", flat, HALF_TURN))
    np.testing.assert_allclose(volume.affine, HALF_TURN, atol=1e-5)
    assert volume.notes == ("the sform (code 2) is flat or not finite; the qform (code 1) is used",)
    image = sitk.ReadImage(str(tmp_path / "a.nii"))
    np.testing.assert_allclose(image.GetOrigin(), (-165, -165, -100), atol=1e-4)
    write_volume(tmp_path / "mask.nii", volume.with_array(VOXELS % 2))
    np.testing.assert_allclose(nib.load(tmp_path / "mask.nii").affine, HALF_TURN, atol=1e-5)
    with pytest.raises(GeometryError, match="flattens the volume"):
        read_volume(save(tmp_path / "b.nii", flat, None))


def test_where_sform_and_qform_disagree_the_one_that_is_used_is_told(tmp_path: Path):
    moved = HALF_TURN.copy()
    moved[0, 3] += 12
    volume = read_volume(save(tmp_path / "a.nii", HALF_TURN, moved))
    np.testing.assert_allclose(volume.affine, HALF_TURN)
    [note] = volume.notes
    assert note.startswith(
        "sform (code 2) is used, qform (code 1) would place it otherwise: affines differ by up to 12 mm"
    )
    assert "origin (165, 165, -100) mm and (177, 165, -100) mm" in note
    assert read_volume(save(tmp_path / "b.nii", HALF_TURN, HALF_TURN)).notes == ()
    assert read_volume(save(tmp_path / "c.nii", HALF_TURN, moved, (2, 0))).notes == ()
    np.testing.assert_allclose(
        read_volume(save(tmp_path / "d.nii", moved, HALF_TURN, (0, 1))).affine, HALF_TURN, atol=1e-5
    )
