"""Segmentation losses, made by name. Knows torch and the errors only; torch is loaded with the first loss.

Every loss is a module called `loss(logits [B, C, H, W], target [B, H, W]) -> scalar`. One class is sigmoid with a
target of 0 and 1, more are softmax with background as class 0. The arithmetic is float32 at least, whatever the
logits are, and float64 where they are float64. A loss made of several has `parts(logits, target)`, by name.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from typing import TYPE_CHECKING, Any

from fullscale.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

_LOSSES = {
    "focal": "fullscale.losses.focal:FocalLoss",
    "ms-ssim": "fullscale.losses.ms_ssim:MSSSIMLoss",
    "iou": "fullscale.losses.iou:IoULoss",
    "dice": "fullscale.losses.dice:DiceLoss",
    "ce+dice": "fullscale.losses.dice:CrossEntropyDiceLoss",
    "hybrid": "fullscale.losses.hybrid:HybridLoss",
}
"""Every loss by its name, and the class to import for it."""


def list_losses() -> list[str]:
    """Return the names that `create_loss` takes."""
    return list(_LOSSES)


def create_loss(name: str, **options: Any) -> nn.Module:
    """Build a segmentation loss by name.

    Args:
        name: one of `list_losses()`.
        options: arguments of the loss's own class.

    Raises:
        UsageError: the name or an option is unknown, or a value does not fit.
    """
    if name not in _LOSSES:
        raise UsageError(f"loss '{name}' is unknown: expected {_one_of(name, list_losses())}")
    module, class_name = _LOSSES[name].split(":")
    loss_class: type[nn.Module] = getattr(importlib.import_module(module), class_name)
    known = list(inspect.signature(loss_class).parameters)
    for option in options:
        if option not in known:
            raise UsageError(f"loss '{name}' has no option '{option}': expected {_one_of(option, known)}")
    return loss_class(**options)


def _one_of(wrong: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(wrong, known, n=1)
    return f"'{nearest[0]}', perhaps?" if nearest else f"one of {', '.join(known)}"
