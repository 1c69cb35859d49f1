"""Regions, ignored voxels and structures that nobody drew: what a loss sees of them, by properties."""

import pytest
import torch
from torch.nn import functional as F

from fullscale.errors import UsageError
from fullscale.losses import IGNORED, create_loss
from fullscale.losses.supervision import SupervisedLoss, presence_loss
from fullscale.networks.protocol import SegmentationOutput

LOSSES = ["ce+dice", "dice", "focal", "iou", "ms-ssim", "hybrid"]
REGIONS = torch.tensor([[False, True, True], [False, False, True]])  # a whole of two classes, a core of one


def drawn(classes: int, size=(16, 16), batch: int = 2, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, max(2, classes), (batch, *size), generator=generator)
    return torch.randn(batch, classes, *size, dtype=torch.float64, generator=generator), target


def hide(target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Ignore a corner of each image."""
    hidden = torch.zeros(target.shape, dtype=torch.bool)
    hidden[..., 4:9, 3:11] = True
    return target.masked_fill(hidden, IGNORED), hidden


def total(loss: SupervisedLoss, logits: torch.Tensor, *truth) -> tuple[float, torch.Tensor]:
    logits = logits.clone().requires_grad_()
    value = loss(logits, *truth).total
    value.backward()
    return value.item(), logits.grad


@pytest.mark.parametrize("regions", [None, REGIONS], ids=["exclusive", "regions"])
@pytest.mark.parametrize("size", [(16, 16), (6, 12, 14)], ids=["slices", "patches"])
@pytest.mark.parametrize("name", LOSSES)
def test_nothing_under_an_ignored_voxel_changes_loss_or_gradient(name, size, regions):
    logits, target = drawn(3 if regions is None else 2, size)
    target, hidden = hide(target)
    loss = SupervisedLoss(create_loss(name), regions=regions)
    value, gradient = total(loss, logits, target)
    other = torch.where(hidden.unsqueeze(1), torch.randn_like(logits) * 50, logits)
    assert (value, gradient.equal(total(loss, other, target)[1])) == (total(loss, other, target)[0], True)
    assert not gradient[hidden.unsqueeze(1).expand_as(gradient)].any()
    assert gradient.isfinite().all()
    assert gradient.any()


@pytest.mark.parametrize("name", ["ce+dice", "focal", "hybrid"])
def test_one_structure_ignores_as_several_do(name):
    logits, target = drawn(1)
    target, hidden = hide(target)
    _, gradient = total(SupervisedLoss(create_loss(name)), logits, target)
    assert not gradient[hidden.unsqueeze(1)].any()
    assert gradient[~hidden.unsqueeze(1)].any()


def test_cross_entropy_counts_the_known_voxels_over_all():
    logits, target = drawn(3)
    shown, hidden = hide(target)
    by_voxel = F.cross_entropy(logits, target, reduction="none")
    parts = SupervisedLoss(create_loss("ce+dice"))(logits, shown).parts
    assert parts["cross_entropy"].item() == pytest.approx(by_voxel[~hidden].sum().item() / target.numel(), rel=1e-12)


def test_dice_is_that_of_the_known_voxels():
    logits, target = drawn(1)
    shown, hidden = hide(target)
    p, g = logits.sigmoid()[:, 0][~hidden].reshape(2, -1), (target == 1)[~hidden].reshape(2, -1).double()
    expected = 1 - ((2 * (p * g).sum(1) + 1) / (p.sum(1) + g.sum(1) + 1)).mean()
    assert SupervisedLoss(create_loss("dice"))(logits, shown).total.item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_all_known_has_the_loss_it_always_had(name):
    logits, target = drawn(3)
    known = torch.ones(2, 2, dtype=torch.bool)
    assert SupervisedLoss(create_loss(name))(logits, target, known).total.equal(create_loss(name)(logits, target))


@pytest.mark.parametrize("name", ["ce+dice", "dice", "focal", "iou", "hybrid"])
def test_regions_of_one_class_each_are_independent_sigmoids(name):
    logits, target = drawn(2)
    target = drawn(3)[1]
    alone = torch.tensor([[False, True, False], [False, False, True]])
    loss, whole = create_loss(name), SupervisedLoss(create_loss(name), regions=alone)(logits, target).total
    each = [loss(logits[:, k : k + 1], (target == k + 1).long()) for k in range(2)]
    assert whole.item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-9)


def test_a_class_counts_for_every_region_it_is_in():
    logits, target = drawn(2)
    target = drawn(3)[1]
    truth = torch.stack([target >= 1, target == 2], dim=1).double()
    expected = F.binary_cross_entropy_with_logits(logits, truth)
    found = SupervisedLoss(create_loss("ce+dice"), regions=REGIONS)(logits, target).parts["cross_entropy"]
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_only_the_sum_of_background_and_unknown_structures_matters(name):
    """Moving probability between background and an unknown structure changes nothing: no gradient tells them apart."""
    logits, target = drawn(4)
    known = torch.tensor([[True, False, False], [True, True, True]])
    target[0][target[0] > 1] = 0
    loss = SupervisedLoss(create_loss(name))
    value, gradient = total(loss, logits, target, known)
    moved = logits.clone()
    together = logits[0, [0, 2, 3]].logsumexp(0)
    shares = torch.tensor([0.7, 0.1, 0.2], dtype=torch.float64).log()
    moved[0, [0, 2, 3]] = together + shares.reshape(3, 1, 1)
    assert total(loss, moved, target, known)[0] == pytest.approx(value, rel=1e-10)
    share = logits[0, [0, 2, 3]].softmax(0)
    torch.testing.assert_close(gradient[0, [0, 2, 3]], share * gradient[0, [0, 2, 3]].sum(0))
    assert gradient[0, 1].any()
    assert gradient[1].any()


def test_marginal_cross_entropy_by_hand():
    logits = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64).reshape(1, 3, 1, 1).expand(1, 3, 1, 2).clone()
    target = torch.tensor([[[0, 1]]])
    p = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64).softmax(0)
    expected = -((p[0] + p[2]).log() + p[1].log()) / 2
    found = SupervisedLoss(create_loss("ce+dice"))(logits, target, torch.tensor([[True, False]]))
    assert found.parts["cross_entropy"].item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_an_unknown_region_has_no_gradient_and_the_others_keep_theirs(name):
    logits, target = drawn(2)
    target = drawn(3)[1]
    known = torch.tensor([[True, False], [True, True]])
    _, gradient = total(SupervisedLoss(create_loss(name), regions=REGIONS), logits, target, known)
    assert not gradient[0, 1].any()
    assert gradient[0, 0].any()
    assert gradient[1, 1].any()


def test_a_single_structure_that_nobody_drew_teaches_nothing():
    logits, target = drawn(1)
    known = torch.tensor([[False], [True]])
    _, gradient = total(SupervisedLoss(create_loss("hybrid")), logits, target, known)
    assert not gradient[0].any()
    assert gradient[1].any()


def told(target, known=None, regions=None, channels=3):
    present, is_known = SupervisedLoss(create_loss("dice"), regions=regions).presence_of(target, known, channels)
    return present.tolist(), is_known.tolist()


def test_a_slice_that_is_not_known_whole_tells_only_what_it_shows():
    target = torch.tensor([[[0, 1], [0, IGNORED]], [[0, 1], [0, 0]]])
    assert told(target) == ([[True, False], [True, False]], [[True, False], [True, True]])
    unknown = torch.tensor([[False, True], [True, True]])
    assert told(target, unknown) == ([[True, False], [True, False]], [[False, False], [True, True]])


def test_presence_is_that_of_regions():
    target = torch.tensor([[[0, 1]], [[0, 2]], [[0, 0]]])
    present, known = told(target, regions=REGIONS, channels=2)
    assert present == [[True, False], [True, True], [False, False]]
    assert all(map(all, known))


def test_presence_is_trained_where_it_is_known():
    logits = torch.randn(2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    truth = torch.tensor([[True, False, True], [False, False, True]])
    known = torch.tensor([[True, False, True], [True, True, False]])
    found = presence_loss(logits, truth, known)
    by_hand = torch.stack([F.cross_entropy(logits[b, k], truth[b, k].long()) for b, k in known.nonzero()]).mean()
    assert found.item() == pytest.approx(by_hand.item(), rel=1e-12)
    found.backward()
    assert logits.grad[~known].eq(0).all()
    assert presence_loss(logits, truth, torch.ones_like(known)).equal(presence_loss(logits, truth))
    assert presence_loss(logits, truth, torch.zeros_like(known)).item() == 0


def test_every_supervised_output_and_presence_go_through_it():
    logits, target = drawn(2)
    target = hide(drawn(3)[1])[0]
    output = SegmentationOutput([logits, logits / 2], torch.randn(2, 2, 2, dtype=torch.float64))
    terms = SupervisedLoss(create_loss("ce+dice"), regions=REGIONS)(output, target, torch.tensor([[True, False]] * 2))
    assert terms.total.isfinite()
    assert terms.presence > 0


def test_a_checkpoint_knows_nothing_of_regions():
    assert SupervisedLoss(create_loss("dice"), regions=REGIONS).state_dict() == {}


@pytest.mark.parametrize(
    ("target", "message"),
    [(torch.full((1, 4, 4), 3), "the class 3: expected 0 to 2"), (torch.zeros(1, 3, 4, 4), "expected \\[1, 4, 4\\]")],
)
def test_a_target_that_the_regions_do_not_know_is_refused(target, message):
    loss = SupervisedLoss(create_loss("dice"), regions=REGIONS if target.ndim == 3 else None)
    with pytest.raises(UsageError, match=message):
        loss(torch.zeros(1, 2, 4, 4), target.long())


def test_a_step_without_content_has_a_loss_of_every_kind_of_truth():
    meta = {"device": "meta"}
    target, known = torch.zeros(2, 4, 4, dtype=torch.long, **meta), torch.ones(2, 2, dtype=torch.bool, **meta)
    for channels, regions in ((3, None), (2, torch.ones(2, 3, dtype=torch.bool))):
        output = SegmentationOutput([torch.zeros(2, channels, 4, 4, **meta)], torch.zeros(2, 2, 2, **meta))
        assert SupervisedLoss(create_loss("ce+dice"), regions=regions)(output, target, known).total.shape == ()
