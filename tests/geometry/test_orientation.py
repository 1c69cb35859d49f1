"""Reorientation against nibabel, resizing against torch and against exact integrals."""

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from fullscale.errors import GeometryError, UsageError
from fullscale.geometry.orientation import axis_codes, reorient, reorientation
from fullscale.geometry.resample import interpolation_matrix, resample_labels, resize_label_slices, resize_slices
from fullscale.geometry.volume import Volume, describe_mismatch, require_same_grid

ORIENTATIONS = ["".join(p) for axes in permutations(["LR", "PA", "IS"]) for p in product(*axes)]


def oblique(rng: np.random.Generator) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix() @ np.diag(
        rng.uniform(0.5, 5, 3)
    )
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    return affine


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_every_orientation_agrees_with_nibabel_and_comes_back(codes: str) -> None:
    rng = np.random.default_rng(7)
    volume = Volume(rng.integers(0, 99, (4, 5, 6)), oblique(rng))
    moved = reorient(volume, codes)
    image = nib.Nifti1Image(volume.array.astype(np.int16), volume.affine)
    target = nib.orientations.ornt_transform(
        nib.io_orientation(volume.affine), nib.orientations.axcodes2ornt(tuple(codes))
    )
    expected = image.as_reoriented(target)
    np.testing.assert_array_equal(moved.array, np.asanyarray(expected.dataobj))
    np.testing.assert_allclose(moved.affine, expected.affine, atol=1e-9)
    assert axis_codes(moved.affine) == codes == "".join(nib.aff2axcodes(moved.affine))
    change = reorientation(volume.affine, codes)
    np.testing.assert_array_equal(change.undo(change.apply(volume.array)), volume.array)


@given(st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_a_voxel_keeps_its_place_in_the_patient(seed: int) -> None:
    rng = np.random.default_rng(seed)
    volume = Volume(np.zeros((3, 4, 5), dtype=np.int8), oblique(rng))
    index = rng.integers(0, volume.shape)
    volume.array[tuple(index)] = 1
    moved = reorient(volume, "RAS")
    found = np.argwhere(moved.array)[0]
    np.testing.assert_allclose(moved.affine @ [*found, 1], volume.affine @ [*index, 1], atol=1e-9)


@pytest.mark.parametrize("codes", ["RA", "RAX", "RLS", "", "RASS"])
def test_impossible_orientations_are_refused(codes: str) -> None:
    with pytest.raises(UsageError, match="orientation"):
        reorientation(np.eye(4), codes)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_growing_equals_torch_without_aligned_corners(size: int, extra: int, seed: int) -> None:
    image = np.random.default_rng(seed).normal(size=(2, size, size + 1)).astype(np.float32)
    shape = (size + extra, size + 1 + extra)
    exact = torch.from_numpy(image).double()[None]  # in float32 torch's own places of pixels are off by as much as 1e-5
    expected = torch.nn.functional.interpolate(exact, shape, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(resize_slices(image, shape), expected[0].numpy(), atol=2e-6)


def test_shrinking_keeps_a_ramp_a_ramp_and_counts_every_voxel() -> None:
    matrix = interpolation_matrix(12, 4)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-6)
    assert (matrix.sum(axis=0) > 0).all()
    np.testing.assert_allclose((matrix @ np.arange(12.0))[1:-1], [4, 7], rtol=1e-6)


def test_labels_take_the_majority_and_invent_nothing() -> None:
    labels = np.zeros((1, 4, 4), dtype=np.uint8)
    labels[0, :, 2:] = 7
    labels[0, 0, 0] = 3
    small = resize_label_slices(labels, (2, 2))
    assert set(np.unique(small)) <= {0, 3, 7}
    np.testing.assert_array_equal(small[0], [[0, 7], [0, 7]])
    np.testing.assert_array_equal(resize_label_slices(labels, (4, 4)), labels)


def test_a_volume_refuses_what_has_no_place() -> None:
    with pytest.raises(GeometryError, match="3 dimensions"):
        Volume(np.zeros((2, 2)), np.eye(4))
    with pytest.raises(GeometryError, match="flattens"):
        Volume(np.zeros((2, 2, 2)), np.diag([1.0, 0, 1, 1]))
    with pytest.raises(GeometryError, match="4x4"):
        Volume(np.zeros((2, 2, 2)), np.full((4, 4), np.nan))


def test_grids_that_differ_are_named_with_numbers() -> None:
    a = Volume(np.zeros((10, 10, 10)), np.diag([1.0, 1, 5, 1]))
    shifted = np.diag([1.0, 1, 5, 1])
    shifted[0, 3] = 0.5
    assert describe_mismatch(a, Volume(a.array, a.affine + 1e-6)) is None
    with pytest.raises(GeometryError, match=r"0\.5 mm"):
        require_same_grid(a, Volume(a.array, shifted))
    with pytest.raises(GeometryError, match=r"\(10, 10, 10\) and \(10, 10, 9\)"):
        require_same_grid(a, Volume(np.zeros((10, 10, 9)), a.affine))
    np.testing.assert_allclose(a.spacing_mm, (1, 1, 5))
    assert a.voxel_ml == pytest.approx(0.005)


@pytest.mark.parametrize("codes", ["LPS", "SAR", "ILP"])
def test_labels_on_a_turned_grid_come_back_as_they_were(codes: str) -> None:
    rng = np.random.default_rng(0)
    mask = Volume(rng.integers(0, 5, (7, 9, 5)).astype(np.uint8), np.diag([0.7, 1.3, 4, 1]))
    back = resample_labels(reorient(mask, codes), mask)
    np.testing.assert_array_equal(back.array, mask.array)
    np.testing.assert_array_equal(back.affine, mask.affine)


def test_labels_on_a_coarser_grid_cover_the_same_place() -> None:
    fine = np.zeros((20, 20, 10), np.uint8)
    fine[4:12, 4:12, 2:6] = 3
    affine = np.diag([1.0, 1, 2, 1])
    coarse_affine = affine @ np.diag([2.0, 2, 1, 1])
    coarse_affine[:2, 3] = 0.5  # edge to edge: the first coarse centre lies between the first two fine ones
    coarse = Volume(fine[::2, ::2], coarse_affine)
    np.testing.assert_array_equal(resample_labels(coarse, Volume(fine, affine)).array, fine)
    far = np.eye(4)
    far[0, 3] = 1000
    assert not resample_labels(coarse, Volume(fine, far)).array.any()
