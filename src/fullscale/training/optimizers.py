"""Optimisers by name. The `Budget` sets the rate of every step; here is where it starts."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from fullscale.config.schema import OptimizerConfig
from fullscale.errors import UsageError
from fullscale.registry import Registry

OPTIMIZERS: Registry[Optimizer] = Registry(
    kind="optimizer",
    table={"adamw": "fullscale.training.optimizers:adamw", "sgd": "fullscale.training.optimizers:sgd"},
    group="fullscale.optimizers",
    given=("params", "lr"),
    base="torch.optim:Optimizer",
)
"""Every optimiser by its name. Any class of torch is named by its place, as `torch.optim:RAdam`."""


def adamw(params: Iterable[nn.Parameter], lr: float = 3e-3, weight_decay: float = 1e-4) -> Optimizer:
    """AdamW (Loshchilov and Hutter, ICLR 2019).

    Args:
        params: what is trained.
        lr: learning rate at the start.
        weight_decay: decay of the weights.
    """
    return AdamW(params, lr=lr, weight_decay=weight_decay)


def sgd(
    params: Iterable[nn.Parameter], lr: float = 1e-2, weight_decay: float = 1e-4, momentum: float = 0.99
) -> Optimizer:
    """Gradient descent with Nesterov's momentum, which is what nnU-Net trains with.

    Args:
        params: what is trained.
        lr: learning rate at the start.
        weight_decay: decay of the weights.
        momentum: 0 is without.
    """
    return SGD(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=momentum > 0)


def learning_rate(config: OptimizerConfig) -> float:
    """Return the rate at the start: as set, or what the optimiser takes by default.

    Raises:
        UsageError: neither says it, or the optimiser is unknown.
    """
    if config.learning_rate is not None:
        return config.learning_rate
    default = inspect.signature(OPTIMIZERS.find(config.name)).parameters["lr"].default
    if not isinstance(default, float):
        raise UsageError(f"optimizer '{config.name}' has no learning rate by default: set optimizer.learning_rate")
    return default


def create_optimizer(config: OptimizerConfig, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Make the optimiser of a configuration.

    Raises:
        UsageError: it is unknown, lacks an option that is set, or a value does not fit.
    """
    return OPTIMIZERS.create(config.name, parameters, learning_rate(config), **config.options)
