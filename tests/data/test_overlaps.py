"""Masks of structures as one label map, against a twin that looks at one voxel after the other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fullscale.data.labels import LabelScheme
from fullscale.data.overlaps import label_map, unique_names, values_by_structures, values_of_segments
from fullscale.errors import DataError

NAMES = ("a", "b", "c")
REGIONS = {"a": (1, 4, 5, 7), "b": (2, 4, 6, 7), "c": (3, 5, 6, 7)}
"""A value for each way in which three structures can be at one place."""

MASKS = arrays(np.bool_, (3, 2, 3, 4), elements=st.booleans())


@given(MASKS)
def test_every_voxel_has_the_value_of_just_the_regions_that_it_is_in(masks: np.ndarray):
    found = label_map(zip(NAMES, masks, strict=True), masks.shape[1:], values_by_structures(LabelScheme({}, REGIONS)))
    for place in np.ndindex(masks.shape[1:]):
        held = {name for name, mask in zip(NAMES, masks, strict=True) if mask[place]}
        assert {name for name, values in REGIONS.items() if found[place] in values} == held


@given(MASKS)
def test_exclusive_masks_are_written_or_refused_with_an_overlap_that_is_there(masks: np.ndarray):
    values = values_by_structures(LabelScheme({5: "a", 2: "b", 9: "c"}))
    together = masks.sum(axis=0)
    if (together > 1).any():
        with pytest.raises(DataError, match=r"\d+ voxels are in '.' and '.'.*where structures are exclusive"):
            label_map(zip(NAMES, masks, strict=True), masks.shape[1:], values)
        return
    found = label_map(zip(NAMES, masks, strict=True), masks.shape[1:], values)
    np.testing.assert_array_equal(found, 5 * masks[0] + 2 * masks[1] + 9 * masks[2])


def test_segments_of_one_name_are_told_apart_by_their_numbers():
    names = unique_names({1: "lesion", 2: "lesion", 3: "liver"})
    assert names == {1: "lesion (segment 1)", 2: "lesion (segment 2)", 3: "liver"}
    assert values_of_segments(names, None)[frozenset(["lesion (segment 2)"])] == 2
