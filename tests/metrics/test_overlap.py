from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fullscale.errors import DataError, GeometryError, UsageError
from fullscale.metrics.overlap import Counts, empty_mask_scores, overlap_counts, overlap_scores, unscored, volume_scores

SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)
PAIRS = SHAPES.flatmap(
    lambda shape: st.tuples(*[hnp.arrays(np.int16, shape, elements=st.integers(0, 4)) for _ in range(2)])
)


def voxels_of(array: npt.NDArray[Any], label: int) -> set[tuple[int, ...]]:
    return {index for index, value in np.ndenumerate(array) if value == label}


@settings(deadline=None)
@given(PAIRS)
def test_counts_are_those_of_voxel_sets(pair: tuple[npt.NDArray[Any], npt.NDArray[Any]]) -> None:
    prediction, truth = pair
    for label, counts in zip((3, 1, 2, 9), overlap_counts(prediction, truth, (3, 1, 2, 9)), strict=True):
        p, t = voxels_of(prediction, label), voxels_of(truth, label)
        assert (counts.tp, counts.fp, counts.fn) == (len(p & t), len(p - t), len(t - p))
        assert counts.tn == truth.size - len(p | t)
        if p and t:
            scores = overlap_scores(counts)
            assert scores["Dice"] == pytest.approx(2 * len(p & t) / (len(p) + len(t)))
            assert scores["IoU"] == pytest.approx(len(p & t) / len(p | t))
            assert scores["Precision"] == pytest.approx(len(p & t) / len(p))
            assert scores["Recall"] == pytest.approx(len(p & t) / len(t))


@settings(deadline=None)
@given(PAIRS)
def test_swapping_prediction_and_truth_swaps_errors_and_keeps_dice(
    pair: tuple[npt.NDArray[Any], npt.NDArray[Any]],
) -> None:
    for there, back in zip(overlap_counts(*pair, (1, 2)), overlap_counts(*pair[::-1], (1, 2)), strict=True):
        assert (there.tp, there.fp, there.fn, there.tn) == (back.tp, back.fn, back.fp, back.tn)


def test_four_voxels_counted_by_hand() -> None:
    truth = np.array([1, 1, 1, 0, 0, 0])
    prediction = np.array([0, 1, 1, 1, 1, 0])
    [counts] = overlap_counts(prediction, truth, [1])
    assert counts == Counts(tp=2, fp=2, fn=1, tn=1)
    assert overlap_scores(counts) == {"Dice": 4 / 7, "IoU": 2 / 5, "Precision": 1 / 2, "Recall": 2 / 3}


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.uint16, np.int32, np.int64, np.uint64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_stored_type_and_order_do_not_matter(dtype: Any, order: Any) -> None:
    truth = np.zeros((3, 4, 5), dtype=dtype, order=order)
    truth[1, 1:3, 2:4] = 1
    prediction = np.zeros((3, 4, 5), dtype=np.uint8)
    prediction[1, 2, 2:5] = 1
    assert overlap_counts(prediction, truth, [1]) == [Counts(tp=2, fp=1, fn=2, tn=55)]


def test_large_and_repeated_labels_are_counted() -> None:
    truth, prediction = np.array([0, 70000, 70000, 5]), np.array([70000, 70000, -3, 5])
    first, second, third = overlap_counts(prediction, truth, [70000, 5, 70000])
    assert first == third == Counts(tp=1, fp=1, fn=1, tn=1)
    assert second == Counts(tp=1, fp=0, fn=0, tn=3)


def test_no_labels_give_no_counts() -> None:
    assert overlap_counts(np.ones(3, int), np.ones(3, int), []) == []


def test_other_shapes_are_refused_with_both() -> None:
    with pytest.raises(GeometryError, match=r"\(2, 3\).*\(3, 2\)"):
        overlap_counts(np.zeros((2, 3), int), np.zeros((3, 2), int), [1])


def test_probabilities_are_refused() -> None:
    with pytest.raises(DataError, match="prediction holds float32"):
        overlap_counts(np.zeros(3, np.float32), np.zeros(3, int), [1])


def test_the_background_is_no_label() -> None:
    with pytest.raises(UsageError, match=r"\[0, 1\]"):
        overlap_counts(np.zeros(3, int), np.zeros(3, int), [0, 1])


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (Counts(0, 0, 0, 9), [None, None, None, None, None, None, None]),
        (Counts(0, 4, 0, 5), [0, 0, 0, None, 50.0, 50.0, 0]),
        (Counts(0, 0, 4, 5), [0, 0, 0, 0, 50.0, 50.0, 0]),
    ],
    ids=["both empty", "truth empty", "structure missed"],
)
def test_what_an_empty_mask_scores(counts: Counts, expected: list[float | None]) -> None:
    scores = empty_mask_scores(counts, diagonal_mm=50.0)
    assert scores == dict(zip(("Dice", "IoU", "Precision", "Recall", "HD95", "ASSD", "NSD"), expected, strict=True))
    without_surface = empty_mask_scores(counts, diagonal_mm=50.0, surface=False)
    assert without_surface == {name: scores[name] for name in ("Dice", "IoU", "Precision", "Recall")}


def test_masks_that_only_miss_each_other_are_not_empty() -> None:
    assert empty_mask_scores(Counts(0, 4, 4, 5), diagonal_mm=50.0) is None
    assert overlap_scores(Counts(0, 4, 4, 5))["Dice"] == 0


def test_volumes_and_their_errors_in_ml_and_percent() -> None:
    scores = volume_scores(Counts(tp=60, fp=10, fn=40, tn=0), voxel_ml=0.5)
    assert scores == {
        "volume_ml": 35.0,
        "reference_volume_ml": 50.0,
        "volume_error_ml": -15.0,
        "absolute_volume_error_ml": 15.0,
        "volume_error_percent": -30.0,
    }


def test_volume_errors_of_empty_masks() -> None:
    assert volume_scores(Counts(0, 0, 5, 0), 1.0)["volume_error_percent"] == -100
    invented = volume_scores(Counts(0, 5, 0, 0), 1.0)
    assert (invented["volume_error_ml"], invented["volume_error_percent"]) == (5.0, None)
    nothing = unscored(7)
    assert (nothing["TN"], nothing["volume_ml"], nothing["volume_error_ml"]) == (7, 0.0, None)
