"""Maps on the network's grid come out on the scan's, whatever the size of the slabs they arrive in."""

from itertools import pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from fullscale.inference.onto_scan import onto_slices


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
    found = list(onto_slices(slabs, (slices, 4, 5), shape, size))
    assert [len(slab) for slab in found[:-1]] == [size] * (len(found) - 1)
    assert 1 <= len(found[-1]) <= size
    expected = F.interpolate(maps.transpose(0, 1)[None], shape, mode="trilinear", align_corners=False)[0]
    torch.testing.assert_close(torch.cat(found).transpose(0, 1), expected, rtol=1e-6, atol=1e-6)
