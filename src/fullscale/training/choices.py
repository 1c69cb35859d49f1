"""What a configuration names: network, loss, optimiser and augmentation, held against the signature of each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from torch import nn

from fullscale.config.load import CHOICES
from fullscale.config.load import settings as typed_settings
from fullscale.config.schema import Choice, Config
from fullscale.errors import UsageError
from fullscale.losses import LOSSES
from fullscale.networks import NETWORKS
from fullscale.registry import Registry
from fullscale.training.augment import AUGMENTATIONS
from fullscale.training.optimizers import OPTIMIZERS, create_optimizer

REGISTRIES: dict[str, Registry[Any]] = {
    "network": NETWORKS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "augment": AUGMENTATIONS,
}
"""What a section of the configuration chooses from."""

PLANNED = ("width", "skip_channels")
"""Options of a network, where it has them, that the plan chooses as long as they are not set."""


def check_choices(config: Config) -> None:
    """Refuse names and options that do not exist, and values of another type, before any data are read.

    Loss, optimiser and augmentation are made once, so what they refuse is refused here as well. A network is not: it
    can be large, and its channels and classes are not known yet.

    Raises:
        UsageError: a name or an option is unknown (the nearest known one is named), or a value does not fit.
    """
    for section, registry in REGISTRIES.items():
        choice: Choice = getattr(config, section)
        registry.check(choice.name, choice.options, CHOICES[section].model_fields)
        _check_types(section, registry.find(choice.name), choice.options)
    LOSSES.create(config.loss.name, **config.loss.options)
    AUGMENTATIONS.create(config.augment.name, **config.augment.options)
    create_optimizer(config.optimizer, [nn.Parameter(torch.zeros(1))])


def filled_options(config: Config, section: str) -> dict[str, Any]:
    """Return every option of what a section chooses, as set or its own default, as far as YAML can hold that."""
    choice: Choice = getattr(config, section)
    options = REGISTRIES[section].options(choice.name)
    return {name: _plain(p.default) for name, p in options.items() if _is_plain(p.default)} | choice.options


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
