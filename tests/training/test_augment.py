"""Our augmentation, of slices and of patches."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fullscale.data.recipe import Mirror
from fullscale.errors import UsageError
from fullscale.testing import check_augmentation
from fullscale.testing.augmentations import make_crop
from fullscale.training.augment import DefaultAugmentation
from fullscale.training.intensities import add_noise, change_gamma, lower_resolution

PATCH = (16, 32, 32)
EVERYTHING = {"probability": 1, "flip": 0.5, "elastic": 1.0, "low_resolution": 0.5, "invert": 0.5}


@pytest.mark.parametrize("options", [{"probability": 1, "flip": 0.5}, EVERYTHING, {"spacing_mm": None, "flip": 1}])
def test_keeps_the_contract_of_slices_and_patches(options: dict[str, float]) -> None:
    check_augmentation(DefaultAugmentation(**options), spatial_dims=(2, 3))


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_a_patch_gets_no_label_that_it_did_not_hold_and_no_number_that_is_none(seed: int) -> None:
    image, label = make_crop(2, (9, 24, 24))
    wild = DefaultAugmentation(
        rotate_degrees=90,
        scale=0.4,
        shift=0.3,
        noise=0.5,
        gamma=0.6,
        mirrors=("left-right", "front-back", "head-foot"),
        **EVERYTHING,
    )
    kept = image.copy(), label.copy()
    changed, moved = wild(image, label, seed)
    assert set(moved.unique().tolist()) <= set(np.unique(label).tolist())
    assert changed.isfinite().all()
    assert (changed.shape, changed.dtype, moved.dtype) == (image.shape, torch.float32, torch.int64)
    np.testing.assert_array_equal(image, kept[0])
    np.testing.assert_array_equal(label, kept[1])


@pytest.mark.parametrize("size", [PATCH, (32, 32)])
def test_image_and_label_move_together(size: tuple[int, ...]) -> None:
    label = np.zeros(size, dtype=np.uint8)
    label[..., 6:14, 10:26] = 1
    image = label[None].astype(np.float32)
    geometric = DefaultAugmentation(probability=1, noise=0, intensity=0, gamma=0, flip=0.5, elastic=2)
    for seed in range(10):
        changed, moved = geometric(image, label, seed)
        assert ((changed[0] > 0.5) == moved.bool()).float().mean() > 0.99


def test_channels_of_a_patch_change_by_themselves_and_neighbouring_slices_alike() -> None:
    intense = DefaultAugmentation(probability=1, rotate_degrees=0, scale=0, shift=0, noise=0, invert=0.5)
    for size, alike in ((PATCH, False), ((32, 32), True)):
        image, label = make_crop(1, size)
        changed, _ = intense(np.repeat(image, 3, axis=0), label, 4)
        assert torch.equal(changed[0], changed[1]) == torch.equal(changed[1], changed[2]) == alike
        assert not torch.equal(changed[0], torch.from_numpy(image[0]))


def test_without_a_chance_a_patch_stays_as_it_is() -> None:
    image, label = make_crop(2, PATCH)
    changed, moved = DefaultAugmentation(probability=0, flip=0)(image, label, 1)
    np.testing.assert_array_equal(changed.numpy(), image)
    np.testing.assert_array_equal(moved.numpy(), label)


@pytest.mark.parametrize(
    ("mirrors", "expected"),
    [(("left-right",), [2]), (("head-foot",), [0]), (("head-foot", "front-back"), [0, 1]), ((), [])],
)
def test_mirrors_are_those_that_are_named(mirrors: tuple[Mirror, ...], expected: list[int]) -> None:
    image, label = make_crop(1, PATCH)
    changed, moved = DefaultAugmentation(probability=0, flip=1, mirrors=mirrors)(image, label, 1)
    np.testing.assert_array_equal(moved.numpy(), np.flip(label, expected))
    np.testing.assert_array_equal(changed[0].numpy(), np.flip(image[0], expected))


def test_each_axis_is_mirrored_by_itself() -> None:
    image, label = make_crop(1, PATCH)
    mirror = DefaultAugmentation(probability=0, flip=0.5, mirrors=("left-right", "front-back"))
    seen = {mirror(image, label, seed)[1].numpy().tobytes() for seed in range(40)}
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mirrors": ["up"]}, r"mirrors is \['up'\]: expected some of left-right, front-back, head-foot"),
        ({"elastic": -1}, "elastic is -1: expected a number of at least 0"),
        ({"low_resolution": 1}, "low_resolution is 1: expected a number of at least 0 and below 1"),
        ({"invert": 1.5}, "invert is 1.5: expected a number from 0 to 1"),
        ({"spacing_mm": [1, 1, 0]}, "spacing_mm"),
        ({"spacing_mm": [1]}, "spacing_mm"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DefaultAugmentation(**options)  # type: ignore[arg-type]


def test_options_of_other_axes_than_the_crop_has_are_refused() -> None:
    image, label = make_crop(1, (20, 20))
    with pytest.raises(UsageError, match=r"spacing_mm is .*expected 2 numbers for these crops"):
        DefaultAugmentation(spacing_mm=(1, 1, 1))(image, label, 0)
    with pytest.raises(UsageError, match=r"mirrors is .*expected some of left-right, front-back$"):
        DefaultAugmentation(flip=0.5, mirrors=("head-foot",))(image, label, 0)


def test_gamma_by_hand() -> None:
    image = torch.tensor([[0.0, 1.0, 2.0, 4.0]])
    torch.testing.assert_close(change_gamma(image, 2.0, inverted=False), torch.tensor([[0.0, 0.25, 1.0, 4.0]]))
    torch.testing.assert_close(change_gamma(image, 2.0, inverted=True), torch.tensor([[0.0, 1.75, 3.0, 4.0]]))
    flat = torch.full((1, 3), 2.0)
    assert torch.equal(change_gamma(flat, 2.0, inverted=True), flat)


def test_lower_resolution_keeps_every_second_voxel() -> None:
    ramp = torch.arange(12.0).expand(1, 8, 8, 12)
    coarse = lower_resolution(ramp, 0.5)
    assert coarse.shape == ramp.shape
    torch.testing.assert_close(coarse[0, 0, 0, 1:-1], ramp[0, 0, 0, 1:-1] + 0.5, rtol=0, atol=0.51)
    assert len(torch.unique(lower_resolution(torch.randn(1, 1, 1, 12), 1e-9))) == 1


def test_noise_has_its_deviation() -> None:
    noisy = add_noise(torch.zeros(2, 30, 30, 30), 0.5, np.random.default_rng(0))
    assert float(noisy.std()) == pytest.approx(0.5, rel=0.02)
    assert float((noisy[0] - noisy[1]).abs().mean()) > 0.1
