"""Deformations: where voxels come from, checked against analytic shapes, exact quarter turns and loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fullscale.training.deform import Deformation, DeformationRange, deform, draw_deformation

SIZES = [(13, 18), (9, 14, 12)]


def still(dims: int) -> Deformation:
    return Deformation(np.eye(dims), np.zeros(dims))


def crop(size: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(2, *size)).astype(np.float32)
    return torch.from_numpy(image), torch.from_numpy(rng.choice([0, 1, 7], size=size).astype(np.uint8))


@pytest.mark.parametrize("size", SIZES)
def test_none_changes_nothing(size: tuple[int, ...]) -> None:
    image, label = crop(size)
    changed, moved = deform(still(len(size)), image, label)
    torch.testing.assert_close(changed, image, rtol=0, atol=2e-5)
    assert torch.equal(moved, label)
    assert moved.dtype == torch.uint8


@pytest.mark.parametrize("size", SIZES)
def test_a_shift_of_whole_voxels_repeats_the_edge(size: tuple[int, ...]) -> None:
    image, label = crop(size)
    shift = np.array([2.0, -3.0, 1.0][: len(size)])
    changed, moved = deform(Deformation(np.eye(len(size)), shift), image, label)
    where = np.ix_(*(np.clip(np.arange(n) + int(s), 0, n - 1) for n, s in zip(size, shift, strict=True)))
    np.testing.assert_array_equal(moved.numpy(), label.numpy()[where])
    for channel in range(2):
        np.testing.assert_allclose(changed[channel].numpy(), image[channel].numpy()[where], atol=5e-5)


def test_a_quarter_turn_in_each_plane_is_rot90() -> None:
    image, label = crop((11, 11, 11))
    for first, second in ((0, 1), (0, 2), (1, 2)):
        matrix = np.eye(3)
        matrix[[first, second], [first, second]] = 0
        matrix[first, second], matrix[second, first] = -1, 1
        changed, moved = deform(Deformation(matrix, np.zeros(3)), image, label)
        expected = np.rot90(label.numpy(), 1, (first, second))
        other = np.rot90(label.numpy(), -1, (first, second))
        assert (moved.numpy() == expected).all() or (moved.numpy() == other).all()
        assert not np.array_equal(moved.numpy(), label.numpy())
        turned = 1 if (moved.numpy() == expected).all() else -1
        np.testing.assert_allclose(changed[0].numpy(), np.rot90(image[0].numpy(), turned, (first, second)), atol=5e-5)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_equals_scipy_voxel_by_voxel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = (9, 14, 12)
    reach = DeformationRange(40, 0.3, 0.2, 0, (1, 1, 1))
    drawn = draw_deformation(rng, size, reach)
    image, label = crop(size, seed)
    changed, _ = deform(drawn, image, label)
    centre = (np.array(size) - 1) / 2
    expected = ndimage.affine_transform(
        image[0].double().numpy(), drawn.matrix, centre - drawn.matrix @ centre + drawn.shift, order=1, mode="nearest"
    )
    np.testing.assert_allclose(changed[0].numpy(), expected, atol=2e-4)


def test_a_bending_displaces_by_what_its_knots_say() -> None:
    size = (9, 9, 9)
    image = torch.stack(list(torch.meshgrid(*[torch.arange(9.0)] * 3, indexing="ij")))
    bending = np.zeros((3, 2, 2, 2))
    bending[1] = 1.5
    bending[2, 0] = 2.0  # at feet, nothing at head
    changed, _ = deform(Deformation(np.eye(3), np.zeros(3), bending), image, torch.zeros(size, dtype=torch.uint8))
    moved = (changed - image)[:, 2:7, 2:7, 2:6]
    torch.testing.assert_close(moved[0], torch.zeros_like(moved[0]), rtol=0, atol=1e-5)
    torch.testing.assert_close(moved[1], torch.full_like(moved[1], 1.5), rtol=0, atol=1e-5)
    for row in range(5):
        torch.testing.assert_close(moved[2, row], torch.full((5, 4), 2.0 * (1 - (row + 2) / 8)), rtol=0, atol=1e-5)


def ball(matrix: np.ndarray, shift: np.ndarray, size: int = 32) -> np.ndarray:
    """An ellipsoid, as a deformed crop would show it if there were no voxels."""
    offsets = np.stack(np.meshgrid(*[np.arange(size) - (size - 1) / 2] * 3, indexing="ij"), axis=-1)
    return ((((offsets @ matrix.T + shift) / (10, 6, 8)) ** 2).sum(-1) <= 1).astype(np.uint8)


def test_labels_follow_a_smooth_border_more_closely_than_the_nearest_voxel_does() -> None:
    label = ball(np.eye(3), np.zeros(3))
    wrong, nearest_wrong = 0, 0
    for seed in range(8):
        drawn = draw_deformation(np.random.default_rng(seed), label.shape, DeformationRange(30, 0.2, 0.05, 0, (1,) * 3))
        truth = ball(drawn.matrix, drawn.shift)
        _, moved = deform(drawn, torch.zeros(1, 32, 32, 32), torch.from_numpy(label))
        centre = np.full(3, 15.5)
        nearest = ndimage.affine_transform(
            label, drawn.matrix, centre - drawn.matrix @ centre + drawn.shift, order=0, mode="nearest"
        )
        wrong += (moved.numpy() != truth).sum()
        nearest_wrong += (nearest != truth).sum()
    assert wrong < 0.85 * nearest_wrong


def test_many_structures_are_decided_as_few_are() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 30, (6, 7, 8)).astype(np.uint8)
    drawn = draw_deformation(rng, label.shape, DeformationRange(30, 0.2, 0.1, 0.5, (1, 1, 1)))
    _, moved = deform(drawn, torch.zeros(1, *label.shape), torch.from_numpy(label))
    covers = [
        deform(drawn, torch.from_numpy((label == k).astype(np.float32))[None], torch.from_numpy(label))[0][0]
        for k in range(30)
    ]
    assert torch.equal(moved.long(), torch.stack(covers).argmax(dim=0))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), spacing=st.tuples(*[st.floats(0.5, 1.4)] * 3))
def test_a_rotation_is_one_in_millimetres(seed: int, spacing: tuple[float, float, float]) -> None:
    drawn = draw_deformation(np.random.default_rng(seed), (8, 9, 10), DeformationRange(90, 0, 0, 0, spacing))
    in_mm = np.diag(spacing) @ drawn.matrix @ np.diag(1 / np.array(spacing))
    np.testing.assert_allclose(in_mm @ in_mm.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(in_mm) == pytest.approx(1)


def test_thick_slices_are_turned_in_their_plane_alone() -> None:
    for seed in range(10):
        drawn = draw_deformation(np.random.default_rng(seed), (8, 9, 10), DeformationRange(90, 0, 0, 0, (5, 1, 1)))
        np.testing.assert_array_equal(drawn.matrix[0], [1, 0, 0])
        np.testing.assert_array_equal(drawn.matrix[:, 0], [1, 0, 0])
        assert drawn.matrix[1, 2] != 0


def test_zooms_and_shifts_keep_within_their_range_and_use_it() -> None:
    rng = np.random.default_rng(0)
    reach = DeformationRange(0, 0.2, 0.1, 0, (1, 1, 1))
    drawn = [draw_deformation(rng, (10, 20, 40), reach) for _ in range(400)]
    zooms = np.array([np.diag(d.matrix) for d in drawn])
    assert 0.8 <= zooms.min() < 0.83
    assert 1.17 < zooms.max() <= 1.2
    apart = np.ptp(zooms, axis=1)
    assert 0.1 < apart.max() <= 0.16 + 1e-9
    shifts = np.abs([d.shift for d in drawn]).max(axis=0)
    np.testing.assert_allclose(shifts, [1, 2, 4], rtol=0.03)


def test_knots_are_equally_far_apart_in_mm_and_displacements_are_in_mm_too() -> None:
    rng = np.random.default_rng(0)
    reach = DeformationRange(0, 0, 0, 1.0, (2.5, 1, 1))
    drawn = [draw_deformation(rng, (16, 64, 48), reach).bending for _ in range(30)]
    assert drawn[0] is not None
    assert drawn[0].shape == (3, 6, 9, 7)
    deviation = np.array([d.std(axis=(1, 2, 3)) for d in drawn if d is not None]).mean(axis=0)
    assert deviation[1] / deviation[0] == pytest.approx(2.5, rel=0.1)
    assert deviation[1] / deviation[2] == pytest.approx(1, rel=0.1)


def test_a_crop_of_one_slice_is_taken() -> None:
    image, label = crop((1, 12, 10))
    drawn = draw_deformation(np.random.default_rng(3), (1, 12, 10), DeformationRange(15, 0.2, 0.1, 1, (1, 1, 1)))
    changed, moved = deform(drawn, image, label)
    assert changed.isfinite().all()
    assert (changed.shape, moved.shape) == (image.shape, label.shape)
    assert math.isfinite(float(changed.sum()))
