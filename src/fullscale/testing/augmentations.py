"""The contract of an augmentation."""

from __future__ import annotations

import pickle
import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fullscale.training.augment import Augmentation

SIZES: dict[int, tuple[tuple[int, ...], ...]] = {2: ((32, 32), (33, 20)), 3: ((16, 32, 32), (9, 33, 20))}
"""Of crops, by their number of axes: slices, and patches."""
VALUES = (0, 1, 200)
SEEDS = range(12)


def check_augmentation(
    augmentation: Augmentation, channels: Sequence[int] = (1, 3), spatial_dims: Sequence[int] = (2,)
) -> None:
    """Hold an augmentation against all that training relies on.

    Args:
        augmentation: called as `augmentation(image [C, H, W] float32, label [H, W] uint8, seed)`, and with an axis more
            for patches, `[C, D, H, W]` and `[D, H, W]`.
        channels: numbers C of channels to try.
        spatial_dims: what it is for: 2 for slices, 3 for patches, or both.

    Raises:
        AssertionError: it fails; one line says in what.
    """
    for dims in spatial_dims:
        for size in SIZES[dims]:
            for count in channels:
                check_result(augmentation, count, size)
        check_seed(augmentation, SIZES[dims][0])
        check_pairs(augmentation, SIZES[dims][0])
        check_workers(augmentation, SIZES[dims][0])


def check_result(augmentation: Augmentation, channels: int, size: tuple[int, ...]) -> None:
    """It returns plain tensors of the size and kind that came in, without labels that were not there."""
    for seed in SEEDS:
        image, label = make_crop(channels, size)
        changed, moved = augmentation(image, label, seed)
        for found, what, dtype, shape in (
            (changed, "image", torch.float32, [channels, *size]),
            (moved, "label", torch.int64, list(size)),
        ):
            assert type(found) is Tensor, (
                f"the {what} comes back as {type(found).__name__}, not as a plain torch.Tensor"
            )
            assert found.dtype == dtype, f"the {what} comes back as {found.dtype}, not as {dtype}"
            assert list(found.shape) == shape, f"the {what} comes back with shape {list(found.shape)}, not {shape}"
        assert bool(changed.isfinite().all()), f"with seed {seed} the image is not finite"
        invented = set(np.unique(moved.numpy()).tolist()) - set(VALUES)
        assert not invented, f"with seed {seed} the label holds {sorted(invented)}, which it did not hold before"


def check_seed(augmentation: Augmentation, size: tuple[int, ...] = SIZES[2][0]) -> None:
    """The seed decides alone: the generators of the process have no say."""
    image, label = make_crop(3, size)
    for seed in SEEDS:
        first = _with_globals(augmentation, image, label, seed, state=1)
        again = _with_globals(augmentation, image, label, seed, state=2)
        same = torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
        assert same, f"seed {seed} gives two results: draw all random numbers from the seed, none from the process"


def check_pairs(augmentation: Augmentation, size: tuple[int, ...] = SIZES[2][0]) -> None:
    """Image and label move together: what is bright in the image stays under its label."""
    for seed in SEEDS:
        image, label = make_crop(3, size)
        changed, moved = augmentation(image, label, seed)
        inside, outside = changed[:, moved == 1], changed[:, moved == 0]
        if inside.numel() and outside.numel():
            apart = float(inside.mean() - outside.mean())
            assert apart > 0, f"with seed {seed} the image does not lie under its label any more: they moved apart"


def check_workers(augmentation: Augmentation, size: tuple[int, ...] = SIZES[2][0]) -> None:
    """It can be sent to another process, and does the same there."""
    try:
        copy: Augmentation = pickle.loads(pickle.dumps(augmentation))
    except Exception as error:
        raise AssertionError(
            f"it cannot be sent to a process that prepares crops: {type(error).__name__}: {error}"
        ) from error
    image, label = make_crop(3, size)
    here, there = augmentation(image.copy(), label.copy(), 5), copy(image.copy(), label.copy(), 5)
    assert torch.equal(here[0], there[0]), "sent to another process it changes the image in another way"


def make_crop(channels: int, size: tuple[int, ...]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Draw a noisy image `[C, *size]` with two bright structures, and their label `[*size]`."""
    label = np.zeros(size, dtype=np.uint8)
    middle = [slice(side // 4, side - side // 4) for side in size[:-2]]
    label[(*middle, slice(4, 14), slice(5, 12))] = 1
    label[(*middle, slice(16, 22), slice(5, 15))] = 200
    noise = np.random.default_rng(0).normal(size=(channels, *size))
    return (0.1 * noise + 3.0 * (label == 1) + 1.0 * (label == 200)).astype(np.float32), label


def _with_globals(
    augmentation: Augmentation, image: npt.NDArray[np.float32], label: npt.NDArray[np.uint8], seed: int, state: int
) -> tuple[Tensor, Tensor]:
    """Call it with the generators of the process in a certain state, and put them back."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        random.seed(state)
        np.random.seed(state)  # noqa: NPY002
        torch.manual_seed(state)
        try:
            return augmentation(image.copy(), label.copy(), seed)
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
