import math
from typing import NamedTuple

import pytest
import torch

from fullscale.errors import UsageError
from fullscale.losses import create_loss
from fullscale.losses.supervision import SupervisedLoss, presence_loss, presence_of
from fullscale.networks.protocol import SegmentationOutput


class Output(NamedTuple):
    logits: list
    presence: object = None


def outputs(levels=5, classes=3, batch=2, side=16):
    generator = torch.Generator().manual_seed(6)
    logits = [torch.randn(batch, classes, side, side, generator=generator) for _ in range(levels)]
    return logits, torch.randint(0, max(2, classes), (batch, side, side), generator=generator)


def test_levels_halve_by_default():
    logits, target = outputs()
    loss = create_loss("ce+dice")
    terms = SupervisedLoss(loss)(Output(logits), target)
    weights = [16, 8, 4, 2, 1]
    expected = sum(weight * loss(level, target).item() for weight, level in zip(weights, logits, strict=True)) / 31
    assert terms.segmentation.item() == pytest.approx(expected, rel=1e-6)
    assert terms.total.item() == terms.segmentation.item()
    assert terms.presence.item() == 0


@pytest.mark.parametrize("name", ["hybrid", "dice"])
def test_a_plain_tensor_is_one_supervised_output_without_presence(name):
    [logits], target = outputs(levels=1)
    supervised = SupervisedLoss(create_loss(name))
    plain, wrapped = supervised(logits, target), supervised(Output([logits]), target)
    assert plain.total.item() == wrapped.total.item() == pytest.approx(create_loss(name)(logits, target).item())
    assert plain.parts == wrapped.parts
    assert plain.presence.item() == 0


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_level_weights_count_by_their_share(scale):
    logits, target = outputs(levels=3)
    loss = create_loss("iou")
    terms = SupervisedLoss(loss, [4 * scale, 2 * scale, scale])(Output(logits), target)
    values = [loss(level, target).item() for level in logits]
    assert terms.segmentation.item() == pytest.approx((4 * values[0] + 2 * values[1] + values[2]) / 7, rel=1e-6)


def test_one_output_has_a_loss_of_the_same_size_as_five_like_it():
    logits, target = outputs(levels=1)
    supervised = SupervisedLoss(create_loss("hybrid"))
    one, five = supervised(Output(logits), target), supervised(Output(logits * 5), target)
    assert one.total.item() == pytest.approx(five.total.item(), rel=1e-6)


def test_a_level_of_weight_0_gets_no_gradient():
    logits, target = outputs(levels=2)
    for level in logits:
        level.requires_grad_()
    SupervisedLoss(create_loss("focal"), [1, 0])(Output(logits), target).total.backward()
    assert logits[0].grad.abs().sum() > 0
    assert logits[1].grad.abs().sum() == 0


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("hybrid", {"focal", "ms_ssim", "iou"}),
        ("ce+dice", {"cross_entropy", "dice"}),
        ("dice", {"segmentation"}),
    ],
)
def test_parts_are_named_detached_and_add_up(name, names):
    logits, target = outputs(levels=2)
    logits[0].requires_grad_()
    terms = SupervisedLoss(create_loss(name), [3, 1])(Output(logits), target)
    assert set(terms.parts) == names
    assert not any(part.requires_grad for part in terms.parts.values())
    assert sum(terms.parts.values()).item() == pytest.approx(terms.segmentation.item(), rel=1e-6)
    assert terms.total.requires_grad


def test_presence_is_weighted_into_the_total_and_reported_without_its_weight():
    logits, target = outputs()
    presence = torch.tensor([[[0.3, -1.0], [2.0, 1.0]], [[0.0, 0.5], [-1.0, 1.0]]])
    truth = presence_of(target, 3)
    terms = SupervisedLoss(create_loss("dice"), presence_weight=0.25)(SegmentationOutput(logits, presence), target)
    expected = 0.0
    for b in range(2):
        for structure in range(2):
            present = 1 / (1 + math.exp(presence[b, structure, 0] - presence[b, structure, 1]))
            expected -= math.log(present if truth[b, structure] else 1 - present) / 4
    assert terms.presence.item() == pytest.approx(expected, rel=1e-6)
    assert terms.total.item() == pytest.approx(terms.segmentation.item() + 0.25 * expected, rel=1e-6)


def test_presence_of_a_binary_target():
    target = torch.zeros(3, 4, 4, dtype=torch.uint8)
    target[1, 2, 3] = 1
    assert presence_of(target, 1).tolist() == [[False], [True], [False]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_presence_of_several_structures_leaves_the_background_out(dtype):
    target = torch.zeros(3, 4, 4, dtype=dtype)
    target[1, 0, 0] = 3
    target[2] = 1
    target[2, 3, 3] = 2
    assert presence_of(target, 4).tolist() == [[False] * 3, [False, False, True], [True, True, False]]


def test_two_classes_are_one_structure():
    assert presence_of(torch.ones(1, 2, 2, dtype=torch.long), 2).tolist() == [[True]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_saturated_presence_is_still_told_apart_and_trained(dtype):
    presence = torch.tensor([[[17.0, 20.0]], [[8192.0, -8192.0]]], dtype=dtype, requires_grad=True)
    loss = presence_loss(presence, torch.tensor([[False], [True]]))
    loss.backward()
    assert loss.item() == pytest.approx((3.0485874 + 16384) / 2, rel=1e-6)
    assert (presence.grad[0, 0] * torch.tensor([-1, 1]) > 0).all()
    assert presence.grad.isfinite().all()


def test_descending_on_presence_turns_the_arg_max():
    presence = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]], requires_grad=True)
    truth = torch.tensor([[True, False]])
    for _ in range(100):
        (step,) = torch.autograd.grad(presence_loss(presence, truth), presence)
        presence = (presence - step).detach().requires_grad_()
    assert torch.equal(presence.argmax(dim=-1).bool(), truth)


@pytest.mark.parametrize("shape", [(2, 1, 2), (2, 3, 2), (2, 2), (1, 2, 2)])
def test_presence_of_another_number_of_structures_is_refused(shape):
    logits, target = outputs()
    with pytest.raises(UsageError, match="presence has shape"):
        SupervisedLoss(create_loss("dice"))(Output(logits, torch.zeros(shape)), target)


@pytest.mark.parametrize(("weights", "levels"), [([1, 1], 5), ([1, 1], 1), (None, 0)])
def test_weights_for_another_number_of_outputs_are_refused(weights, levels):
    logits, target = outputs(levels=levels)
    with pytest.raises(UsageError, match=f"{levels} supervised output"):
        SupervisedLoss(create_loss("dice"), weights)(Output(logits), target)


@pytest.mark.parametrize("weights", [[0, 0], [1, -1], [1, float("inf")], []])
def test_level_weights_that_make_no_mean_are_refused(weights):
    with pytest.raises(UsageError, match="level_weights"):
        SupervisedLoss(create_loss("dice"), weights)


def test_negative_presence_weight_is_refused():
    with pytest.raises(UsageError, match="presence_weight"):
        SupervisedLoss(create_loss("dice"), presence_weight=-1)
