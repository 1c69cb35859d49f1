"""Tiles of a scan: together they are the whole of it, in bounded memory, weighted as the field does."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map
from monai.inferers import sliding_window_inference
from monai.utils import BlendMode

from fullscale.views.boxes import cut
from fullscale.views.patches import LEAST_WEIGHT, PatchView, importance, starts
from fullscale.views.protocol import LIMIT

CPU = torch.device("cpu")
SIDES = st.integers(1, 23)


def whole(view: PatchView, image: np.ndarray, compute=lambda x: x) -> torch.Tensor:
    return torch.cat(list(view.maps(compute, image, CPU)))


@given(st.tuples(SIDES, SIDES, SIDES), st.tuples(*[st.integers(1, 9)] * 3), st.floats(0, 0.9), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_tiles_of_what_needs_no_surroundings_give_the_scan_back(
    shape: tuple[int, int, int], tile: tuple[int, int, int], overlap: float, batch: int
) -> None:
    image = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    found = whole(PatchView(tile, overlap, batch), image)
    np.testing.assert_allclose(found.numpy(), image.transpose(1, 0, 2, 3), rtol=1e-5, atol=1e-6)


def test_the_same_average_as_monais_sliding_window() -> None:
    rng = torch.Generator().manual_seed(0)
    network = torch.nn.Conv3d(1, 3, 5, padding=2)
    image = torch.randn(1, 1, 21, 17, 30, generator=rng)
    tile = (8, 10, 12)
    ours = starts(21, 8, 0.5), starts(17, 10, 0.5), starts(30, 12, 0.5)
    with torch.no_grad():
        total, weight = torch.zeros(3, 21, 17, 30), torch.zeros(21, 17, 30)
        for place in [(a, b, c) for a in ours[0] for b in ours[1] for c in ours[2]]:
            box = tuple(slice(start, start + side) for start, side in zip(place, tile, strict=True))
            total[(slice(None), *box)] += network(image[(..., *box)])[0] * importance(tile)
            weight[box] += importance(tile)
        found = whole(PatchView(tile), image[0].numpy(), network)
        np.testing.assert_allclose(found.transpose(0, 1).numpy(), (total / weight).numpy(), atol=1e-5)
        # MONAI steps by a fixed interval, which is the same here: 8 tiles of 4 slices more along one axis.
        even = torch.randn(1, 1, 20, 10, 12, generator=rng)
        theirs = sliding_window_inference(even, tile, 4, network, overlap=0.5, mode="gaussian", sigma_scale=0.125)
        found = whole(PatchView(tile), even[0].numpy(), network).transpose(0, 1)
    np.testing.assert_allclose(found.numpy(), theirs[0].numpy(), atol=1e-4)


@pytest.mark.parametrize("tile", [(8, 10, 12), (5, 7, 9)])
def test_weights_are_monais(tile: tuple[int, int, int]) -> None:
    theirs = compute_importance_map(tile, mode=BlendMode.GAUSSIAN, sigma_scale=0.125)
    np.testing.assert_allclose(importance(tile), theirs, rtol=1e-4)
    assert importance(tile).min() == pytest.approx(LEAST_WEIGHT)


def test_a_small_scan_is_shown_with_its_edges_repeated() -> None:
    image = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
    seen = []

    def compute(tiles: torch.Tensor) -> torch.Tensor:
        seen.append(tiles)
        return tiles

    found = whole(PatchView((5, 4, 4)), image, compute)
    assert [tile.shape for tile in seen] == [(1, 1, 5, 4, 4)]
    assert seen[0][0, 0, :, 1, 1].tolist() == [0, 0, 4, 8, 8]
    assert seen[0][0, 0, 1, 0].tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(found.numpy(), image.transpose(1, 0, 2, 3), rtol=1e-6)


def test_slices_are_handed_on_as_soon_as_no_tile_reaches_them() -> None:
    image = np.zeros((1, 20, 4, 4), dtype=np.float32)
    counts = [len(slab) for slab in PatchView((8, 4, 4), 0.5).maps(lambda x: x, image, CPU)]
    assert counts == [4, 4, 4, 8]


def test_one_tile_that_calls_a_structure_absent_cannot_outvote_all_others() -> None:
    image = np.zeros((1, 12, 4, 4), dtype=np.float32)
    calls = iter([-1e38, 10.0])
    found = whole(PatchView((8, 4, 4), 0.5), image, lambda tiles: tiles + next(calls))
    assert found[0].min() == pytest.approx(-LIMIT)
    assert found[11].min() == pytest.approx(10)
    assert found[7, 0, 1:3, 1:3].min() > 0  # the second tile's middle, the first one's edge


@given(st.integers(1, 300), st.integers(1, 80), st.floats(0, 0.9))
def test_starts_cover_an_axis_evenly(size: int, side: int, overlap: float) -> None:
    found = starts(size, side, overlap)
    covered = {index for start in found for index in range(start, start + side)}
    assert set(range(size)) <= covered
    assert len(set(found)) == len(found)
    if size > side:
        assert found[0] == 0
        assert found[-1] == size - side
        steps = np.diff(found)
        assert steps.max() <= max(1, side * (1 - overlap)) + 1
        assert steps.max() - steps.min() <= 1


@given(st.tuples(*[st.integers(1, 6)] * 2), st.tuples(*[st.integers(1, 9)] * 2), st.tuples(*[st.integers(-9, 9)] * 2))
def test_a_box_repeats_the_edge_where_it_reaches_beyond(
    shape: tuple[int, int], sides: tuple[int, int], begin: tuple[int, int]
) -> None:
    array = np.random.default_rng(0).integers(0, 99, size=(2, *shape))
    rows, columns = (
        np.clip(np.arange(b, b + side), 0, size - 1) for b, side, size in zip(begin, sides, shape, strict=True)
    )
    np.testing.assert_array_equal(cut(array, begin, sides), array[:, rows][:, :, columns])
