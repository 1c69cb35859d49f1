import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullscale.geometry.orientation import reorient
from fullscale.geometry.volume import Volume
from fullscale.metrics.slices import SLICES, slice_scores, slice_voxels

AFFINE = np.diag([1.0, 2.0, 5.0, 1.0])


def volume(seed: int, shape: tuple[int, int, int] = (7, 6, 9)) -> Volume:
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 4, shape) * (rng.random(shape) < 0.05)
    return Volume(array.astype(np.uint8), AFFINE)


def test_a_mask_that_runs_over_the_structure_s_end_by_hand() -> None:
    truth, prediction = (np.zeros((10, 10, 8), np.uint8) for _ in range(2))
    truth[2:5, 2:5, 2:5] = 1
    prediction[2:5, 2:5, 4:7] = 1
    prediction[0, 0, 0] = 1
    [scores] = slice_scores(Volume(prediction, AFFINE), Volume(truth, AFFINE), [1]).values()
    assert scores == dict(zip(SLICES, [8, 5, 3, pytest.approx((9 + 9 + 1) * 10 / 1000)], strict=True))


@given(st.integers(0, 200))
def test_slices_are_counted_as_one_by_one(seed: int) -> None:
    prediction, truth = volume(seed), volume(seed + 1000)
    for label, scores in slice_scores(prediction, truth, [3, 1]).items():
        planes = [(prediction.array[..., k] == label, truth.array[..., k] == label) for k in range(9)]
        invented = [int(found.sum()) for found, real in planes if not real.any()]
        assert scores["slices_without_structure"] == len(invented)
        assert scores["false_positive_slices"] == sum(count > 0 for count in invented)
        assert scores["false_positive_slices_ml"] == pytest.approx(sum(invented) * 0.01)


@pytest.mark.parametrize("codes", ["LPS", "SAR", "PIR", "RIA"])
def test_slices_lie_across_head_foot_whatever_is_stored(codes: str) -> None:
    straight = volume(5)
    np.testing.assert_array_equal(slice_voxels(reorient(straight, codes), [1, 2]), slice_voxels(straight, [1, 2]))


def test_a_perfect_mask_and_an_empty_one_invent_nothing() -> None:
    truth = volume(1)
    empty = truth.with_array(np.zeros_like(truth.array))
    for prediction in (truth, empty):
        for scores in slice_scores(prediction, truth, [1, 2, 3]).values():
            assert (scores["false_positive_slices"], scores["false_positive_slices_ml"]) == (0, 0)
    assert slice_scores(truth, empty, [1])[1]["slices_without_structure"] == 9
