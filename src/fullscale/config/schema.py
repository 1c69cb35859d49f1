"""What a run is: one typed model, written as YAML and changed with `key.sub=value`.

A setting exists once, with one line of help: here, or as an argument of the network, loss, optimiser or augmentation
that is chosen by name. A value of None is filled in from the network, the data set's plan or the machine when the run
starts; the run folder keeps the configuration with every value filled in.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, field_validator

Tracker = Literal["tensorboard", "mlflow", "wandb"]
"""Where the course of a training is followed."""


class Section(BaseModel):
    """A group of settings: unknown keys are refused, values cannot change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Choice(Section):
    """Something that is made by name, with arguments of its own, which its signature knows and checks.

    A key of the section that is no field of it is an option: `network.width=32` means `network.options.width=32`.
    """

    name: str
    options: dict[str, Any] = Field({}, description="arguments of its own; network.width=32 is short for one of them")


class NetworkConfig(Choice):
    """The network. Its channels and classes come from the plan and the data."""

    name: str = Field("unet3+", description="ours, one of an installed package, or package.module:Class")
    init: str | None = Field(
        None, description="a run, a bundle or a file of weights to start from; layers that do not fit begin anew"
    )


class LossConfig(Choice):
    """The training loss."""

    name: str = Field("ce+dice", description="ours, one of an installed package, or package.module:Class")
    level_weights: tuple[float, ...] | None = Field(
        None, description="per supervised level, finest first; default halves each time; paper: alike"
    )
    presence_weight: float | None = Field(
        None, ge=0, description="weight of the loss of presence, for networks with guidance; default 0.1; paper: 1"
    )


class OptimizerConfig(Choice):
    """The optimiser and its schedule, which runs over the budget of steps or minutes."""

    name: str = Field("adamw", description="ours, one of an installed package, or torch.optim:Class")
    learning_rate: PositiveFloat | None = Field(None, description="at the start; default the optimiser's own")
    schedule: Literal["poly", "cosine", "constant"] = Field("poly", description="poly falls as (1 - progress)^0.9")
    warmup_steps: int = Field(20, ge=0, description="steps in which the rate rises linearly from zero")
    clip_norm: PositiveFloat | None = Field(12.0, description="largest norm of the gradient")


class AugmentConfig(Choice):
    """Random changes of a training crop."""

    name: str = Field("default", description="ours, one of an installed package, or package.module:Class")


class DataConfig(Section):
    """Cases, labels, folds and slices."""

    labels: dict[int, str] | None = Field(
        None,
        description="structure of each label value, as {1: liver, 2: liver}; labels that share a name are merged",
    )
    resample_channels: bool = Field(
        False, description="bring channels that lie on another grid onto that of the first, by linear interpolation"
    )
    regions: dict[str, tuple[PositiveInt, ...]] | None = Field(
        None,
        description="label values of each structure, where structures overlap: {whole: [1, 2], core: [2]}",
    )
    region_order: tuple[PositiveInt, ...] | None = Field(
        None, description="value that each region is written as in a mask, such as [1, 2]; default one of its own"
    )
    ignore: PositiveInt | None = Field(
        None, description="label value of which nothing is known: no loss, no score; default as the data set says"
    )
    folds: PositiveInt = Field(5, description="number of cross-validation folds")
    validation: tuple[str, ...] | None = Field(
        None, description="cases that validate, as [case_1, case_2?]; all others train, as the one fold 0"
    )
    view: Literal["slices", "patches"] | None = Field(
        None, description="what the network is shown: slices with their neighbours, or patches of three dimensions"
    )
    patch_size: tuple[PositiveInt, PositiveInt] | tuple[PositiveInt, PositiveInt, PositiveInt] | None = Field(
        None, description="rows and columns of a training crop; for patches slices, rows and columns"
    )
    batch_size: PositiveInt | None = Field(None, description="crops a step")
    foreground_fraction: float = Field(0.67, ge=0, le=1, description="share of crops centred on a structure voxel")
    workers: int | None = Field(None, ge=0, description="processes that prepare crops; default by the machine")

    @field_validator("labels", mode="before")
    @classmethod
    def _name_structures(cls, labels: Any) -> Any:
        if not isinstance(labels, dict):
            return labels
        structures = {value: name for value, name in labels.items() if (value, name) != (0, "background")}
        numbers = all(str(value).isdecimal() and int(value) > 0 for value in structures)
        if not numbers or set(structures.values()) <= {"background"}:
            raise ValueError("expected a structure's name by label value, from 1 on, such as {1: liver, 2: liver}")
        return structures

    @field_validator("regions", mode="before")
    @classmethod
    def _one_value_is_a_list(cls, regions: Any) -> Any:
        if regions is None:
            return None
        if not isinstance(regions, dict) or not regions:
            raise ValueError("expected the label values of each structure, such as {whole: [1, 2], core: [2]}")
        return {name: [values] if isinstance(values, int) else values for name, values in regions.items()}


class TrainerConfig(Section):
    """How long, on what, and with which seed."""

    max_minutes: PositiveFloat | None = Field(None, description="stop after this much training and validation")
    clock: Literal["wall", "processor"] = Field(
        "wall",
        description="of max_minutes; processor: time of all threads, which other work does not change",
    )
    max_epochs: PositiveInt | None = Field(None, description="stop after this many epochs")
    steps_per_epoch: PositiveInt | None = Field(None, description="steps between validations")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to train")
    devices: PositiveInt = Field(1, description="accelerators, each with its own process")
    precision: Literal["auto", "32", "bf16", "16"] = Field(
        "auto", description="auto: bf16 on a GPU or a processor that has it, else 32"
    )
    ema: float | None = Field(
        None, gt=0, lt=1, description="decay of averaged weights, such as 0.99, which are validated and handed over"
    )
    compile: bool = Field(False, description="torch.compile the network")
    checkpoint_minutes: PositiveFloat = Field(
        10, description="write a checkpoint within an epoch too, where the last one is so many minutes old"
    )
    seed: int = Field(0, ge=0, description="reaches Python, NumPy, torch and every worker")
    deterministic: bool = Field(False, description="the same weights twice on one machine, at some cost in speed")
    validation_cases: PositiveInt | None = Field(
        None, description="cases scored after each epoch; default all of slices, 10 of patches"
    )
    logger: tuple[Tracker, ...] | None = Field(
        None, description="tensorboard, mlflow, wandb, several as [tensorboard, mlflow], or none; default what is there"
    )
    log_model: bool = Field(False, description="give MLflow or W&B the model too, which names the cases it has seen")

    @field_validator("logger", mode="before")
    @classmethod
    def _one_logger_is_a_list(cls, logger: Any) -> Any:
        if not isinstance(logger, str):
            return logger
        return () if logger == "none" else tuple(name.strip() for name in logger.split(","))

    @field_validator("precision", mode="before")
    @classmethod
    def _bits_as_text(cls, precision: Any) -> Any:
        return str(precision) if type(precision) is int else precision


class Config(Section):
    """A whole run."""

    network: NetworkConfig = NetworkConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    augment: AugmentConfig = AugmentConfig()
    data: DataConfig = DataConfig()
    trainer: TrainerConfig = TrainerConfig()
