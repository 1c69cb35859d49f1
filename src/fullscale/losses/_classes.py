"""What the losses share: checks, and the probability and the truth of each class.

Letters: B batch, C classes, K foreground classes (1 of one class, C - 1 of more); size is H W of slices or D H W of
patches.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from fullscale.errors import UsageError


def foreground(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the probability and the truth (0 or 1) of each foreground class, both `[B, K, *size]`.

    Args:
        logits: `[B, C, *size]`: one class takes the sigmoid, more take the softmax and then lose the background.
        target: `[B, *size]` class indices; or of independent channels, each of which takes the sigmoid and is a
            foreground class, `[B, C, *size]` of 0 and 1.

    Raises:
        UsageError: see `check_segmentation`.
    """
    check_segmentation(logits, target)
    logits = at_least_float32(logits)
    if target.ndim == logits.ndim:
        return logits.sigmoid(), target.to(logits.dtype)
    if logits.shape[1] == 1:
        return logits.sigmoid(), (target == 1).unsqueeze(1).to(logits.dtype)
    classes = torch.arange(1, logits.shape[1], device=target.device)
    truth = target.unsqueeze(1) == classes.reshape(-1, *[1] * (target.ndim - 1))
    return logits.softmax(dim=1)[:, 1:], truth.to(logits.dtype)


def log_probability_of_truth(logits: Tensor, target: Tensor) -> Tensor:
    """Return the log-probability of each pixel's true class, `[B, *size]`, finite for any finite logits.

    Of independent channels it is that of each channel's truth, `[B, C, *size]`.

    Raises:
        UsageError: see `check_segmentation`.
    """
    check_segmentation(logits, target)
    logits = at_least_float32(logits)
    if logits.shape[1] == 1 or target.ndim == logits.ndim:
        sign = 2 * target.to(logits.dtype) - 1
        return F.logsigmoid(sign * (logits if target.ndim == logits.ndim else logits.squeeze(1)))
    return logits.log_softmax(dim=1).gather(1, target.long().unsqueeze(1)).squeeze(1)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Widen half precision to float32; float32 and float64 stay."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def check_segmentation(logits: Tensor, target: Tensor) -> None:
    """Refuse logits and a target that do not belong together.

    The values of the target are looked at on the CPU only, where that costs no wait for a device.

    Raises:
        UsageError: logits are not `[B, C, *size]` of 2 or 3 axes, the target is not a whole-number `[B, *size]` of the
            same size or, of independent channels, `[B, C, *size]`, or it holds a value that is no class.
    """
    if logits.ndim not in (4, 5) or logits.shape[1] < 1:
        raise UsageError(
            f"logits have shape {list(logits.shape)}: expected [batch, classes, height, width], of patches "
            "[batch, classes, depth, height, width]"
        )
    batch, classes, *size = logits.shape
    if target.shape not in ((batch, *size), logits.shape):
        raise UsageError(
            f"target has shape {list(target.shape)}: expected {[batch, *size]} for logits "
            f"{list(logits.shape)}, class indices without a channel axis; or their shape, 0 and 1 of each channel"
        )
    if target.is_floating_point() or target.is_complex():
        raise UsageError(f"target is {target.dtype}: expected class indices of a whole-number type")
    if target.device.type == "cpu" and target.numel() > 0 and not torch.compiler.is_compiling():
        low, high = (int(value) for value in target.aminmax())
        last = 1 if target.ndim == logits.ndim else max(1, classes - 1)
        if low < 0 or high > last:
            raise UsageError(f"target holds values from {low} to {high}: expected 0 to {last} for {classes} class(es)")


def require_above_zero(**settings: float) -> None:
    """Refuse a setting that is not a finite number above zero.

    Raises:
        UsageError: naming the setting and its value.
    """
    for name, value in settings.items():
        if not (math.isfinite(value) and value > 0):
            raise UsageError(f"{name} is {value!r}: expected a number above 0")
