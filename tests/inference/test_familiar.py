"""Scans and masks unlike those of a training are told in a phrase; those like them are not mentioned."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullscale.data.distribution import ACROSS, IN_PLANE, SIDE, Distribution, Span, distribution_of
from fullscale.data.labels import LabelScheme
from fullscale.data.lie import brightest_place
from fullscale.geometry.orientation import reorient
from fullscale.geometry.volume import Volume
from fullscale.inference.familiar import strange_places, strange_scan, strange_volumes

SHAPE = (60, 60, 20)
SPACING = (4.0, 4.0, 5.0)


def abdomen(seed: int) -> npt.NDArray[np.float64]:
    """Air around a body of soft tissue with some bone, in HU."""
    rng = np.random.default_rng(seed)
    hu = np.full(SHAPE, -1000.0)
    hu[6:54, 6:54] = rng.uniform(20, 60)
    hu[28:32, 28:32] = 700
    return hu + rng.normal(0, 12, SHAPE)


def volume(array: npt.NDArray[np.float64], spacing: tuple[float, float, float] = SPACING) -> Volume:
    return Volume(array.astype(np.float32), np.diag([*spacing, 1.0]))


def facts(seed: int, liver_ml: float) -> dict[str, object]:
    hu = abdomen(seed)
    return {
        "case": str(seed),
        "channels": {"image": {"intensity_percentiles": np.percentile(hu, [0.5, 50, 99.5]).tolist()}},
        "shape": list(SHAPE),
        "spacing_mm": list(SPACING),
        "orientation": "LAS",
        "label_ml": {"1": liver_ml, "2": 10.0, "3": 99.0},
    }


SCHEME = LabelScheme({1: "liver", 2: "liver"})
TRAINED = distribution_of([facts(seed, 1000.0 + seed) for seed in range(5)], SCHEME, ["0", "1", "2", "4"])


def test_the_spans_are_those_of_the_cases_that_are_meant() -> None:
    assert TRAINED is not None
    assert TRAINED.cases == 4
    assert TRAINED.structure_ml == {"liver": Span(low=1010, high=1014)}
    assert TRAINED.spans[IN_PLANE] == Span(low=4, high=4)
    assert TRAINED.spans[ACROSS] == Span(low=5, high=5)
    assert TRAINED.spans[SIDE] == Span(low=240, high=240)
    assert distribution_of([], SCHEME, ["0"]) is None


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR"])
def test_a_scan_like_those_of_the_training_is_not_mentioned(codes: str) -> None:
    for seed in range(20, 30):
        assert strange_scan({"image": reorient(volume(abdomen(seed)), codes)}, TRAINED, {"image"}) == []


@pytest.mark.parametrize(
    ("scan", "expected"),
    [
        (volume(np.zeros(SHAPE)), "all of its voxels are 0"),
        (volume((abdomen(7) + 1000) / 2000), "intensities of"),
        (volume(abdomen(7) + 1024), "intensities of"),
        (volume(-abdomen(7)), "intensities of"),
        (volume((abdomen(7) > 0) * 2.0), "2 different values, as a label map"),
        (volume(np.where(np.arange(60 * 60 * 20).reshape(SHAPE) % 500, 0, abdomen(7))), "intensities of 0"),
        (volume(abdomen(7), (12, 12, 15)), "voxels of 12 mm within slices (trained: 4)"),
        (volume(abdomen(7), (40, 40, 50)), "voxels of 40 mm within slices"),
        (volume(abdomen(7), (0.004, 0.004, 0.005)), "voxels of 0.004 mm within slices"),
        (volume(abdomen(7), (4, 4, 15)), "slices 15 mm apart (trained: 5)"),
        (volume(abdomen(7)[:20]), "slices of 80 mm a side (trained: 240)"),
        (volume(abdomen(7)[:, :, :4]), "20 mm from feet to head (trained: 100)"),
    ],
)
def test_a_slip_is_told_in_a_phrase(scan: Volume, expected: str) -> None:
    told = strange_scan({"image": scan}, TRAINED, {"image"})
    assert any(expected in phrase for phrase in told), told


def test_a_scan_cut_to_the_body_is_no_slip() -> None:
    whole = abdomen(7)
    assert strange_scan({"image": volume(np.where(whole < -500, whole + 1040, whole))}, TRAINED, {"image"}) == []


def test_where_each_scan_has_its_own_scale_intensities_are_not_compared() -> None:
    assert strange_scan({"image": volume(abdomen(7) * 3 + 5000)}, TRAINED, ()) == []
    assert strange_scan({"image": volume(np.zeros(SHAPE))}, None, ()) == ["all of its voxels are 0"]
    assert strange_scan({"image": volume(abdomen(7))}, None, {"image"}) == []


def test_a_structure_larger_than_any_that_was_trained_is_told() -> None:
    assert strange_volumes({"liver": 11_694_515.0}, TRAINED) == ["liver of 11,694,515 ml (trained: 1010 to 1014)"]
    assert strange_volumes({"liver": 1900.0, "kidney": 1e9}, TRAINED) == []
    assert strange_volumes({"liver": 0.0}, TRAINED) == []
    assert strange_volumes({"liver": 1e9}, None) == []


@given(st.lists(st.integers(0, 4), min_size=1), st.lists(st.integers(0, 4), min_size=1))
def test_the_spans_of_two_trainings_are_those_of_all_their_cases(one: list[int], other: list[int]) -> None:
    every = [
        {
            "case": str(k),
            "channels": {"image": {"intensity_percentiles": [k, k + 1, k + 2]}},
            "shape": [k + 1, 2, 3],
            "spacing_mm": [1, k + 1, 2],
            "orientation": "RAS",
            "label_ml": {str(1 + k % 2): k},
        }
        for k in range(5)
    ]
    scheme = LabelScheme({1: "a", 2: "b"})
    first, second = (distribution_of(every, scheme, [str(k) for k in cases]) for cases in (one, other))
    both = distribution_of(every, scheme, [str(k) for k in (*one, *other)])
    assert first is not None
    assert second is not None
    assert both is not None
    joined = first.joined(second)
    assert (joined.spans, joined.structure_ml) == (both.spans, both.structure_ml)
    assert Distribution.model_validate_json(joined.model_dump_json()) == joined


def placed(seed: int, place: list[float]) -> dict[str, object]:
    return facts(seed, 1000.0) | {"brightest": [0.5, 0.5, 0.5], "label_places": {"1": place, "2": [1.0, 1.0, 1.0]}}


def test_a_structure_that_lies_elsewhere_is_told_and_its_values_count_by_their_volumes() -> None:
    known = [placed(seed, [0.6 + 0.02 * seed, 0.5, 0.4]) for seed in range(3)]
    trained = distribution_of(known, SCHEME, ["0", "1", "2"])
    assert trained is not None
    [across, *_] = trained.places["liver"]  # 1,000 ml of one value, and 10 ml of the other at the far corner
    assert (across.low, across.high) == pytest.approx(((600 + 10) / 1010, (640 + 10) / 1010))
    assert Distribution.model_validate_json(trained.model_dump_json()) == trained
    assert trained.joined(trained) == trained
    mask = np.zeros(SHAPE)
    mask[34:40, 28:32, 8:10] = 2
    grid = np.diag([*SPACING, 1.0])
    assert strange_places(Volume(mask, grid), SCHEME, trained) == []
    [told] = strange_places(Volume(mask[::-1].copy(), grid), SCHEME, trained)
    assert told == "liver lies at 38% of the way from left to right (trained: 60% to 64%)"
    mirrored = reorient(Volume(mask, grid), "LPS")
    assert strange_places(mirrored, SCHEME, trained) == []
    assert strange_places(Volume(mask, grid), SCHEME, None) == []
    assert strange_places(Volume(mask, grid), SCHEME, TRAINED) == []


def test_the_brightest_part_shows_a_scan_that_is_upside_down() -> None:
    hu = abdomen(7)
    hu[28:32, 28:32] = 40
    hu[20:40, 8:16] = 700  # a spine
    known = {**facts(0, 1000.0), "brightest": brightest_place(volume(hu))}
    trained = distribution_of([known], SCHEME, ["0"])
    assert strange_scan({"image": volume(hu)}, trained, ()) == []
    assert strange_scan({"image": reorient(volume(hu), "LPI")}, trained, ()) == []
    [told] = strange_scan({"image": volume(hu[:, ::-1].copy())}, trained, ())
    assert told.startswith("its brightest part lies at ")
    assert "from back to front" in told
