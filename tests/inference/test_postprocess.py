"""Post-processing: by hand, against plain twins, and what must hold of any mask."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from scipy import ndimage

from fullscale.bundle.rules import PostprocessRule
from fullscale.data.labels import LabelScheme
from fullscale.errors import UsageError
from fullscale.inference.postprocess import FEWEST_CASES, MARGIN, CaseMasks, apply_rules, choose_rules

SCHEME = LabelScheme({0: "background", 1: "liver", 5: "tumour"})
LIVER = LabelScheme({1: "liver"})


def rule(action: str, structure: str = "liver", minimum_ml: float | None = None) -> PostprocessRule:
    return PostprocessRule.model_validate({"structure": structure, "action": action, "minimum_ml": minimum_ml})


RULES = [
    *(
        rule(action, name)
        for action in ("keep_largest", "keep_largest_of_all", "fill_holes")
        for name in SCHEME.labels.values()
        if name != "background"
    ),
    rule("drop_small", minimum_ml=3.0),
    rule("drop_small", "tumour", 2.0),
]


def mask(text: str) -> np.ndarray:
    """A mask `[1, Y, Z]` drawn with digits and dots, one line a row."""
    rows = text.split()
    return np.array([[[0 if c == "." else int(c) for c in row] for row in rows]], dtype=np.uint8)


def test_the_largest_part_is_kept_and_corners_connect() -> None:
    before = mask("11..1 11..1 ..1.1 ....5")
    after = mask("11... 11... ..1.. ....5")
    np.testing.assert_array_equal(apply_rules(before, 1.0, SCHEME, [rule("keep_largest")]), after)


def test_of_equal_parts_the_first_is_kept() -> None:
    np.testing.assert_array_equal(apply_rules(mask("1.1"), 1.0, SCHEME, [rule("keep_largest")]), mask("1.."))


def test_a_part_stays_where_it_touches_the_largest_part_of_all() -> None:
    before = mask("115..1 115... .....5")
    liver_alone = apply_rules(before, 1.0, SCHEME, [rule("keep_largest_of_all")])
    np.testing.assert_array_equal(liver_alone, mask("115... 115... .....5"))
    both = apply_rules(before, 1.0, SCHEME, [rule("keep_largest_of_all", name) for name in ("liver", "tumour")])
    np.testing.assert_array_equal(both, mask("115... 115... ......"))


@pytest.mark.parametrize(
    ("voxel_ml", "kept"), [(1.0, "1.11.111"), (0.5, "..11.111"), (0.34, ".....111"), (0.3, "........")]
)
def test_small_parts_are_dropped_by_their_volume(voxel_ml: float, kept: str) -> None:
    after = apply_rules(mask("1.11.111"), voxel_ml, SCHEME, [rule("drop_small", minimum_ml=1.0)])
    np.testing.assert_array_equal(after, mask(kept))


def test_holes_are_filled_and_what_lies_in_them_stays() -> None:
    before = np.zeros((5, 5, 6), np.uint8)
    before[1:4, 1:4, 1:5] = 1
    before[2, 2, 2:4] = 0, 5
    after = apply_rules(before, 1.0, SCHEME, [rule("fill_holes")])
    assert after[2, 2].tolist() == [0, 1, 1, 5, 1, 0]
    assert (after != before).sum() == 1


def test_a_hole_that_is_open_at_the_edge_of_the_scan_or_through_a_face_is_none() -> None:
    ring = mask("111 1.1 111")
    np.testing.assert_array_equal(apply_rules(ring, 1.0, SCHEME, [rule("fill_holes")]), ring)
    shell = np.ones((3, 3, 3), np.uint8)
    shell[1, 1, :2] = 0
    np.testing.assert_array_equal(apply_rules(shell, 1.0, SCHEME, [rule("fill_holes")]), shell)


def test_holes_are_those_of_the_parts_that_are_kept() -> None:
    shell = np.zeros((3, 3, 9), np.uint8)
    shell[..., :3] = shell[..., 4:9] = 1
    shell[1, 1, 1] = shell[1, 1, 5] = 0
    after = apply_rules(shell, 1.0, SCHEME, [rule("fill_holes"), rule("keep_largest")])
    assert after[..., :4].sum() == 0
    assert (after[..., 4:] == 1).all()


@pytest.mark.parametrize("order", [("liver", "tumour"), ("tumour", "liver")])
def test_a_hole_within_a_tumour_within_a_liver_is_the_tumour_s(order: tuple[str, str]) -> None:
    nested = np.zeros((7, 7, 7), np.uint8)
    nested[1:6, 1:6, 1:6] = 1
    nested[2:5, 2:5, 2:5] = 5
    nested[3, 3, 3] = 0
    after = apply_rules(nested, 1.0, SCHEME, [rule("fill_holes", name) for name in order])
    assert after[3, 3, 3] == 5
    assert (after != nested).sum() == 1


def test_structures_that_are_absent_or_unknown() -> None:
    empty = np.zeros((3, 4, 5), np.uint16)
    after = apply_rules(empty, 1.0, SCHEME, RULES)
    assert after.dtype == np.uint16
    np.testing.assert_array_equal(after, empty)
    with pytest.raises(UsageError, match="for 'spleen': expected one of liver, tumour"):
        apply_rules(empty, 1.0, SCHEME, [rule("keep_largest", "spleen")])


masks = arrays(np.uint8, st.tuples(*[st.integers(1, 6)] * 3), elements=st.sampled_from([0, 0, 1, 5]))


@given(masks, st.sampled_from(RULES))
@settings(deadline=None, max_examples=150)
def test_what_holds_of_any_rule(labels: np.ndarray, one: PostprocessRule) -> None:
    given_labels = labels.copy()
    value = {"liver": 1, "tumour": 5}[one.structure]
    after = apply_rules(labels, 1.0, SCHEME, [one])
    np.testing.assert_array_equal(labels, given_labels)
    np.testing.assert_array_equal(apply_rules(after, 1.0, SCHEME, [one]), after)
    changed = after != labels
    if one.action == "fill_holes":
        assert (labels[changed] == 0).all()
        assert (after[changed] == value).all()
    else:
        assert (labels[changed] == value).all()
        assert (after[changed] == 0).all()


@given(masks)
@settings(deadline=None, max_examples=80)
def test_equals_what_scipy_says_of_the_whole_mask(labels: np.ndarray) -> None:
    index, number = ndimage.label(labels == 1, np.ones((3, 3, 3)))
    sizes = [int((index == k).sum()) for k in range(1, number + 1)]
    largest = np.where(index == (1 + int(np.argmax(sizes)) if sizes else 0), labels, np.where(labels == 1, 0, labels))
    np.testing.assert_array_equal(apply_rules(labels, 1.0, SCHEME, [rule("keep_largest")]), largest)
    filled = np.where(ndimage.binary_fill_holes(labels == 1) & (labels == 0), 1, labels)
    np.testing.assert_array_equal(apply_rules(labels, 1.0, SCHEME, [rule("fill_holes")]), filled)


@given(masks, st.permutations(RULES))
@settings(deadline=None, max_examples=50)
def test_the_order_of_rules_does_not_matter(labels: np.ndarray, order: list[PostprocessRule]) -> None:
    np.testing.assert_array_equal(apply_rules(labels, 1.0, SCHEME, order), apply_rules(labels, 1.0, SCHEME, RULES))


def dice(prediction: np.ndarray, truth: np.ndarray, value: int) -> float:
    found, real = prediction == value, truth == value
    return 2 * (found & real).sum() / (found.sum() + real.sum()) if found.any() or real.any() else 1.0


def figures(chosen: PostprocessRule) -> dict[str, float]:
    assert chosen.evidence is not None
    return chosen.evidence.model_dump()


def noisy_case(seed: int, islands: int) -> CaseMasks:
    """A block of liver with a tumour in it, and false islands of liver far away."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((12, 12, 12), np.uint8)
    truth[2:9, 2:9, 2:9] = 1
    truth[4:6, 4:6, 4:6] = 5
    prediction = truth.copy()
    prediction[8, 2:9, 2:9] = 0
    for row, column in rng.permutation(36)[:islands, None] * 2 % (12, 11):
        prediction[11, row, column] = 1
    return CaseMasks(prediction, truth, 0.5)


def test_what_helps_is_chosen_with_its_figures() -> None:
    cases = [noisy_case(seed, 8) for seed in range(6)]
    [chosen] = choose_rules([lambda case=case: case for case in cases], SCHEME)
    assert (chosen.structure, chosen.action) == ("liver", "keep_largest")
    assert chosen.evidence is not None
    without = [dice(case.prediction, case.truth, 1) for case in cases]
    with_it = [dice(apply_rules(case.prediction, 0.5, SCHEME, [chosen]), case.truth, 1) for case in cases]
    assert chosen.evidence.dice_before == pytest.approx(np.mean(without))
    assert chosen.evidence.dice_after == pytest.approx(np.mean(with_it))
    assert (chosen.evidence.cases, chosen.evidence.better, chosen.evidence.worse) == (6, 6, 0)
    assert chosen.describe().startswith("liver: largest part kept (Dice 0.")


def test_what_helps_too_little_or_too_few_is_not_chosen() -> None:
    cases = [noisy_case(seed, 8) for seed in range(6)]
    load = [lambda case=case: case for case in cases]
    [chosen] = choose_rules(load, SCHEME)
    assert chosen.evidence is not None
    gain = chosen.evidence.dice_after - chosen.evidence.dice_before
    assert choose_rules(load, SCHEME, margin=gain + 1e-6) == []
    assert choose_rules(load[: FEWEST_CASES - 1], SCHEME) == []
    assert choose_rules([], SCHEME, fewest_cases=0) == []


def test_a_rule_that_makes_more_cases_worse_than_better_is_not_chosen_whatever_its_mean() -> None:
    two_parts = np.zeros((3, 3, 9), np.uint8)
    two_parts[..., :4] = two_parts[..., 5:8] = 1
    one_part = two_parts.copy()
    one_part[..., 5:] = 0
    hurt, helped = CaseMasks(two_parts, two_parts, 1.0), CaseMasks(two_parts, one_part, 1.0)
    far = CaseMasks(two_parts, np.where(np.arange(9) < 4, 1, 0).astype(np.uint8) * np.ones((3, 3, 9), np.uint8), 1.0)
    both = [lambda: hurt, lambda: hurt, lambda: hurt, lambda: helped, lambda: far]
    assert choose_rules(both, LIVER) == []
    better = [lambda: helped, lambda: helped, lambda: helped, lambda: hurt, lambda: hurt]
    [chosen] = choose_rules(better, LIVER)
    evidence = figures(chosen)
    assert evidence["dice_before"] == pytest.approx((3 * 72 / 99 + 2) / 5)
    assert evidence["dice_after"] == pytest.approx((3 + 2 * 72 / 99) / 5)
    assert (evidence["cases"], evidence["better"], evidence["worse"]) == (5, 3, 2)


def test_a_false_structure_that_goes_away_counts_as_right_and_absent_ones_do_not_count() -> None:
    truth = np.zeros((4, 4, 4), np.uint8)
    false = truth.copy()
    false[0, 0, 0] = 1
    real = truth.copy()
    real[1:3, 1:3, 1:3] = 1
    cases = [CaseMasks(false, truth, 0.5)] * 2 + [CaseMasks(real, real, 0.5)] * 4 + [CaseMasks(truth, truth, 0.5)] * 9
    [chosen] = choose_rules([lambda case=case: case for case in cases], LIVER)
    assert (chosen.action, chosen.minimum_ml) == ("drop_small", 1.0)
    expected = {"dice_before": 4 / 6, "dice_after": 1.0, "cases": 6, "better": 2, "worse": 0}
    assert figures(chosen) == pytest.approx(expected)


def test_holes_are_chosen_of_the_masks_that_the_other_rules_leave() -> None:
    truth = np.zeros((7, 7, 16), np.uint8)
    truth[1:6, 1:6, 1:6] = 1
    prediction = truth.copy()
    prediction[2:5, 2:5, 2:5] = 0
    prediction[0, 0, 10:14] = 1
    case = CaseMasks(prediction, truth, 1.0)
    chosen = choose_rules([lambda: case] * 5, LIVER)
    assert [one.action for one in chosen] == ["keep_largest", "fill_holes"]
    assert chosen[0].evidence is not None
    assert chosen[1].evidence is not None
    assert chosen[1].evidence.dice_before == pytest.approx(chosen[0].evidence.dice_after)
    assert chosen[1].evidence.dice_after == 1


@given(st.lists(st.tuples(masks, st.integers(0, 99)), min_size=1, max_size=3))
@settings(deadline=None, max_examples=25)
def test_the_figures_are_those_of_the_masks_that_come_out(drawn: list[tuple[np.ndarray, int]]) -> None:
    cases = []
    for prediction, seed in drawn:
        truth = np.random.default_rng(seed).choice(np.array([0, 1, 5], np.uint8), prediction.shape)
        cases.append(CaseMasks(prediction, truth, 1.0))
    chosen = choose_rules([lambda case=case: case for case in cases], SCHEME, margin=MARGIN, fewest_cases=1)
    dropping = [one for one in chosen if one.action != "fill_holes"]
    for one in dropping:
        value = {"liver": 1, "tumour": 5}[one.structure]
        scored = [c for c in cases if (c.prediction == value).any() or (c.truth == value).any()]
        after = [dice(apply_rules(c.prediction, 1.0, SCHEME, [one]), c.truth, value) for c in scored]
        assert one.evidence is not None
        assert one.evidence.dice_after == pytest.approx(np.mean(after))
        assert one.evidence.cases == len(scored)


@pytest.mark.parametrize(
    "wrong", [{"action": "drop_small"}, {"action": "keep_largest", "minimum_ml": 1}, {"action": "erode"}]
)
def test_a_rule_that_contradicts_itself_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PostprocessRule.model_validate({"structure": "liver"} | wrong)
