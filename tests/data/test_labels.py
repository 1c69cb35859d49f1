"""Values of one name are one structure."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullscale.data.labels import keep_labels, merge_label_map, merge_labels, structures_of
from fullscale.geometry.volume import Volume

LIVER_AND_TUMOUR = {0: "background", 1: "liver", 2: "liver", 4: "spleen"}


def volume(*values: int) -> Volume:
    return Volume(np.array(values, dtype=np.uint8).reshape(-1, 1, 1), np.eye(4))


@pytest.mark.parametrize(
    ("labels", "merged", "structures"),
    [
        ({0: "background", 1: "liver"}, {0: 0, 1: 1}, {1: "liver"}),
        (LIVER_AND_TUMOUR, {0: 0, 1: 1, 2: 1, 4: 4}, {1: "liver", 4: "spleen"}),
        ({5: "spleen", 3: "spleen"}, {3: 3, 5: 3}, {3: "spleen"}),
        ({0: "background", 1: "liver", 2: "background"}, {0: 0, 1: 1, 2: 0}, {1: "liver"}),
    ],
)
def test_values_of_one_name_are_one_structure(
    labels: dict[int, str], merged: dict[int, int], structures: dict[int, str]
) -> None:
    assert merge_labels(labels) == merged
    assert structures_of(labels) == structures


def test_a_label_map_is_merged_and_what_has_no_name_stays_or_goes() -> None:
    mask = volume(0, 1, 2, 3, 4)
    assert merge_label_map(mask, LIVER_AND_TUMOUR).array.ravel().tolist() == [0, 1, 1, 3, 4]
    assert keep_labels(mask, LIVER_AND_TUMOUR).array.ravel().tolist() == [0, 1, 1, 0, 4]
    assert merge_label_map(mask, {1: "liver"}) is mask
    assert mask.array.ravel().tolist() == [0, 1, 2, 3, 4]


@given(st.dictionaries(st.integers(0, 6), st.sampled_from("abc")))
def test_merging_twice_is_merging_once(labels: dict[int, str]) -> None:
    mask = volume(*range(7))
    once = merge_label_map(mask, labels)
    assert np.array_equal(merge_label_map(once, labels).array, once.array)
    assert set(structures_of(labels)) <= set(merge_labels(labels).values())
