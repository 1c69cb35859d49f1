"""Crops: they hold what they should, come from where they say, and depend on seed and index alone."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fullscale.data.cache import PreparedCase
from fullscale.training.augment import DefaultAugmentation
from fullscale.views.crops import Crop, CropDataset, CropSampler

STILL = DefaultAugmentation(probability=0, flip=0)


def a_case(
    folder: Path, name: str, shape: tuple[int, int, int], structures: dict[int, tuple[slice, ...]]
) -> PreparedCase:
    folder.mkdir()
    label = np.zeros(shape, dtype=np.uint8)
    for value, where in structures.items():
        label[where] = value
    slices, rows, columns = np.indices(shape)
    np.save(folder / "image.npy", (100 * slices + 10 * (rows % 10) + columns % 10).astype(np.float16)[None])
    np.save(folder / "label.npy", label)
    voxels = np.array([np.bincount(s.ravel(), minlength=3) for s in label])
    return PreparedCase(name, folder, (1, 1, 1), voxels)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[PreparedCase]]:
    folder = tmp_path_factory.mktemp("prepared")
    return [
        a_case(folder / "a", "a", (8, 40, 30), {1: np.s_[3, 5:9, 5:9], 2: np.s_[4, 30:33, 20:23]}),
        a_case(folder / "b", "b", (6, 12, 50), {2: np.s_[5, 2:4, 40:44]}),
    ]


def dataset(cases: list[PreparedCase], share: float = 1.0, patch: tuple[int, int] = (16, 16)) -> CropDataset:
    return CropDataset(cases, patch, 1, share, STILL, seed=5)


@given(st.integers(0, 100_000))
@settings(max_examples=60, deadline=None)
def test_an_structure_crop_holds_an_structure(cases: list[PreparedCase], index: int) -> None:
    _, label = dataset(cases)[index]
    assert label.any()


def test_structures_take_turns_though_one_is_rare(cases: list[PreparedCase]) -> None:
    drawn = [dataset(cases)[i][1].unique().tolist() for i in range(200)]
    ones = sum(1 in values for values in drawn)
    assert 60 < ones < 140


def test_without_a_share_slices_are_drawn_alike(cases: list[PreparedCase]) -> None:
    crops = dataset(cases, share=0)
    rng = np.random.default_rng(0)
    drawn = [crops.draw(rng) for _ in range(700)]
    counts = np.bincount([8 * (c.case == 1) + c.slice for c in drawn], minlength=14)
    assert counts.min() > 20


def test_a_crop_shows_the_slice_its_neighbours_and_repeats_edges(cases: list[PreparedCase]) -> None:
    image, label = dataset(cases).cut(Crop(case=1, slice=5, row=-2, column=40))
    assert image.shape == (3, 16, 16)
    assert image[:, 2, 0].tolist() == [400, 500, 500]
    np.testing.assert_array_equal(image[1, 0], image[1, 2])
    np.testing.assert_array_equal(image[1, :, 10], image[1, :, 9])
    assert label.sum() == 2 * 8
    np.testing.assert_array_equal(label[4:6, 0:4], 2)


def test_a_crop_depends_on_seed_and_index_alone(cases: list[PreparedCase]) -> None:
    lively = DefaultAugmentation(probability=1, flip=0.5)
    first = CropDataset(cases, (16, 16), 1, 0.5, lively, seed=5)
    again = CropDataset(cases, (16, 16), 1, 0.5, lively, seed=5)
    _ = [again[i] for i in range(7)]
    for index in (3, 70_000):
        assert torch.equal(first[index][0], again[index][0])
        assert torch.equal(first[index][1], again[index][1])
    other = CropDataset(cases, (16, 16), 1, 0.5, lively, seed=6)
    assert not torch.equal(first[3][0], other[3][0])


def test_the_sampler_goes_on_where_the_epoch_before_ended_and_processes_share() -> None:
    sampler = CropSampler(4)
    first = list(sampler)
    sampler.set_epoch(1)
    assert first + list(sampler) == list(range(8))
    shares = [CropSampler(4, rank, 2) for rank in range(2)]
    assert sorted(index for share in shares for index in share) == list(range(8))
    for share in shares:
        share.go_on(3, 2)
    assert sorted(index for share in shares for index in share) == [28, 29, 30, 31]
    shares[1].set_epoch(4)
    assert list(shares[1]) == [33, 35, 37, 39]


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_augmentation_never_invents_a_label_nor_breaks_a_number(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(3, 24, 20)).astype(np.float32)
    label = np.zeros((24, 20), dtype=np.uint8)
    label[4:14, 5:12] = 3
    label[15:20, 5:12] = 200
    wild = DefaultAugmentation(probability=1, rotate_degrees=90, scale=0.4, shift=0.3, flip=0.5, noise=0.5, gamma=0.6)
    changed, moved = wild(image, label, seed)
    assert set(moved.unique().tolist()) <= {0, 3, 200}
    assert torch.isfinite(changed).all()
    assert changed.shape == (3, 24, 20)
    assert (changed.dtype, moved.dtype) == (torch.float32, torch.int64)


def test_image_and_label_move_together() -> None:
    label = np.zeros((32, 32), dtype=np.uint8)
    label[6:14, 10:26] = 1
    image = np.repeat(label[None].astype(np.float32), 3, axis=0)
    geometric = DefaultAugmentation(probability=1, noise=0, intensity=0, gamma=0, flip=0.5)
    for seed in range(10):
        changed, moved = geometric(image, label, seed)
        inside = changed[1] > 0.5
        assert (inside == moved.bool()).float().mean() > 0.97
    untouched = STILL(image, label, 1)
    np.testing.assert_array_equal(untouched[0].numpy(), image)


def test_what_the_network_is_given_is_plain(cases: list[PreparedCase]) -> None:
    image, label = dataset(cases)[0]
    assert type(image) is type(label) is torch.Tensor
