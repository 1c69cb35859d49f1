"""Segmentation losses, made by name. Knows torch and the registry only; torch is loaded with the first loss.

Every loss is a module called `loss(logits [B, C, *size], target [B, *size]) -> scalar`; size is H W of slices or D H W
of patches. One class is sigmoid with a target of 0 and 1, more are softmax with background as class 0. Structures that
may overlap are independent channels, each a sigmoid, whose target is `[B, C, *size]` of 0 and 1. The arithmetic is
float32 at least, whatever the logits are, and float64 where they are float64. A loss made of several has
`parts(logits, target)`, by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fullscale.registry import Registry

if TYPE_CHECKING:
    from torch import nn

IGNORED = 255
"""Stands in class indices for a voxel of which nothing is known. `SupervisedLoss` shows none of them to a loss."""

LOSSES: Registry[nn.Module] = Registry(
    kind="loss",
    table={
        "focal": "fullscale.losses.focal:FocalLoss",
        "ms-ssim": "fullscale.losses.ms_ssim:MSSSIMLoss",
        "iou": "fullscale.losses.iou:IoULoss",
        "dice": "fullscale.losses.dice:DiceLoss",
        "ce+dice": "fullscale.losses.dice:CrossEntropyDiceLoss",
        "hybrid": "fullscale.losses.hybrid:HybridLoss",
    },
    group="fullscale.losses",
    base="torch.nn:Module",
)
"""Every loss by its name. Other packages add theirs by entry points, or are named as `package.module:Class`."""


def list_losses() -> list[str]:
    """Return the names that `create_loss` takes, those of installed packages last."""
    return LOSSES.names()


def create_loss(name: str, **options: Any) -> nn.Module:
    """Build a segmentation loss by name.

    Args:
        name: one of `list_losses()`, or `package.module:Class`, a `torch.nn.Module`.
        options: arguments of the loss's own class.

    Raises:
        UsageError: the name or an option is unknown, or a value does not fit.
    """
    return LOSSES.create(name, **options)
