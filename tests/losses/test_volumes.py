"""The losses on patches `[B, C, D, H, W]`: against the loops, and against what they say of slices."""

import pytest
import torch
from torch.nn import functional as F

from fullscale.errors import UsageError
from fullscale.losses import create_loss, list_losses
from fullscale.losses.ms_ssim import MSSSIMLoss
from fullscale.losses.supervision import SupervisedLoss, presence_of
from fullscale.networks.protocol import SegmentationOutput
from fullscale.testing import check_loss
from tests.losses.loss_twins import cross_entropy, dice, focal, halve, iou, ms_ssim

SIZES = [(5, 6, 7), (1, 4, 3), (12, 13, 15)]


def patches(classes, size, seed=0):
    """Truth with connected structures `[2, D, H, W]`, and logits that mostly agree with it."""
    generator = torch.Generator().manual_seed(seed)
    field = torch.randn(2, max(2, classes), *size, generator=generator, dtype=torch.float64)
    kernel = [min(3, side) for side in size]
    smooth = F.avg_pool3d(field, kernel, stride=1, padding=[k // 2 for k in kernel]) * 6
    logits = smooth + 0.5 * torch.randn(field.shape, generator=generator, dtype=torch.float64)
    return (logits[:, 1:] - logits[:, :1] if classes == 1 else logits), smooth.argmax(dim=1)


@pytest.mark.parametrize("name", list_losses())
def test_keeps_the_contract(name):
    check_loss(create_loss(name), spatial_dims=(3,))


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_formula_voxel_by_voxel(classes, size):
    logits, target = patches(classes, size)
    plain = logits.numpy(), target.numpy()
    got = {name: create_loss(name)(logits, target).item() for name in list_losses()}
    expected = {"focal": focal(*plain), "iou": iou(*plain), "dice": dice(*plain), "ms-ssim": ms_ssim(*plain)}
    expected["ce+dice"] = cross_entropy(*plain) + dice(*plain, batch_dice=True)
    expected["hybrid"] = expected["focal"] + expected["iou"] + expected["ms-ssim"]
    assert got == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize("variant", ["paper", "wang"])
def test_several_scales_in_three_axes_equal_the_formula(variant):
    logits, target = patches(1, (9, 11, 10))
    got = MSSSIMLoss(variant, window=3, sigma=0.8)(logits, target).item()
    assert got == pytest.approx(ms_ssim(logits.numpy(), target.numpy(), variant, 3, 0.8), abs=1e-12)


def test_odd_edges_are_averaged_by_themselves():
    x = torch.arange(30.0, dtype=torch.float64).reshape(1, 1, 3, 5, 2)
    assert F.avg_pool3d(x, 2, ceil_mode=True)[0, 0].numpy() == pytest.approx(halve(x[0, 0].numpy()))


@pytest.mark.parametrize("name", ["focal", "iou", "dice", "ce+dice"])
def test_a_patch_of_one_slice_costs_what_the_slice_does(name):
    logits, target = patches(3, (1, 8, 9))
    loss = create_loss(name)
    assert loss(logits, target).item() == pytest.approx(loss(logits[:, :, 0], target[:, 0]).item(), rel=1e-12)


@pytest.mark.parametrize("name", list_losses())
def test_the_order_of_the_axes_does_not_matter(name):
    logits, target = patches(3, (9, 11, 12))
    loss = create_loss(name)
    turned = loss(logits.permute(0, 1, 4, 2, 3), target.permute(0, 3, 1, 2))
    assert turned.item() == pytest.approx(loss(logits, target).item(), rel=1e-10)


@pytest.mark.parametrize("name", list_losses())
def test_gradcheck(name):
    logits, target = patches(2, (3, 4, 5))
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: create_loss(name)(x, target), logits, fast_mode=True)


def test_the_papers_loss_leads_from_indecision_to_the_truth():
    _, target = patches(1, (16, 18, 16), seed=7)
    logits = torch.zeros(2, 1, 16, 18, 16, dtype=torch.float64, requires_grad=True)
    optimizer, loss = torch.optim.Adam([logits], lr=0.3), create_loss("hybrid")
    for _ in range(40):
        optimizer.zero_grad()
        loss(logits, target).backward()
        optimizer.step()
    assert ((logits[:, 0] > 0) == (target == 1)).double().mean() > 0.99


@pytest.mark.parametrize("name", list_losses())
def test_deep_supervision_and_presence_of_patches(name):
    logits, target = patches(3, (6, 8, 8))
    target[1][target[1] == 2] = 0
    presence = torch.zeros(2, 2, 2, dtype=torch.float64)
    loss = create_loss(name)
    terms = SupervisedLoss(loss)(SegmentationOutput([logits, -logits], presence), target)
    alone = [loss(x, target).item() for x in (logits, -logits)]
    assert terms.segmentation.item() == pytest.approx((2 * alone[0] + alone[1]) / 3, rel=1e-10)
    assert terms.presence.item() == pytest.approx(torch.log(torch.tensor(2.0)).item())
    assert presence_of(target, 3).tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize("name", list_losses())
def test_a_target_of_other_axes_is_refused(name):
    with pytest.raises(UsageError, match=r"target has shape \[2, 4, 4\]: expected \[2, 4, 4, 4\]"):
        create_loss(name)(torch.zeros(2, 3, 4, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long))
    with pytest.raises(UsageError, match="logits have shape"):
        create_loss(name)(torch.zeros(2, 3, 4, 4, 4, 4), torch.zeros(2, 4, 4, 4, 4, dtype=torch.long))
