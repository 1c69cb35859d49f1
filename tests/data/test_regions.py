"""Regions: values to classes to channels, and decisions back to values."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fullscale.data.label_choice import LabelChoice
from fullscale.data.labels import IGNORED, LabelScheme
from fullscale.errors import UsageError
from fullscale.geometry.volume import Volume

TUMOUR = {"whole": (1, 2, 3, 4), "core": (1, 3, 4), "enhancing": (4,)}
ACROSS = {"left": (1, 3), "right": (2, 3)}


def plain_nnunet(present: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """Each region writes its value over those before it."""
    found = np.zeros(present.shape[1:], int)
    for region, value in zip(present, order, strict=True):
        found[region] = value
    return found


def test_every_region_is_written_as_a_value_of_its_own():
    scheme = LabelScheme({}, TUMOUR)
    assert scheme.structures == {2: "whole", 1: "core", 4: "enhancing"}
    assert scheme.atoms == (1, 2, 3, 4)
    assert (scheme.classes, scheme.channels, scheme.activation) == (5, 3, "sigmoid")
    assert scheme.membership.astype(int).tolist() == [[0, 1, 1, 1, 1], [0, 1, 0, 1, 1], [0, 0, 0, 0, 1]]
    assert LabelScheme({}, TUMOUR, (2, 3, 4)).structures == {2: "whole", 3: "core", 4: "enhancing"}


def test_a_region_of_one_value_is_one_channel_and_a_sigmoid():
    scheme = LabelScheme({}, {"liver": (3,)})
    assert (scheme.channels, scheme.classes, scheme.activation) == (1, 2, "sigmoid")
    assert scheme.decide(torch.tensor([[[1.0, -1.0]]])).tolist() == [[1, 0]]


def test_values_that_no_region_names_are_background_and_the_ignored_one_is_ignored():
    scheme = LabelScheme({}, {"whole": (2, 5), "core": (5,)}, ignore=9)
    assert scheme.targets(np.array([0, 1, 2, 5, 9])).tolist() == [0, 0, 1, 2, IGNORED]
    assert scheme.values(np.array([0, 1, 2], np.uint8)).tolist() == [0, 2, 5]


@given(st.lists(st.booleans(), min_size=3, max_size=3))
def test_nested_regions_are_decided_as_nnunet_writes_them(present: list[bool]):
    scheme, scores = LabelScheme({}, TUMOUR, (2, 3, 4)), np.where(present, 2.0, -2.0)[None, :, None]
    expected = plain_nnunet(np.array(present)[:, None], (2, 3, 4)).tolist()
    for decided in (scheme.decide(scores), scheme.decide(torch.from_numpy(scores)).numpy()):
        assert scheme.values(decided.astype(np.uint8))[0].tolist() == expected


@given(
    st.dictionaries(
        st.sampled_from("abcd"), st.frozensets(st.integers(1, 5), min_size=1).map(tuple), min_size=1, max_size=4
    )
)
def test_what_a_mask_says_of_regions_comes_back_through_channels(regions: dict[str, tuple[int, ...]]):
    try:
        scheme = LabelScheme({}, regions)
    except UsageError:
        return  # two are one, or one is the union of others
    values = np.arange(7)
    channels = scheme.membership[:, scheme.targets(values)]
    written = scheme.values(scheme.decide(np.where(channels, 3.0, -3.0)[None]).astype(np.uint8))[0]
    for values_of_it in scheme.members.values():
        assert np.isin(written, values_of_it).tolist() == np.isin(values, values_of_it).tolist()
    decided = scheme.decide_probabilities(torch.from_numpy(np.where(channels, 0.9, 0.1)[None]))
    np.testing.assert_array_equal(scheme.values(decided.numpy().astype(np.uint8))[0], written)


def test_a_voxel_of_two_regions_that_cross_keeps_both():
    scheme = LabelScheme({}, ACROSS)
    assert scheme.structures == {1: "left", 2: "right"}
    both = np.array([[[1.0], [1.0]]])
    assert scheme.values(scheme.decide(both).astype(np.uint8)).tolist() == [[3]]


def test_taking_a_region_out_takes_what_lies_within_it():
    scheme = LabelScheme({}, TUMOUR)
    assert scheme.without(2) == {1: 0, 2: 0, 3: 0, 4: 0}
    assert scheme.without(1) == {1: 2, 3: 2, 4: 2}
    assert scheme.without(4) == {4: 1}
    assert LabelScheme({}, ACROSS).without(1) == {1: 0, 3: 2}
    assert LabelScheme({1: "liver", 2: "liver"}).without(1) == {1: 0, 2: 0}


def test_a_mask_keeps_its_regions_and_counts_their_voxels():
    mask = Volume(np.array([0, 1, 2, 4, 4, 7], np.uint8).reshape(-1, 1, 1), np.eye(4))
    scheme = LabelScheme({7: "skull"}, TUMOUR)
    assert scheme.keep(mask).array.ravel().tolist() == [0, 1, 2, 4, 4, 0]
    assert scheme.voxels(mask.array) == {"whole": 4, "core": 3, "enhancing": 2}
    assert LabelScheme({1: "liver", 2: "liver"}).voxels(np.array([1, 1, 0])) == {"liver": 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({}, {"a": ()}), "region 'a' is \\[\\]"),
        (({}, {"a": (0, 1)}), "from 1 on"),
        (({}, {"a": (1, 2), "b": (2, 1)}), "the same values"),
        (({}, {"a": (1, 2), "b": (1,), "c": (2,)}), "their union"),
        (({}, TUMOUR, (1, 2)), "expected 3 values"),
        (({}, TUMOUR, (2, 2, 4)), "all different"),
        (({}, TUMOUR, (2, 1, 3)), "'enhancing' is to be written as 3"),
        (({}, {}, (1,)), "order of the regions"),
        (({1: "liver", 2: "spleen"}, {}, (), 2), "label 2 is to be ignored, and is spleen as well"),
        (({}, TUMOUR, (), 3), "label 3 is to be ignored, and is whole as well"),
        (({1: "liver"}, {}, (), 0), "label 0 is to be ignored, and is background"),
    ],
)
def test_what_contradicts_itself_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        LabelScheme(*arguments)


def test_structures_that_were_not_drawn_are_told_by_their_place():
    assert LabelScheme({1: "liver", 2: "spleen", 3: "liver"}).unknown(("liver",)) == (1,)
    assert LabelScheme({}, TUMOUR).unknown(("whole", "enhancing")) == (1,)
    assert LabelScheme({}, TUMOUR).unknown(None) == ()


def test_the_settings_choose_before_the_data_set():
    from fullscale.data.case import Dataset

    declared = Dataset(
        root=None, layout="", name="", modality=None, labels=None, regions=TUMOUR, region_order=(2, 3, 4), ignore=9
    )
    assert LabelChoice().scheme(declared, {}) == LabelScheme({0: "background"}, TUMOUR, (2, 3, 4), 9)
    one = LabelChoice(labels={4: "enhancing", 9: "background"}).scheme(declared, {})
    assert one == LabelScheme({0: "background", 4: "enhancing", 9: "background"})
    two = LabelChoice(regions={"a": (1, 2), "b": (2,)}, ignore=7).scheme(declared, {})
    assert (two.regions, two.order, two.ignore) == ({"a": (1, 2), "b": (2,)}, (1, 2), 7)


def test_a_value_that_a_data_set_ignores_is_ignored_unless_something_else_is_said():
    assert LabelScheme({1: "liver"}).ignoring(9).ignore == 9
    assert LabelScheme({1: "liver"}).ignoring(None).ignore is None
    assert LabelScheme({1: "liver"}, ignore=5).ignoring(9).ignore == 5
    assert LabelScheme({1: "liver", 9: "spleen"}).ignoring(9).ignore is None
