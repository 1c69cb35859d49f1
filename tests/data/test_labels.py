"""Label values, classes, channels and decisions, there and back."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fullscale.data.labels import LabelScheme
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume

LIVER_AND_TUMOUR = {0: "background", 1: "liver", 2: "liver", 4: "spleen"}
NAMES = st.dictionaries(st.integers(0, 6), st.sampled_from("abc"))


def volume(*values: int) -> Volume:
    return Volume(np.array(values, dtype=np.uint8).reshape(-1, 1, 1), np.eye(4))


@pytest.mark.parametrize(
    ("labels", "merged", "structures"),
    [
        ({0: "background", 1: "liver"}, {0: 0, 1: 1}, {1: "liver"}),
        (LIVER_AND_TUMOUR, {0: 0, 1: 1, 2: 1, 4: 4}, {1: "liver", 4: "spleen"}),
        ({5: "spleen", 3: "spleen"}, {0: 0, 3: 3, 5: 3}, {3: "spleen"}),
        ({0: "background", 1: "liver", 2: "background"}, {0: 0, 1: 1, 2: 0}, {1: "liver"}),
        ({}, {0: 0}, {}),
    ],
)
def test_values_of_one_name_are_one_structure(
    labels: dict[int, str], merged: dict[int, int], structures: dict[int, str]
) -> None:
    assert LabelScheme(labels).merged == merged
    assert LabelScheme(labels).structures == structures


def test_a_label_map_is_merged_and_what_has_no_name_stays_or_goes() -> None:
    mask, scheme = volume(0, 1, 2, 3, 4), LabelScheme(LIVER_AND_TUMOUR)
    assert scheme.merge(mask).array.ravel().tolist() == [0, 1, 1, 3, 4]
    assert scheme.keep(mask).array.ravel().tolist() == [0, 1, 1, 0, 4]
    assert LabelScheme({1: "liver"}).merge(mask) is mask
    assert mask.array.ravel().tolist() == [0, 1, 2, 3, 4]


@given(NAMES)
def test_merging_twice_is_merging_once(labels: dict[int, str]) -> None:
    mask, scheme = volume(*range(7)), LabelScheme(labels)
    once = scheme.merge(mask)
    assert np.array_equal(scheme.merge(once).array, once.array)
    assert set(scheme.structures) <= set(scheme.merged.values())


def test_one_structure_is_one_channel_and_more_have_background_too() -> None:
    one, two = LabelScheme({0: "background", 3: "spleen"}), LabelScheme(LIVER_AND_TUMOUR)
    assert (one.classes, one.channels, one.activation) == (2, 1, "sigmoid")
    assert (two.classes, two.channels, two.activation) == (3, 3, "softmax")
    channels = np.arange(2 * 3).reshape(2, 3, 1)
    assert two.of_structures(channels).tolist() == [[[1], [2]], [[4], [5]]]
    assert one.of_structures(channels[:, :1]).tolist() == [[[0]], [[3]]]


def test_values_become_classes_and_back() -> None:
    scheme = LabelScheme({0: "background", 9: "liver", 300: "liver", 20: "spleen"})
    classes = scheme.targets(np.array([0, 9, 20, 300, 7]))
    assert classes.dtype == np.uint8
    assert classes.tolist() == [0, 1, 2, 1, 0]
    assert scheme.values(classes).tolist() == [0, 9, 20, 9, 0]
    assert scheme.values(classes).dtype == np.uint8
    assert LabelScheme({300: "liver"}).values(np.array([1], dtype=np.uint8)).dtype == np.uint16


@given(NAMES)
def test_a_label_map_survives_the_way_to_classes_and_back(labels: dict[int, str]) -> None:
    scheme = LabelScheme(labels)
    mask = volume(*range(7))
    assert np.array_equal(scheme.values(scheme.targets(mask.array)), scheme.keep(mask).array)


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor])
def test_decisions_are_the_same_in_either_library(make: type) -> None:
    one, two = LabelScheme({1: "liver"}), LabelScheme({1: "liver", 2: "spleen"})
    logits = np.array([[[-0.1, 0.1, 0.0]]])
    assert one.decide(make(logits)).tolist() == [[False, True, False]]
    assert one.decide_probabilities(make(1 / (1 + np.exp(-logits)))).tolist() == [[False, True, False]]
    several = np.array([[[1.0, 0.0, 1.0], [0.0, 2.0, 1.0], [0.5, 1.0, 3.0]]])
    assert two.decide(make(several)).tolist() == [[0, 1, 2]]
    assert two.decide_probabilities(make(several / several.sum(1, keepdims=True))).tolist() == [[0, 1, 2]]
    whole_numbers = np.random.default_rng(0).integers(0, 3, (2, two.channels, 9, 9)).astype(np.float32)  # many equals
    assert np.array_equal(two.decide(make(whole_numbers)), whole_numbers.argmax(axis=1))


def test_schemes_agree_when_they_learn_and_write_the_same() -> None:
    assert LabelScheme({1: "liver"}).agrees_with(LabelScheme({0: "nothing", 1: "liver"}))
    assert not LabelScheme({1: "liver"}).agrees_with(LabelScheme({2: "liver"}))
    assert not LabelScheme({1: "liver"}).agrees_with(LabelScheme({1: "spleen"}))
    assert not LabelScheme({1: "liver"}).agrees_with(LabelScheme({1: "liver", 2: "liver"}))


def test_more_structures_than_a_byte_counts_are_refused() -> None:
    with pytest.raises(DataError, match="256 structures"):
        LabelScheme({value: f"part {value}" for value in range(1, 257)}).targets(np.zeros(1, dtype=int))
