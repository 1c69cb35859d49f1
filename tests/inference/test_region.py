"""The box that a coarse pass finds: it grows until nothing is cut, and all else falls back to the whole scan."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fullscale.bundle.card import ModelCard
from fullscale.data.recipe import Intensity, Recipe
from fullscale.geometry.volume import Volume
from fullscale.inference.predictor import Predictor
from fullscale.inference.region import ALIGN, Box, segment_box, within
from fullscale.inference.runtimes.load import RunningMember
from fullscale.inference.stages import Stages

SHAPE = (30, 128, 160)


class Bright:
    """Calls a voxel above 0.5 the structure, or the second structure above 1.5: it sees no neighbours."""

    device = torch.device("cpu")

    def __init__(self, structures: int = 1) -> None:
        self.structures = structures
        self.voxels = 0

    def logits(self, image: Tensor) -> Tensor:
        self.voxels += image.numel()
        return image - 0.5 if self.structures == 1 else torch.cat([0.5 - image, image - 0.5, 3 * image - 3.5], dim=1)

    def segment(self, image: Tensor) -> tuple[Tensor, None]:
        return self.logits(image), None


def predictor(runtime: Bright, region: str, spacing: float | None = None) -> Predictor:
    card = ModelCard(
        network="unet",
        labels={0: "background"} | {k + 1: f"structure {k}" for k in range(runtime.structures)},
        recipe=Recipe(
            intensity=Intensity(per="dataset", low=0, high=2, mean=0, std=1), spacing_mm=spacing, neighbours=0
        ),
        modality="CT",
    )
    return Predictor(card, [RunningMember(card, runtime)], region=region)  # type: ignore[arg-type]


def scan(array: np.ndarray, spacing: tuple[float, float, float] = (1, 1, 5)) -> Volume:  # type: ignore[type-arg]
    return Volume(array.astype(np.float32).transpose(2, 1, 0), np.diag([*spacing, 1.0]))


def ball(centre: tuple[int, int, int], radii: tuple[float, float, float]) -> np.ndarray:  # type: ignore[type-arg]
    grid = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
    return sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) <= 1  # type: ignore[return-value]


@settings(deadline=None, max_examples=40)
@given(st.tuples(*(st.integers(0, n - 1) for n in SHAPE)), st.tuples(*(st.integers(2, n) for n in SHAPE)))
def test_a_box_around_any_part_of_a_structure_grows_to_all_of_it(
    centre: tuple[int, int, int], radii: tuple[int, int, int]
) -> None:
    truth = ball(centre, radii)
    z, y, x = centre
    box = within(Box((z, z + 1), (y, y + 1), (x, x + 1)), SHAPE)
    classes = np.zeros(SHAPE, np.uint8)
    asked = []

    def decide(box: Box) -> np.ndarray:  # type: ignore[type-arg]
        asked.append(box)
        found = np.zeros_like(truth)
        found[tuple(slice(*side) for side in box)] = truth[tuple(slice(*side) for side in box)]
        return found[slice(*box.slices)].astype(np.uint8)

    last = segment_box(box, SHAPE, classes, decide)
    assert np.array_equal(classes, truth)
    assert all(
        side % ALIGN == 0 or side == n for b in asked for r, n in zip(b[1:], SHAPE[1:], strict=True) for side in r
    )
    for axis, (low, high) in enumerate(last):  # no side that lies in the scan is touched
        assert low == 0 or not truth.take(low, axis).any()
        assert high == SHAPE[axis] or not truth.take(high - 1, axis).any()


@pytest.mark.parametrize("spacing", [None, 1.25])
@pytest.mark.parametrize("structures", [1, 2])
def test_a_network_without_context_gives_the_mask_of_the_whole_scan_from_fewer_voxels(
    structures: int, spacing: float | None
) -> None:
    array = ball((6, 40, 40), (3, 18, 15)) + ball((6, 40, 40), (1.5, 6, 6)) * (structures - 1)
    whole, coarse = Bright(structures), Bright(structures)
    stages = Stages()
    expected = predictor(whole, "whole", spacing).predict(scan(array))
    found = predictor(coarse, "coarse", spacing).predict(scan(array), stages=stages)
    assert expected.array.max() == structures
    assert np.array_equal(found.array, expected.array)
    assert coarse.voxels < 0.6 * whole.voxels
    assert stages.notes == []
    assert list(stages.seconds) == ["preparing", "coarse", "fine"]


def test_an_empty_coarse_pass_falls_back_to_the_whole_scan_and_says_so() -> None:
    array = np.zeros(SHAPE)
    array[7, 30, 50] = 0.9  # one voxel: half the resolution does not show it
    stages = Stages()
    found = predictor(Bright(), "coarse").predict(scan(array), stages=stages)
    assert found.array.sum() == 1
    assert stages.notes == ["segmented whole: the coarse pass found nothing"]


def test_slices_that_are_too_small_to_be_halved_are_segmented_whole() -> None:
    stages = Stages()
    found = predictor(Bright(), "coarse").predict(scan(ball((6, 40, 40), (3, 18, 15))[:, :50]), stages=stages)
    assert found.array.any()
    assert "segmented whole" in stages.notes[0]


def test_probabilities_are_those_of_the_whole_scan() -> None:
    array = ball((6, 40, 40), (3, 18, 15))
    _, whole = predictor(Bright(), "whole").predict_probabilities(scan(array))
    _, coarse = predictor(Bright(), "coarse").predict_probabilities(scan(array))
    assert np.array_equal(coarse["structure 0"].array, whole["structure 0"].array)


def test_no_pass_computes_more_slices_at_once_than_it_may() -> None:
    """Where memory is short, that holds for the coarse pass too."""
    at_once = []

    class Counting(Bright):
        def logits(self, image: Tensor) -> Tensor:
            at_once.append((len(image), image.shape[2]))
            return super().logits(image)

    array = ball((15, 60, 80), (6, 30, 30))
    usual, few = predictor(Bright(), "coarse"), predictor(Counting(), "coarse")
    few.batch_size = 2
    np.testing.assert_array_equal(few.predict(scan(array)).array, usual.predict(scan(array)).array)
    assert max(slices for slices, _ in at_once) == 2
    assert SHAPE[1] // 2 in {rows for _, rows in at_once}
