"""What a training step costs: its memory, worked out without taking any, and its seconds, measured."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from fullscale.config.schema import Config
from fullscale.data.plan import Plan
from fullscale.errors import UsageError
from fullscale.inference.runtimes.torch import choose_device
from fullscale.networks import create_network
from fullscale.networks.protocol import Network
from fullscale.training.choices import supervised_loss, untrained
from fullscale.training.fit import FULL, choose_precision
from fullscale.training.live import MIB, parameters_and_buffers, peak_mib
from fullscale.training.optimizers import create_optimizer
from fullscale.work.machine import GIB, available_memory

META = torch.device("meta")
"""Tensors without content: operations give shapes, and take neither memory nor time."""
_HALVED = {"cpu": 0.61}
"""What maps in half precision take at least, as a share of float32's: half, but on a CPU more, where libraries convert
some to float32 for themselves. There it was 0.61 to 0.71 for UNet and UNet 3+, in slices and patches."""
_counted: dict[str, int | None] = {}
"""Bytes by what they depend on, so that the runs of a comparison and of folds count them once."""


def step_bytes(config: Config, plan: Plan) -> int | None:
    """Count the bytes that a training step holds at most: weights, gradients, the optimiser's state, all maps alive.

    The step is done on tensors without content. What libraries take for themselves is not counted, so that the true
    need is somewhat larger; the kernels that only a CPU has keep less. In half precision the maps are counted at
    `_HALVED` of float32's, and the weights once more as halves.

    Args:
        config: with every value filled in.
        plan: of the data.

    Returns:
        Bytes; None for a network or a loss that cannot be run without content.
    """
    data, trainer, parts = config.data, config.trainer, (config.network, config.loss, config.optimizer)
    sizes = (data.patch_size, data.batch_size, trainer.precision, trainer.device)
    key = repr(([part.model_dump() for part in parts], sizes, plan.recipe, plan.scheme))
    if key not in _counted:
        _counted[key] = _count(config, plan)
    return _counted[key]


def _count(config: Config, plan: Plan) -> int | None:
    try:
        network, optimizer, step = _training_step(config, plan, META)
        step()  # the optimiser's state is made
        state = [value for entry in optimizer.state.values() for value in entry.values() if torch.is_tensor(value)]
        there = [*parameters_and_buffers(network), *state]
        peak = round(peak_mib(step, there) * MIB)
    except (NotImplementedError, RuntimeError):  # somebody's own network or loss, which looks at the content
        return None
    if choose_precision(config.trainer.precision, choose_device(config.trainer.device)) == FULL:
        return peak
    held = sum(tensor.nbytes for tensor in there)
    weights = sum(parameter.nbytes for parameter in network.parameters())
    maps = (peak - held) * _HALVED.get(choose_device(config.trainer.device).type, 0.5)
    return held + weights // 2 + round(maps)


def step_seconds(config: Config, plan: Plan) -> float:
    """Train one step on noise, after one to warm up, and return its seconds on the device of the configuration."""
    *_, step = _training_step(config, plan, choose_device(config.trainer.device))
    step()
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def _training_step(
    config: Config, plan: Plan, device: torch.device
) -> tuple[Network, Optimizer, Callable[[], float | None]]:
    """Make a network, its optimiser, and what does one step on noise: as it is trained, without content in float32."""
    patch, batch = config.data.patch_size, config.data.batch_size
    assert patch is not None
    assert batch is not None
    with device:
        network = create_network(
            config.network.name, plan.recipe.in_channels, plan.classes, **untrained(config.network.options)
        ).train()
        image = torch.randn(batch, plan.recipe.in_channels, *patch)
        target = torch.zeros(batch, *patch, dtype=torch.long)
    loss = supervised_loss(config.loss, plan.scheme).to(device)
    optimizer = create_optimizer(config.optimizer, network.parameters())

    def step() -> float | None:
        optimizer.zero_grad()
        with _trained_in(config, device):
            total: Tensor = loss(network(image), target).total
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return None if device == META else float(total.detach())  # waits for the device

    return network, optimizer, step


def _trained_in(config: Config, device: torch.device) -> AbstractContextManager[Any]:
    """Cast automatically as training does, on a device that computes."""
    halves = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    precision = FULL if device == META else choose_precision(config.trainer.precision, device)
    return nullcontext() if precision == FULL else torch.autocast(device.type, halves[precision])


def require_memory(config: Config, plan: Plan) -> None:
    """Refuse to train what does not fit into the memory of the machine, or of its GPU, before any work.

    Raises:
        UsageError: it does not; what would fit is named.
    """
    free, where = _free(config)
    needed = step_bytes(config, plan)
    if needed is None or needed <= free:
        return
    size, batch = config.data.patch_size, config.data.batch_size
    assert size is not None
    assert batch is not None
    fixed = step_bytes(_with_batch(config, 1), plan) or needed
    of_one = (needed - fixed) / max(1, batch - 1) if batch > 1 else needed
    fitting = 1 + int((free - fixed) // of_one) if fixed <= free else 0
    remedy = f"data.batch_size={fitting}" if fitting else f"a smaller patch than {'x'.join(map(str, size))}"
    raise UsageError(
        f"a training step needs at least {needed / GIB:.1f} GiB of memory, {free / GIB:.1f} GiB are free {where}: "
        f"{remedy} fits, or lower network.width"
    )


def _with_batch(config: Config, batch: int) -> Config:
    return config.model_copy(update={"data": config.data.model_copy(update={"batch_size": batch})})


def _free(config: Config) -> tuple[float, str]:
    device = choose_device(config.trainer.device)
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory, "on the GPU"
    return (available_memory(), "on this machine") if device.type == "cpu" else (math.inf, "")


def describe_cost(config: Config, plan: Plan) -> str:
    """Say what the training of a fold will take here: a step is measured, which takes a few seconds on a CPU."""
    seconds, held = step_seconds(config, plan), step_bytes(config, plan)
    steps, epochs = config.trainer.steps_per_epoch, config.trainer.max_epochs
    memory = "" if held is None else f" and at least {held / GIB:.2g} GiB of memory"
    if config.trainer.max_minutes is not None:
        return (
            f"{seconds:.2g} s a step{memory}, {60 * config.trainer.max_minutes / seconds:.0f} steps in the time given"
        )
    assert steps is not None
    assert epochs is not None
    return f"{seconds:.2g} s a step{memory}, {epochs * steps * seconds / 3600:.2g} hours for {epochs} epochs of {steps}"
