"""Post-processing of regions, and of masks whose truth is not known whole."""

import numpy as np

from fullscale.bundle.rules import PostprocessRule
from fullscale.data.labels import LabelScheme
from fullscale.inference.postprocess import CaseMasks, apply_rules, choose_rules

NESTED = LabelScheme({}, {"whole": (1, 2), "core": (2,)})


def two_parts() -> np.ndarray:
    """A whole of two parts, each with a core; the core of the first has a hole."""
    mask = np.zeros((20, 10, 10), np.uint8)
    mask[1:9, 1:9, 1:9] = 1
    mask[3:8, 3:8, 3:8] = 2
    mask[5, 5, 5] = 0
    mask[14:17, 4:7, 4:7] = 1
    mask[15, 5, 5] = 2
    return mask


def rule(structure: str, action: str) -> PostprocessRule:
    return PostprocessRule(structure=structure, action=action)


def test_a_part_of_the_whole_takes_its_core_with_it():
    mask = two_parts()
    expected = mask.copy()
    expected[14:17] = 0
    np.testing.assert_array_equal(apply_rules(mask, 1.0, NESTED, [rule("whole", "keep_largest")]), expected)


def test_a_part_of_the_core_is_left_to_the_whole():
    mask = two_parts()
    expected = mask.copy()
    expected[15, 5, 5] = 1
    np.testing.assert_array_equal(apply_rules(mask, 1.0, NESTED, [rule("core", "keep_largest")]), expected)


def test_a_hole_is_filled_by_the_region_that_asks_for_it():
    for structure, value in (("core", 2), ("whole", 1)):
        assert apply_rules(two_parts(), 1.0, NESTED, [rule(structure, "fill_holes")])[5, 5, 5] == value


def test_a_rule_is_chosen_for_a_region_where_it_helps_that_region():
    truth = two_parts()
    truth[14:17] = 0
    truth[5, 5, 5] = 2
    chosen = choose_rules([lambda: CaseMasks(two_parts(), truth, 1.0)] * 5, NESTED)
    assert {(one.structure, one.action) for one in chosen} == {
        ("whole", "keep_largest"),
        ("core", "keep_largest"),
        ("core", "fill_holes"),  # one voxel in 125; of the whole it is one in 512, which is no gain
    }


def test_what_is_not_known_speaks_for_no_rule():
    truth = two_parts()
    truth[14:17] = 0
    ignored = np.zeros(truth.shape, bool)
    ignored[10:] = True
    ignored[5, 5, 5] = True
    assert choose_rules([lambda: CaseMasks(two_parts(), truth, 1.0, ignored)] * 5, NESTED) == []
    unknown = choose_rules([lambda: CaseMasks(two_parts(), truth, 1.0, unknown=(1,))] * 5, NESTED)
    assert {one.structure for one in unknown} == {"core"}
