from itertools import permutations, product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import surface_distance
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from fullscale.errors import UsageError
from fullscale.metrics.surface import (
    Mask,
    SurfaceDistances,
    assd,
    diagonal_mm,
    hd95,
    joint_boxes,
    nsd,
    surface_distances,
    surface_voxels,
    tolerance_of,
)

SPACINGS = [(1.0, 1.0, 1.0), (0.7, 0.7, 5.0), (3.0, 0.5, 1.25)]
MASKS = hnp.arrays(bool, (5, 4, 3))


def slow_surface(mask: Mask) -> list[tuple[int, ...]]:
    """Voxels with one of six neighbours outside, looked up one by one."""
    inside = {index for index, value in np.ndenumerate(mask) if value}
    steps = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    return [v for v in sorted(inside) if any(tuple(np.add(v, step)) not in inside for step in steps)]


def slow_distances(a: Mask, b: Mask, spacing: tuple[float, ...]) -> SurfaceDistances:
    table = cdist(np.array(slow_surface(a)) * spacing, np.array(slow_surface(b)) * spacing)
    return SurfaceDistances(table.min(axis=1), table.min(axis=0))


def blobs(seed: int) -> tuple[Mask, Mask]:
    """Two ragged structures of one anatomy; one reaches the end of the volume."""
    rng = np.random.default_rng(seed)
    common = gaussian_filter(rng.normal(size=(28, 24, 16)), 3)
    a, b = (gaussian_filter(rng.normal(size=common.shape), 2) * 0.3 + common for _ in range(2))
    return a > np.quantile(a, 0.8), b > np.quantile(b, 0.75)


def ball(radius_mm: float, spacing: tuple[float, ...] = (1, 1, 1), side_mm: float = 30) -> Mask:
    axes = np.ogrid[tuple(slice(0, round(side_mm / s)) for s in spacing)]
    squares = [((x + 0.5) * s - side_mm / 2) ** 2 for x, s in zip(axes, spacing, strict=True)]
    inside: Mask = squares[0] + squares[1] + squares[2] <= radius_mm**2
    return inside


def one_hot(mask: Mask) -> torch.Tensor:
    return torch.from_numpy(mask.astype(np.float32))[None, None]


def mask_at(*voxels: tuple[int, int, int], shape: tuple[int, int, int] = (12, 8, 8)) -> Mask:
    mask = np.zeros(shape, dtype=bool)
    for voxel in voxels:
        mask[voxel] = True
    return mask


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_equal_to_monai(seed: int, spacing: tuple[float, float, float]) -> None:
    a, b = blobs(seed)
    ours = surface_distances(a, b, spacing)
    settings = {"include_background": True, "spacing": spacing}
    theirs = compute_hausdorff_distance(one_hot(a), one_hot(b), percentile=95, **settings)
    assert hd95(ours) == pytest.approx(theirs.item(), rel=1e-5)
    theirs = compute_average_surface_distance(one_hot(a), one_hot(b), symmetric=True, **settings)
    assert assd(ours) == pytest.approx(theirs.item(), rel=1e-5)
    for tolerance in (0.9, 2.2, 6.3):
        theirs = compute_surface_dice(one_hot(a), one_hot(b), class_thresholds=[tolerance], **settings)
        assert nsd(ours, tolerance) == pytest.approx(theirs.item(), rel=1e-6)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_near_to_surface_distance_within_a_voxel(seed: int, spacing: tuple[float, float, float]) -> None:
    a, b = (np.pad(mask, 2) for mask in blobs(seed))
    ours = surface_distances(a, b, spacing)
    theirs = surface_distance.compute_surface_distances(a, b, spacing)
    voxel = float(np.linalg.norm(spacing))
    assert abs(hd95(ours) - surface_distance.compute_robust_hausdorff(theirs, 95)) <= voxel
    average = np.mean(surface_distance.compute_average_surface_distance(theirs))
    assert abs(assd(ours) - average) <= 0.5 * voxel
    dice = surface_distance.compute_surface_dice_at_tolerance(theirs, voxel)
    assert nsd(ours, voxel) == pytest.approx(dice, abs=0.06)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_equal_to_the_slow_twin(spacing: tuple[float, float, float]) -> None:
    a, b = blobs(4)
    ours, slow = surface_distances(a, b, spacing), slow_distances(a, b, spacing)
    for mine, theirs in zip(ours, slow, strict=True):
        np.testing.assert_allclose(np.sort(mine), np.sort(theirs), atol=1e-9)


def test_on_2_voxels_some_mm_away() -> None:
    d = surface_distances(mask_at((2, 3, 3)), mask_at((4, 6, 3)), (1.5, 2.0, 5.0))
    away = np.hypot(2 * 1.5, 3 * 2.0)
    assert hd95(d) == pytest.approx(away)
    assert assd(d) == pytest.approx(away)


def test_2_mm_away_lies_within_2_mm_and_not_within_less() -> None:
    for spacing in (2.0, float(np.float32(0.4)) * 5, 2.0000001, 1.9999999):
        d = surface_distances(mask_at((2, 3, 3)), mask_at((3, 3, 3)), (spacing, 1, 1))
        assert nsd(d, 2.0) == 1
        assert nsd(d, 1.99) == 0


def test_hd95_is_the_larger_of_two_interpolated_percentiles() -> None:
    d = surface_distances(mask_at((0, 0, 0)), mask_at((0, 0, 0), (10, 0, 0)), (1, 1, 1))
    assert sorted(d.to_reference) == [0]
    assert sorted(d.to_prediction) == [0, 10]
    assert hd95(d) == pytest.approx(9.5)
    assert assd(d) == pytest.approx(10 / 3)
    assert nsd(d, 1.0) == pytest.approx(2 / 3)


def test_a_cube_shifted_across_thick_slices() -> None:
    cube = np.zeros((20, 20, 20), dtype=bool)
    cube[5:11, 5:11, 5:11] = True
    d = surface_distances(np.roll(cube, 1, axis=2), cube, (1, 1, 4))
    # Of 152 surface voxels the 36 of the face that moved out are 4 mm off. The face that moved in lies inside the other
    # cube: its edge on the walls there, its 16 inner voxels 1 or 2 mm from them.
    values, counts = np.unique(d.to_reference, return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == {0: 100, 1: 12, 2: 4, 4: 36}
    assert sorted(d.to_prediction) == sorted(d.to_reference)
    assert hd95(d) == 4
    assert assd(d) == pytest.approx((12 * 1 + 4 * 2 + 36 * 4) / 152)
    assert nsd(d, 3.9) == pytest.approx(116 / 152)
    assert nsd(d, 4.0) == 1


def test_a_hollow_ball_has_an_inner_surface() -> None:
    solid, hollow = ball(10), ball(10) & ~ball(4)
    d = surface_distances(solid, hollow, (1, 1, 1))
    assert (d.to_reference == 0).all()
    inner = d.to_prediction[d.to_prediction > 0]
    assert len(inner) == len(d.to_prediction) - len(d.to_reference) > 100
    assert 4 < inner.min() <= inner.max() < 6.5


def test_balls_of_two_sizes_lie_their_radii_apart() -> None:
    spacing = (0.5, 0.5, 1.0)
    d = surface_distances(ball(12, spacing), ball(8, spacing), spacing)
    assert assd(d) == pytest.approx(4, abs=0.3)
    assert hd95(d) == pytest.approx(4, abs=0.8)


def test_an_structure_cut_by_the_end_of_the_scan_has_a_surface_there() -> None:
    full = np.ones((5, 6, 7), dtype=bool)
    assert surface_voxels(full).sum() == 5 * 6 * 7 - 3 * 4 * 5


def test_tilted_slices_are_measured_along_their_axes() -> None:
    steps = np.array([[1.0, 0, 0], [0, 1.0, 0.5], [0, 0, 2.0]])  # each slice is shifted by 0.5 mm
    d = surface_distances(mask_at((2, 2, 2)), mask_at((2, 2, 4)), steps)
    assert hd95(d) == pytest.approx(np.hypot(1.0, 4.0))


@settings(deadline=None, max_examples=60)
@given(MASKS, MASKS, st.sampled_from(SPACINGS))
def test_swapping_the_masks_changes_nothing(a: Mask, b: Mask, spacing: tuple[float, float, float]) -> None:
    assume(a.any() and b.any())
    there, back = surface_distances(a, b, spacing), surface_distances(b, a, spacing)
    assert hd95(there) == pytest.approx(hd95(back))
    assert assd(there) == pytest.approx(assd(back))
    assert nsd(there, 1.0) == pytest.approx(nsd(back, 1.0))


@settings(deadline=None, max_examples=60)
@given(MASKS, st.sampled_from(SPACINGS))
def test_a_mask_is_perfect_against_itself(a: Mask, spacing: tuple[float, float, float]) -> None:
    assume(a.any())
    d = surface_distances(a, a.copy(), spacing)
    assert (hd95(d), assd(d), nsd(d, 0.0)) == (0, 0, 1)


@settings(deadline=None, max_examples=60)
@given(MASKS, MASKS, st.sampled_from(list(permutations(range(3)))), st.tuples(*[st.booleans()] * 3))
def test_reorienting_both_changes_nothing(a: Mask, b: Mask, axes: tuple[int, ...], flips: tuple[bool, ...]) -> None:
    assume(a.any() and b.any())
    spacing = (0.7, 1.3, 5.0)
    flip = tuple(slice(None, None, -1 if f else 1) for f in flips)
    turned = surface_distances(a.transpose(axes)[flip], b.transpose(axes)[flip], [spacing[i] for i in axes])
    straight = surface_distances(a, b, spacing)
    for one, other in zip(turned, straight, strict=True):
        np.testing.assert_allclose(np.sort(one), np.sort(other), atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(MASKS, MASKS)
def test_cropping_to_the_joint_box_changes_nothing(a: Mask, b: Mask) -> None:
    assume(a.any() and b.any())
    [box] = joint_boxes(a, b, [1]).values()
    for whole, cropped in zip(
        surface_distances(a, b, (1, 2, 3)), surface_distances(a[box], b[box], (1, 2, 3)), strict=True
    ):
        np.testing.assert_allclose(whole, cropped)


@settings(deadline=None, max_examples=60)
@given(*[hnp.arrays(np.int32, (4, 3, 5), elements=st.sampled_from([0, 1, 3, 90000]))] * 2)
def test_joint_boxes_are_the_smallest(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> None:
    boxes = joint_boxes(a, b, [3, 90000, 1, 2])
    for label in (1, 2, 3, 90000):
        where = np.argwhere((a == label) | (b == label))
        if len(where):
            corners = [(s.start, s.stop) for s in boxes[label]]
            assert corners == list(zip(where.min(axis=0), where.max(axis=0) + 1, strict=True))
        else:
            assert label not in boxes


def test_the_diagonal_runs_from_outer_corner_to_outer_corner() -> None:
    assert diagonal_mm((10, 10, 5), (0.3, 0.4, 2.4)) == pytest.approx(13)


def test_no_distance_in_a_tilted_volume_exceeds_its_diagonal() -> None:
    steps = np.array([[1.0, 0, 0.8], [0, 2.0, -0.3], [0, 0, 3.0]])
    corners = np.array(list(product((0, 4), (0, 5), (0, 6)))) @ steps.T
    assert diagonal_mm((4, 5, 6), steps) == pytest.approx(cdist(corners, corners).max())


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf"), {2: 1.0}])
def test_a_tolerance_that_is_none_is_refused(tolerance: Any) -> None:
    with pytest.raises(UsageError, match="label 1"):
        tolerance_of(1, tolerance)
