"""What a training step costs: its memory, worked out without taking any, and its seconds, measured."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef

from fullscale.config.schema import Config
from fullscale.data.plan import Plan
from fullscale.errors import UsageError
from fullscale.inference.runtimes.torch import choose_device
from fullscale.losses import create_loss
from fullscale.losses.supervision import SupervisedLoss
from fullscale.networks import create_network
from fullscale.training.choices import untrained
from fullscale.training.fit import FULL, choose_precision
from fullscale.work.machine import GIB, available_memory

COPIES_OF_WEIGHTS = 4
"""The weights, their gradients, and what an optimiser like AdamW keeps of both."""


def step_bytes(config: Config, plan: Plan) -> int | None:
    """Count what a training step holds: weights and their copies, and all that the backward pass needs.

    The network is run on tensors without content. What an operation takes besides, and keeps no longer than it lasts,
    is not counted, so that the true need is somewhat larger. In half precision all maps are counted as halves.

    Args:
        config: with every value filled in.
        plan: of the data.

    Returns:
        Bytes; None for a network that cannot be run without content.
    """
    patch, batch = config.data.patch_size, config.data.batch_size
    assert patch is not None
    assert batch is not None
    channels = plan.recipe.in_channels
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # a storage that is freed could give its name to another

    def keep(tensor: Tensor) -> Tensor:
        alive.append(tensor)
        kept[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.device("meta"):
        network = create_network(config.network.name, channels, plan.classes, **untrained(config.network.options))
        image = torch.empty(batch, channels, *patch)
    weights = {_storage(p): p.untyped_storage().nbytes() for p in network.parameters()}
    try:
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            output = network.train()(image)
            outputs = [output] if isinstance(output, Tensor) else output.logits
            _ = [logits.log_softmax(dim=1).mean() for logits in outputs]
    except (NotImplementedError, RuntimeError):  # somebody's own network, which looks at the content
        return None
    maps = sum(size for name, size in kept.items() if name not in weights)
    half = choose_precision(config.trainer.precision, choose_device(config.trainer.device), len(patch)) != FULL
    return COPIES_OF_WEIGHTS * sum(weights.values()) + (maps // 2 if half else maps)


def step_seconds(config: Config, plan: Plan) -> float:
    """Train one step on noise, after one to warm up, and return its seconds on the device of the configuration."""
    patch, batch = config.data.patch_size, config.data.batch_size
    assert patch is not None
    assert batch is not None
    device = choose_device(config.trainer.device)
    channels = plan.recipe.in_channels
    network = create_network(config.network.name, channels, plan.classes, **untrained(config.network.options))
    network.to(device).train()
    image, target = (
        torch.randn(batch, channels, *patch, device=device),
        torch.zeros(batch, *patch, device=device).long(),
    )
    loss = SupervisedLoss(create_loss(config.loss.name, **config.loss.options), config.loss.level_weights)
    for _ in range(2):
        started = time.perf_counter()
        total: Tensor = loss(network(image), target).total
        total.backward()  # type: ignore[no-untyped-call]
        float(total.detach())  # waits for the device
    return time.perf_counter() - started


def _storage(tensor: Tensor) -> int:
    """Name the memory of a tensor, which several may share."""
    name: int = StorageWeakRef(tensor.untyped_storage()).cdata  # type: ignore[no-untyped-call]
    return name


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
