"""Maps on the network's grid come out on the scan's, and so do decisions, whatever the sizes."""

from itertools import pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from fullscale.data.labels import LabelScheme
from fullscale.inference.combine import Combination
from fullscale.inference.onto_scan import decide_onto, onto_plane, onto_slices

SCHEMES = [
    LabelScheme({1: "liver"}),
    LabelScheme({value: f"structure {value}" for value in range(1, 5)}),
    LabelScheme({1: "oedema", 2: "necrosis", 3: "enhancing"}, {"whole": (1, 2, 3), "core": (2, 3), "active": (3,)}),
]


@given(
    st.integers(1, 14),
    st.tuples(st.integers(1, 30), st.integers(2, 9), st.integers(2, 9)),
    st.lists(st.integers(1, 13), max_size=4),
    st.integers(1, 8),
)
@settings(max_examples=150, deadline=None)
def test_the_same_as_one_interpolation_of_the_whole(
    slices: int, shape: tuple[int, int, int], cuts: list[int], size: int
) -> None:
    maps = torch.randn(slices, 2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    edges = sorted({0, *(cut for cut in cuts if cut < slices), slices})
    slabs = (maps[first:last] for first, last in pairwise(edges))
    found = [onto_plane(slab, shape[1:]) for slab in onto_slices(slabs, slices, shape[0], size)]
    assert [len(slab) for slab in found[:-1]] == [size] * (len(found) - 1)
    assert 1 <= len(found[-1]) <= size
    expected = F.interpolate(maps.transpose(0, 1)[None], shape, mode="trilinear", align_corners=False)[0]
    torch.testing.assert_close(torch.cat(found).transpose(0, 1), expected, rtol=1e-12, atol=1e-12)


@given(
    st.sampled_from(SCHEMES),
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=3),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.integers(0, 2**31),
    st.sampled_from([-3.0, 0.0, 3.0]),
)
@settings(max_examples=200, deadline=None)
def test_decisions_are_those_of_logits_at_the_size_of_the_scan(
    scheme: LabelScheme, planes: list[tuple[int, int]], plane: tuple[int, int], seed: int, background: float
) -> None:
    rng = torch.Generator().manual_seed(seed)
    members = [_logits(scheme, size, background, rng) for size in planes]
    at_full_size = Combination(scheme)
    for logits in members:
        at_full_size.add(onto_plane(logits, plane))
    assert torch.equal(decide_onto(members, plane, scheme), at_full_size.decide())


def _logits(scheme: LabelScheme, plane: tuple[int, int], background: float, rng: torch.Generator) -> Tensor:
    """Draw logits of two slices in which little, about half or nearly all is background."""
    logits = torch.randn(2, scheme.channels, *plane, generator=rng, dtype=torch.float64)
    if scheme.activation == "softmax":
        logits[:, 0] += background
        return logits
    return logits - background
