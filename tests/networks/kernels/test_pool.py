"""Max-pooling without the places of the maxima: the numbers of torch's own, whatever the size, and its gradients."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from fullscale.networks.kernels import pool
from fullscale.networks.kernels.pool import max_pool

TYPES = (torch.float32, torch.float64, torch.bfloat16)
POOLS = {2: F.max_pool2d, 3: F.max_pool3d}


@pytest.fixture(autouse=True, scope="module")
def _long_vectors() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "has_long_vectors", lambda: True)
        yield


@settings(deadline=None)
@given(data=st.data(), dims=st.sampled_from([2, 3]), dtype=st.sampled_from(TYPES))
def test_it_is_torchs_own(data: st.DataObject, dims: int, dtype: torch.dtype) -> None:
    steps = data.draw(st.lists(st.sampled_from([1, 2, 3, 4, 8]), min_size=dims, max_size=dims))
    sides = [data.draw(st.integers(step, 2 * step + 3)) for step in steps]
    x = torch.randn(2, 3, *sides, generator=torch.Generator().manual_seed(0)).to(dtype)
    x[0, 0].fill_(float("nan"))
    if data.draw(st.booleans()):
        x = x.to(memory_format=torch.channels_last if dims == 2 else torch.channels_last_3d)
    torch.testing.assert_close(max_pool(x, steps), POOLS[dims](x, steps), rtol=0, atol=0, equal_nan=True)


def test_where_a_gradient_is_asked_for_it_is_torchs_own_too() -> None:
    x = torch.zeros(1, 1, 4, 4, requires_grad=True)  # of equal pixels torch gives all to the first
    max_pool(x, (2, 2)).sum().backward()
    assert x.grad is not None
    assert x.grad[0, 0].tolist() == [[1, 0, 1, 0], [0] * 4, [1, 0, 1, 0], [0] * 4]


def test_no_places_are_looked_for_where_no_gradient_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(F, "max_pool2d", None)
    with torch.no_grad():
        assert max_pool(torch.randn(1, 2, 8, 8, requires_grad=True), (4, 2)).shape == (1, 2, 2, 4)
    with pytest.raises(TypeError):
        max_pool(torch.randn(1, 2, 8, 8, requires_grad=True), (4, 2))
