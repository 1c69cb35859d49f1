"""The contract of a loss. Letters: B batch, C classes; size is H W of slices or D H W of patches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIZES: dict[int, tuple[tuple[int, ...], ...]] = {
    2: ((1, 1), (1, 9), (13, 17), (33, 95)),
    3: ((1, 1, 1), (1, 4, 9), (7, 13, 10), (12, 24, 33)),
}
"""Of images, by their number of axes: a loss meets small ones at the deepest supervised level."""
MIXED = {2: (16, 16), 3: (6, 10, 12)}
"""Of the images that a network may be right or wrong about."""


def check_loss(loss: nn.Module, classes: Sequence[int] = (1, 2, 3), spatial_dims: Sequence[int] = (2,)) -> None:
    """Hold a loss against all that training relies on.

    Args:
        loss: called as `loss(logits [B, C, *size], target [B, *size])`.
        classes: numbers C of classes that it is for; 1 is sigmoid, more are softmax with the background as class 0.
        spatial_dims: what it is for: 2 for slices `H W`, 3 for patches `D H W`, or both.

    Raises:
        AssertionError: it fails; one line says in what.
    """
    for dims in spatial_dims:
        for count in classes:
            for size in SIZES[dims]:
                check_scalar(loss, count, size)
            check_extremes(loss, count, MIXED[dims])
            check_direction(loss, count, MIXED[dims])
            check_indifference(loss, count, MIXED[dims])
            check_precision(loss, count, MIXED[dims])


def check_scalar(loss: nn.Module, classes: int, size: tuple[int, ...]) -> None:
    """The loss of an image of any size is one finite number with a finite gradient that is not zero."""
    logits, target = _logits(classes, size), make_target(classes, size)
    kept = logits.clone(), target.clone()
    value, gradient = value_and_gradient(loss, logits, target)
    what = f"of {classes} class(es) and images {list(size)}"
    assert value.shape == (), f"the loss {what} has shape {list(value.shape)}: expected one number"
    assert bool(value.isfinite()), f"the loss {what} is {value.item()}"
    assert bool(gradient.isfinite().all()), f"the gradient {what} is not finite"
    assert float(gradient.abs().sum()) > 0, f"the gradient {what} is zero everywhere: nothing would be learned"
    assert torch.equal(logits, kept[0]), "the loss writes into the logits it is given"
    assert torch.equal(target, kept[1]), "the loss writes into the target it is given"


def check_extremes(loss: nn.Module, classes: int, size: tuple[int, ...] = MIXED[2]) -> None:
    """Value and gradient stay finite where all is right, wrong, empty or full, however sure the network is."""
    mixed = make_target(classes, size)
    empty, full = torch.zeros_like(mixed), torch.full_like(mixed, max(1, classes - 1))
    for target, truth in ((mixed, "a mixed"), (empty, "an empty"), (full, "a full")):
        for said in (mixed, empty, full):
            for sure in (0.1, 50.0, 1e4, -50.0, -1e4):
                value, gradient = value_and_gradient(loss, sure * toward(said, classes), target)
                finite = bool(value.isfinite()) and bool(gradient.isfinite().all())
                assert finite, f"with logits of size {abs(sure):g} and {truth} target of {classes} class(es) not finite"


def check_direction(loss: nn.Module, classes: int, size: tuple[int, ...] = MIXED[2]) -> None:
    """What is right costs less than what is undecided, that less than what is wrong, and the gradient leads there."""
    target = make_target(classes, tuple(side + 8 for side in size))
    right = toward(target, classes).double()
    costs = [value_and_gradient(loss, sure * right, target)[0].item() for sure in (1.5, 0.0, -1.5)]
    names = ("right", "undecided", "wrong")
    assert costs[0] < costs[1] < costs[2], f"with {classes} class(es) the loss is " + ", ".join(
        f"{c:.4g} {n}" for c, n in zip(costs, names, strict=True)
    )
    value, gradient = value_and_gradient(loss, -0.5 * right, target)
    with torch.no_grad():
        after = loss(-0.5 * right - 0.01 * gradient / gradient.norm(), target)
    assert after.item() < value.item(), f"with {classes} class(es) a small step against the gradient raises the loss"


def check_indifference(loss: nn.Module, classes: int, size: tuple[int, ...] = MIXED[2]) -> None:
    """The order of the batch, the layout in memory and the integer type of the target do not matter."""
    target, logits = make_target(classes, size), _logits(classes, size).double()
    channels_last = torch.channels_last if len(size) == 2 else torch.channels_last_3d
    with torch.no_grad():
        plain = loss(logits, target)
        others = {
            "images in another order": loss(logits.flip(0), target.flip(0)),
            "logits laid out channels last": loss(logits.to(memory_format=channels_last), target),
            "a target of uint8": loss(logits, target.to(torch.uint8)),
            "a target of int32": loss(logits, target.to(torch.int32)),
        }
    for what, other in others.items():
        close = torch.allclose(plain, other, rtol=1e-6, atol=1e-9)
        assert close, f"with {classes} class(es) the loss is {plain.item():.6g}, and {other.item():.6g} of {what}"


def check_precision(loss: nn.Module, classes: int, size: tuple[int, ...] = MIXED[2]) -> None:
    """Under autocast and of half-precision logits the loss is nearly the same, and finite."""
    target, logits = make_target(classes, size), _logits(classes, size)
    with torch.no_grad():
        plain = loss(logits, target)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast = loss(logits.bfloat16(), target)
    close = torch.allclose(plain.float(), cast.float(), rtol=0.03, atol=0.01)
    assert close, f"with {classes} class(es) the loss is {plain.item():.4g}, and {cast.item():.4g} in bfloat16"


def make_target(classes: int, size: tuple[int, ...] = MIXED[2], batch: int = 2, seed: int = 0) -> Tensor:
    """Draw class indices `[B, *size]`; of one class 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, max(2, classes), (batch, *size), generator=generator)


def toward(target: Tensor, classes: int) -> Tensor:
    """Return logits `[B, C, *size]` of 1 and -1 that call every pixel right."""
    if classes == 1:
        return (2.0 * target - 1).unsqueeze(1)
    return 2.0 * F.one_hot(target.long(), classes).movedim(-1, 1) - 1


def value_and_gradient(loss: nn.Module, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss and its gradient with respect to the logits."""
    leaf = logits.detach().clone().requires_grad_()
    value = loss(leaf, target)
    assert value.requires_grad, "the loss has no gradient: it is cut off from the logits"
    [gradient] = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


def _logits(classes: int, size: tuple[int, ...]) -> Tensor:
    return torch.randn(2, classes, *size, generator=torch.Generator().manual_seed(2))
