"""What every loss of the table must do, told once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from fullscale.errors import UsageError
from fullscale.losses import create_loss, list_losses
from fullscale.losses.supervision import SupervisedLoss
from fullscale.networks.protocol import SegmentationOutput

CLASSES = [1, 2, 3]
everywhere = [pytest.mark.parametrize("name", list_losses()), pytest.mark.parametrize("classes", CLASSES)]


def for_every_loss(test):
    for mark in everywhere:
        test = mark(test)
    return test


def make_target(classes, batch=2, height=16, width=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, max(2, classes), (batch, height, width), generator=generator)


def toward(target, classes):
    """Logits of size 1 that call every pixel right."""
    if classes == 1:
        return (2.0 * target - 1).unsqueeze(1)
    return 2.0 * torch.nn.functional.one_hot(target.long(), classes).movedim(-1, 1) - 1


def value_and_gradient(name, logits, target):
    logits = logits.detach().clone().requires_grad_()
    loss = create_loss(name)(logits, target)
    loss.backward()
    return loss.detach(), logits.grad


def test_the_table_holds_the_known_names():
    assert list_losses() == ["focal", "ms-ssim", "iou", "dice", "ce+dice", "hybrid"]


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="'hybird' is unknown; did you mean 'hybrid'"):
        create_loss("hybird")


@pytest.mark.parametrize("name", list_losses())
def test_an_unknown_option_is_refused(name):
    with pytest.raises(UsageError, match=f"loss '{name.replace('+', '.')}' has no option 'wieght'"):
        create_loss(name, wieght=1)


def test_options_reach_the_loss():
    assert create_loss("focal", gamma=1.5).gamma == 1.5


@for_every_loss
@pytest.mark.parametrize(
    ("dtype", "result"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
    ],
)
def test_half_precision_is_computed_in_float32(name, classes, dtype, result):
    target = make_target(classes)
    logits = torch.randn(2, classes, 16, 16, generator=torch.Generator().manual_seed(1)).to(dtype)
    value, gradient = value_and_gradient(name, logits, target)
    assert value.shape == ()
    assert value.dtype == result
    assert value.item() == create_loss(name)(logits.to(result), target).item()
    assert gradient.dtype == dtype
    assert gradient.isfinite().all()


@for_every_loss
def test_autocast_changes_nothing(name, classes):
    target = make_target(classes, height=48, width=48)
    logits = torch.randn(2, classes, 48, 48)
    plain = create_loss(name)(logits, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = create_loss(name)(logits, target)
    assert cast.dtype == torch.float32
    assert cast.item() == pytest.approx(plain.item(), rel=1e-6)


@for_every_loss
@pytest.mark.parametrize("empty", [False, True])
def test_a_perfect_prediction_scores_0(name, classes, empty):
    target = make_target(classes, height=48, width=40)
    if empty:
        target.zero_()
    value, gradient = value_and_gradient(name, 50 * toward(target, classes).double(), target)
    assert value.item() == pytest.approx(0, abs=1e-9)
    assert gradient.abs().max() < 1e-9


@for_every_loss
@pytest.mark.parametrize("size", [0.1, 2.0, 50.0, 1e4])
@pytest.mark.parametrize("truth", ["empty", "full", "mixed"])
@pytest.mark.parametrize("prediction", ["empty", "full", "right", "wrong"])
def test_value_and_gradient_are_finite_at_the_extremes(name, classes, size, truth, prediction):
    structure = max(1, classes - 1)
    target = {"empty": make_target(classes) * 0, "full": make_target(classes) * 0 + structure}.get(
        truth, make_target(classes)
    )
    direction = {
        "empty": toward(target * 0, classes),
        "full": toward(target * 0 + structure, classes),
        "right": toward(target, classes),
        "wrong": -toward(target, classes),
    }[prediction]
    for dtype in (torch.float32, torch.bfloat16):
        value, gradient = value_and_gradient(name, (size * direction).to(dtype), target)
        assert value.isfinite()
        assert value >= -1e-6
        assert gradient.isfinite().all()


@for_every_loss
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (8, 8), (13, 17), (33, 95)])
def test_any_size_of_image_has_a_finite_loss_and_gradient(name, classes, height, width):
    target = make_target(classes, height=height, width=width)
    logits = torch.randn(2, classes, height, width, generator=torch.Generator().manual_seed(2))
    value, gradient = value_and_gradient(name, logits, target)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


@for_every_loss
def test_gradcheck(name, classes):
    # Only MS-SSIM looks at neighbours: to the others, few pixels show as much. Its many evaluations, two a logit, are
    # replaced by a comparison along one random direction, to the same tolerance.
    of_windows = name in ("ms-ssim", "hybrid")
    height, width = (7, 6) if of_windows else (4, 3)
    target = make_target(classes, batch=2, height=height, width=width)
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, classes, height, width, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: create_loss(name)(x, target), logits, fast_mode=of_windows)


@for_every_loss
@pytest.mark.parametrize("size", [0.5, 1.5])
def test_from_the_contrary_the_gradient_leads_back(name, classes, size):
    target = make_target(classes, height=24, width=24)
    direction = toward(target, classes).double()
    logits = -size * direction
    value, gradient = value_and_gradient(name, logits, target)
    assert (-gradient * direction).sum() > 1e-3
    step = 0.01 * gradient / gradient.norm()
    assert create_loss(name)(logits - step, target) < value


@for_every_loss
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**31), size=st.floats(0.0, 5.0))
def test_falls_from_undecided_to_right(name, classes, seed, size):
    target = make_target(classes, height=12, width=13, seed=seed)
    direction = toward(target, classes).double()
    before, after = (create_loss(name)(s * direction, target).item() for s in (size, size + 0.25))
    assert after < before


@for_every_loss
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**31))
def test_the_order_of_the_batch_does_not_matter(name, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    target = make_target(classes, batch=4, seed=seed)
    logits = torch.randn(4, classes, 16, 16, generator=generator, dtype=torch.float64)
    order = torch.randperm(4, generator=generator)
    loss = create_loss(name)
    assert loss(logits, target).item() == pytest.approx(loss(logits[order], target[order]).item(), rel=1e-10)


@for_every_loss
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_any_integer_type_serves_as_target(name, classes, dtype):
    target = make_target(classes)
    logits = torch.randn(2, classes, 16, 16)
    loss = create_loss(name)
    assert loss(logits, target.to(dtype)).item() == loss(logits, target).item()


@pytest.mark.parametrize("name", list_losses())
def test_a_boolean_mask_serves_as_binary_target(name):
    target, logits, loss = make_target(1), torch.randn(2, 1, 16, 16), create_loss(name)
    assert loss(logits, target.bool()).item() == loss(logits, target).item()


@for_every_loss
def test_logits_laid_out_channels_last_give_the_same(name, classes):
    target, logits, loss = make_target(classes), torch.randn(2, classes, 16, 16), create_loss(name)
    last = logits.to(memory_format=torch.channels_last)
    assert loss(last, target).item() == pytest.approx(loss(logits, target).item(), rel=1e-5)


@pytest.mark.parametrize("name", list_losses())
@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        ((2, 3, 8), (2, 8), "logits have shape"),
        ((2, 3, 8, 8), (2, 1, 8, 8), "target has shape"),
        ((2, 3, 8, 8), (1, 8, 8), "target has shape"),
        ((2, 3, 8, 8), (2, 8, 9), "target has shape"),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(name, logits, target, message):
    with pytest.raises(UsageError, match=message):
        create_loss(name)(torch.zeros(logits), torch.zeros(target, dtype=torch.long))


@pytest.mark.parametrize("name", list_losses())
@pytest.mark.parametrize(("classes", "wrong"), [(1, 2), (1, 255), (3, 3), (3, -1)])
def test_a_value_that_is_no_class_is_refused(name, classes, wrong):
    target = make_target(classes)
    target[1, 2, 3] = wrong
    with pytest.raises(UsageError, match=f"target holds values from .*{wrong}"):
        create_loss(name)(torch.zeros(2, classes, 16, 16), target)


@pytest.mark.parametrize("name", list_losses())
def test_a_target_of_floats_is_refused(name):
    with pytest.raises(UsageError, match=r"torch\.float32"):
        create_loss(name)(torch.zeros(2, 1, 8, 8), torch.zeros(2, 8, 8))


@pytest.mark.parametrize("name", list_losses())
def test_holds_settings_only(name):
    assert create_loss(name).state_dict() == {}


@pytest.mark.parametrize("name", list_losses())
def test_compiles_into_one_graph(name):
    target, logits, loss = make_target(3, height=24, width=24), torch.randn(2, 3, 24, 24), create_loss(name)
    torch.compiler.reset()
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    assert compiled(logits, target).item() == pytest.approx(loss(logits, target).item(), rel=1e-6)


@for_every_loss
def test_never_waits_for_a_value_from_the_device(name, classes):
    """Tensors without values stand for a GPU: reading one on the CPU raises."""
    with FakeTensorMode():
        logits = torch.zeros(2, classes, 48, 48, device="cuda", requires_grad=True)
        presence = torch.zeros(2, max(1, classes - 1), 2, device="cuda")
        target = torch.zeros(2, 48, 48, dtype=torch.long, device="cuda")
        known = torch.ones(2, max(1, classes - 1), dtype=torch.bool, device="cuda")
        terms = SupervisedLoss(create_loss(name))(SegmentationOutput([logits] * 2, presence), target, known)
        assert terms.total.device.type == "cuda"
        assert all(part.device.type == "cuda" for part in terms.parts.values())
