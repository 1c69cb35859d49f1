"""What a run is: one typed model, written as YAML and changed with `key.sub=value`.

A setting exists once, here, with one line of help. A value of None is filled in from the network, the data set's plan
or the machine when the run starts; the run folder keeps the configuration with every value filled in.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, field_validator

from fullscale.errors import UsageError

Probability = float


class Section(BaseModel):
    """A group of settings: unknown keys are refused, values cannot change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NetworkConfig(Section):
    """The network. Its channels and classes come from the plan and the data; an option it does not have is refused."""

    name: str = Field("unet3+", description="a name that list_networks() knows")
    encoder: str | None = Field(
        None, description='"plain" (the paper\'s VGG-16) where a network has it, or a timm backbone such as "resnet101"'
    )
    pretrained: bool | str | None = Field(
        None, description="ImageNet weights for a timm encoder: true, a local file, or its folder; default none"
    )
    width: PositiveInt | None = Field(None, description="channels of the finest level; paper: 64")
    skip_channels: PositiveInt | None = Field(None, description="unet3+: channels of each full-scale skip; paper: 64")
    normalization: Literal["none", "batch"] | None = Field(
        None, description="unet, unet++: of the decoder; default none, as the paper counts them"
    )
    deep_supervision: bool | None = Field(
        None, description="unet3+: supervise all five decoder levels; unet++: all four heads; default true"
    )
    classification_guided: bool | None = Field(
        None, description="unet3+: learn whether a slice holds each organ, and gate with it; default true"
    )
    gate_in_training: bool | None = Field(
        None, description="unet3+: gate the training outputs too, as the paper does; default false"
    )


class LossConfig(Section):
    """The training loss."""

    name: str = Field("ce+dice", description="a name that list_losses() knows")
    options: dict[str, Any] = Field({}, description="further arguments of the loss, such as {gamma: 1}")
    level_weights: tuple[float, ...] | None = Field(
        None, description="per supervised level, finest first; default halves each time; paper: alike"
    )
    presence_weight: float = Field(0.1, ge=0, description="weight of the presence loss of the guidance")


class OptimizerConfig(Section):
    """The optimiser and its schedule, which runs over the budget of steps or minutes."""

    name: Literal["adamw", "sgd"] = Field("adamw", description="optimiser")
    learning_rate: PositiveFloat | None = Field(None, description="at the start; default 3e-3 (adamw), 1e-2 (sgd)")
    weight_decay: float = Field(1e-4, ge=0, description="decay of the weights")
    momentum: float = Field(0.99, ge=0, lt=1, description="Nesterov momentum of sgd")
    schedule: Literal["poly", "cosine", "constant"] = Field("poly", description="poly falls as (1 - progress)^0.9")
    warmup_steps: int = Field(20, ge=0, description="steps in which the rate rises linearly from zero")
    clip_norm: PositiveFloat | None = Field(12.0, description="largest norm of the gradient")

    @property
    def base_rate(self) -> float:
        """The learning rate at the start."""
        return self.learning_rate or {"adamw": 3e-3, "sgd": 1e-2}[self.name]


class AugmentConfig(Section):
    """Random changes of a training slice; none of them can invent a label."""

    probability: Probability = Field(0.5, ge=0, le=1, description="chance of each change below, flips apart")
    rotate_degrees: float = Field(15.0, ge=0, le=180, description="largest rotation either way")
    scale: float = Field(0.2, ge=0, lt=1, description="largest zoom either way, as a fraction")
    shift: float = Field(0.1, ge=0, lt=1, description="largest shift either way, as a fraction of the side")
    flip: Probability = Field(0.0, ge=0, le=1, description="chance of a left-right mirror; 0 where sides matter")
    noise: float = Field(0.1, ge=0, description="deviation of Gaussian noise, in normalised units")
    intensity: float = Field(0.2, ge=0, description="largest change of offset and of contrast, as a fraction")
    gamma: float = Field(0.3, ge=0, lt=1, description="largest change of gamma either way, from 1")


class DataConfig(Section):
    """Cases, labels, folds and slices."""

    labels: dict[int, str] | None = Field(
        None,
        description="organs by label value, instead of the data set's, as {1: liver, 2: liver}: one name, one organ",
    )
    folds: PositiveInt = Field(5, description="number of cross-validation folds")
    validation: tuple[str, ...] | None = Field(
        None, description="cases that validate, as [case_1, case_2?]; all others train, as the one fold 0"
    )
    patch_size: tuple[PositiveInt, PositiveInt] | None = Field(None, description="rows and columns of a training crop")
    batch_size: PositiveInt | None = Field(None, description="crops a step")
    organ_share: Probability = Field(0.67, ge=0, le=1, description="share of crops centred on an organ voxel")
    workers: int | None = Field(None, ge=0, description="processes that prepare crops; default by the machine")

    @field_validator("labels", mode="before")
    @classmethod
    def _name_organs(cls, labels: Any) -> Any:
        if not isinstance(labels, dict):
            return labels
        organs = {value: name for value, name in labels.items() if (value, name) != (0, "background")}
        numbers = all(str(value).isdecimal() and int(value) > 0 for value in organs)
        if not numbers or set(organs.values()) <= {"background"}:
            raise ValueError("expected an organ's name by label value, from 1 on, such as {1: liver, 2: liver}")
        return organs


class TrainerConfig(Section):
    """How long, on what, and with which seed."""

    max_minutes: PositiveFloat | None = Field(None, description="stop after this much training and validation")
    max_epochs: PositiveInt | None = Field(None, description="stop after this many epochs")
    steps_per_epoch: PositiveInt | None = Field(None, description="steps between validations")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to train")
    devices: PositiveInt = Field(1, description="accelerators, each with its own process")
    precision: Literal["auto", "32", "bf16", "16"] = Field("auto", description="auto: bf16 on a GPU that has it")
    compile: bool = Field(False, description="torch.compile the network")
    seed: int = Field(0, ge=0, description="reaches Python, NumPy, torch and every worker")
    deterministic: bool = Field(False, description="the same weights twice on one machine, at some cost in speed")
    validation_cases: PositiveInt | None = Field(None, description="cases scored after each epoch; default all")


class Config(Section):
    """A whole run."""

    network: NetworkConfig = NetworkConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    augment: AugmentConfig = AugmentConfig()
    data: DataConfig = DataConfig()
    trainer: TrainerConfig = TrainerConfig()


def load_config(path: Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration: defaults, then the YAML file, then each `key.sub=value`.

    Raises:
        UsageError: the file cannot be read, a key is unknown (the nearest known one is named), or a value is wrong.
    """
    values = {} if path is None else read_yaml(path, "the configuration", "a mapping of settings")
    return configure([parse_override(text) for text in overrides], values)


def configure(settings: Iterable[tuple[str, Any]], values: dict[str, Any] | None = None) -> Config:
    """Lay settings, each a dotted key and its value, over `values` by section and over the defaults.

    Raises:
        UsageError: a key is unknown (the nearest known one is named), or a value is wrong.
    """
    values = {} if values is None else values
    for key, value in settings:
        _assign(values, key, value)
    return _validate(values)


def parse_override(text: str) -> tuple[str, Any]:
    """Take `key.sub=value` apart.

    Raises:
        UsageError: it has no `=`, or the value is no YAML.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{text!r} is not of the form key.sub=value, such as trainer.max_minutes=20")
    return key.strip(), _parse_value(value, text)


def _validate(values: dict[str, Any]) -> Config:
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise UsageError(f"unknown setting {key!r}{nearest(key, [k for k, _ in settings()])}") from error
        where = f"{key}={first['input']!r}: " if key else ""
        raise UsageError(f"{where}{first['msg'].removeprefix('Value error, ')}") from error


def settings() -> Iterator[tuple[str, str]]:
    """Yield every setting's dotted key with its line of help."""
    for section, field in Config.model_fields.items():
        assert isinstance(field.default, Section)
        for name, sub in type(field.default).model_fields.items():
            yield f"{section}.{name}", sub.description or ""


def dump_yaml(config: Config) -> str:
    """Write a configuration as YAML that `load_config` reads back to the same values."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def nearest(name: str, known: Sequence[str]) -> str:
    """Return `; did you mean 'x'?` for the closest known name, or a list of them where none is close."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(sorted(known))}"


def read_yaml(path: Path, what: str, holding: str) -> dict[str, Any]:
    """Read a YAML mapping; `what` the file is and what it must be `holding` go into the error.

    Raises:
        UsageError: it cannot be read, or holds something else.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {what} {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} must hold {holding}, it holds {type(values).__name__}")
    return values


def _parse_value(text: str, override: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"the value in {override!r} cannot be read") from error
    # YAML 1.1 takes 1e-3 (without a point) for a string.
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _assign(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UsageError(f"{key!r} goes below {section!r}, which holds a value of its own")
    values[name] = value
