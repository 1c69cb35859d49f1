"""Crops, their changes, and the Dice of validation, where the truth is not known everywhere."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from fullscale.data.cache import PreparedCase
from fullscale.data.labels import IGNORED, LabelScheme
from fullscale.training.augment import DefaultAugmentation
from fullscale.training.module import dice_per_structure
from fullscale.views.crops import CropDataset

STILL = DefaultAugmentation(probability=0, flip=0)


def a_case(folder: Path, name: str, unknown: tuple[int, ...] = ()) -> PreparedCase:
    (folder / name).mkdir()
    label = np.zeros((6, 20, 20), np.uint8)
    label[2, 5:9, 5:9] = 1
    label[3, :10] = IGNORED
    np.save(folder / name / "image.npy", np.zeros((1, *label.shape), np.float16))
    np.save(folder / name / "label.npy", label)
    voxels = np.array([np.bincount(s[s != IGNORED], minlength=3) for s in label])
    return PreparedCase(name, folder / name, (1, 1, 1), voxels, unknown=unknown)


def test_a_crop_of_partly_labelled_cases_says_what_was_drawn(tmp_path: Path):
    cases = [a_case(tmp_path, "a"), a_case(tmp_path, "b", unknown=(1,))]
    crops = CropDataset(cases, (16, 16), 1, 0.5, STILL, seed=1, structures=2)
    drawn = {crops.draw(np.random.default_rng([1, i])).case: crops[i][2].tolist() for i in range(20)}
    assert drawn == {0: [True, True], 1: [True, False]}
    assert all(len(CropDataset(cases[:1], (16, 16), 1, 0.5, STILL, seed=1, structures=2)[i]) == 2 for i in range(3))


def test_crops_around_a_structure_are_never_around_what_is_ignored(tmp_path: Path):
    crops = CropDataset([a_case(tmp_path, "a")], (8, 8), 1, 1.0, STILL, seed=1, structures=2)
    assert list(crops.slices_with) == [1]
    assert all((crops[i][1] == 1).any() for i in range(20))


@pytest.mark.parametrize("size", [(24, 24), (8, 24, 24)], ids=["slice", "patch"])
@pytest.mark.parametrize("elastic", [0.0, 2.0])
def test_what_is_ignored_is_moved_like_a_class_and_no_class_is_invented(size, elastic: float):
    augment = DefaultAugmentation(probability=1, rotate_degrees=30, elastic=elastic)
    label = np.zeros(size, np.uint8)
    label[..., 4:12, 4:12] = IGNORED
    label[..., 14:20, 14:20] = 3
    seen = set()
    for seed in range(10):
        image = (label == IGNORED).astype(np.float32)[None]
        moved, changed = augment(np.repeat(image, 1, axis=0), label, seed)
        assert moved.shape[1:] == changed.shape
        seen |= set(changed.unique().tolist())
    assert seen == {0, 3, IGNORED}


def test_validation_scores_regions_and_known_voxels():
    scheme = LabelScheme({}, {"whole": (1, 2), "core": (2,)})
    truth = np.array([[1, 2, 0, IGNORED, IGNORED]], np.uint8)
    predicted = np.array([[2, 2, 1, 1, 2]], np.uint8)
    assert dice_per_structure(predicted, truth, scheme.membership) == [2 * 2 / (3 + 2), 2 * 1 / (2 + 1)]
    exclusive = LabelScheme({1: "a", 2: "b", 3: "c"})
    found = dice_per_structure(predicted, truth, exclusive.membership)
    assert found[:2] == [0, 2 * 1 / (2 + 1)]
    assert math.isnan(found[2])


def test_a_batch_of_crops_is_what_the_loss_takes(tmp_path: Path):
    from fullscale.losses import create_loss
    from fullscale.losses.supervision import SupervisedLoss

    cases = [a_case(tmp_path, "a"), a_case(tmp_path, "b", unknown=(1,))]
    crops = CropDataset(cases, (16, 16), 1, 0.5, STILL, seed=1, structures=2)
    _, target, known = torch.utils.data.default_collate([crops[i] for i in range(6)])
    logits = torch.randn(6, 3, 16, 16, requires_grad=True)
    SupervisedLoss(create_loss("ce+dice"))(logits, target, known).total.backward()
    assert logits.grad.isfinite().all()
    assert not logits.grad[(target == IGNORED).unsqueeze(1).expand_as(logits)].any()
