"""What a configuration names: network, loss, optimiser and augmentation, held against the signature of each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from torch import nn

from fullscale.bundle.weights import DIGEST_OF_WEIGHTS
from fullscale.config.load import CHOICES
from fullscale.config.load import settings as typed_settings
from fullscale.config.schema import Choice, Config, LossConfig
from fullscale.data.labels import LabelScheme
from fullscale.errors import UsageError
from fullscale.losses import LOSSES
from fullscale.losses.supervision import SupervisedLoss
from fullscale.networks import NETWORKS
from fullscale.registry import Registry
from fullscale.training.augment import AUGMENTATIONS
from fullscale.training.initial_weights import PRETRAINED
from fullscale.training.optimizers import OPTIMIZERS, create_optimizer

REGISTRIES: dict[str, Registry[Any]] = {
    "network": NETWORKS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "augment": AUGMENTATIONS,
}
"""What a section of the configuration chooses from."""

_SOME_CHANNELS, _SOME_CLASSES = 3, 2
PLANNED = ("width", "skip_channels")
"""Options of a network, where it has them, that the plan chooses as long as they are not set."""


def check_choices(config: Config) -> None:
    """Refuse names and options that do not exist, and values that cannot be, before any data are read.

    Loss, optimiser and augmentation are made once, so what they refuse is refused here as well. A network is made
    without memory for its weights, and only to find out whether its options are at fault: its channels and classes
    are not known yet.

    Raises:
        UsageError: a name or an option is unknown (the nearest known one is named), a value does not fit, or two
            settings contradict each other.
    """
    for section, registry in REGISTRIES.items():
        choice: Choice = getattr(config, section)
        registry.check(choice.name, choice.options, CHOICES[section].model_fields)
        _check_types(section, registry.find(choice.name), choice.options)
    LOSSES.create(config.loss.name, **config.loss.options)
    AUGMENTATIONS.create(config.augment.name, **config.augment.options)
    create_optimizer(config.optimizer, [nn.Parameter(torch.zeros(1))])
    pretrained = config.network.options.get(PRETRAINED)
    if str(pretrained).startswith(DIGEST_OF_WEIGHTS):
        raise UsageError(
            f"network.pretrained={pretrained}: a run keeps the digest of its first weights alone; give their path"
        )
    if config.network.init is not None and pretrained:
        raise UsageError(
            f"network.init={config.network.init} and network.pretrained={pretrained} both say which weights training "
            "starts from: give one of them"
        )
    _check_network(config.network.name, untrained(config.network.options))


def untrained(options: dict[str, Any]) -> dict[str, Any]:
    """Ask for no pretrained weights: the shape of the network does not depend on them."""
    return {option: False if option == PRETRAINED else value for option, value in options.items()}


def _check_network(name: str, options: dict[str, Any]) -> None:
    """Refuse options with which a network cannot be made, in 2D or 3D, although it can be made without them."""
    of_the_data = [{"spatial_dims": n} for n in (2, 3)] if "spatial_dims" in NETWORKS.options(name) else [{}]
    faults = [fault for dimensions in of_the_data if (fault := _fault_of(name, dimensions | options)) is not None]
    if len(faults) == len(of_the_data) and _fault_of(name, {}) is None:
        raise faults[0]  # without them it can be made: not its channels are at fault, which the data decide


def _fault_of(name: str, options: dict[str, Any]) -> UsageError | None:
    """Make a network without memory for its weights; return what speaks against it."""
    try:
        with torch.device("meta"):
            NETWORKS.create(name, _SOME_CHANNELS, _SOME_CLASSES, **options)
    except UsageError as error:
        return error
    return None


def filled_options(config: Config, section: str) -> dict[str, Any]:
    """Return every option of what a section chooses, as set or its own default, as far as YAML can hold that."""
    choice: Choice = getattr(config, section)
    options = REGISTRIES[section].options(choice.name)
    return {name: _plain(p.default) for name, p in options.items() if _is_plain(p.default)} | choice.options


def supervised_loss(config: LossConfig, scheme: LabelScheme) -> SupervisedLoss:
    """Make the loss of a configuration, for what the channels of a scheme stand for."""
    regions = torch.from_numpy(scheme.membership) if scheme.regions else None
    loss = LOSSES.create(config.name, **config.options)
    return SupervisedLoss(loss, config.level_weights, config.presence_weight, regions)


def setting_rows(config: Config) -> Iterator[tuple[str, Any, str]]:
    """Yield the key, the value and a line of help of each setting, with the options of what is chosen by name."""
    values = config.model_dump()
    rows = [(key, values[key.split(".")[0]][key.split(".")[1]], text) for key, text in typed_settings()]
    for section in values:
        yield from (row for row in rows if row[0].startswith(f"{section}."))
        if section in REGISTRIES:
            choice: Choice = getattr(config, section)
            texts = REGISTRIES[section].descriptions(choice.name)
            planned = set(PLANNED) - choice.options.keys() if section == "network" else set()
            for name, value in filled_options(config, section).items():
                yield f"{section}.{name}", None if name in planned else value, texts.get(name, "").rstrip(".")


def _check_types(section: str, make: Callable[..., Any], options: dict[str, Any]) -> None:
    try:
        parameters = inspect.signature(make, eval_str=True).parameters
    except Exception:  # annotations of other people that only a type checker can read
        return
    for name, value in options.items():
        if name in parameters and parameters[name].annotation is not inspect.Parameter.empty:
            _check_type(f"{section}.{name}", value, parameters[name].annotation)


def _check_type(key: str, value: Any, annotation: Any) -> None:
    try:
        adapter = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:
        try:
            adapter = TypeAdapter(annotation)
        except PydanticUserError:
            return
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        raise UsageError(f"{key}={value!r}: {error.errors()[0]['msg']}") from error


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
