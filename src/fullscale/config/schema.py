"""What a run is: one typed model, written as YAML and changed with `key.sub=value`.

A setting exists once, here, with one line of help. A value of None is filled in from the network, the data set's plan
or the machine when the run starts; the run folder keeps the configuration with every value filled in.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, field_validator

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
        None, description="unet3+: learn whether a slice holds each structure, and gate with it; default true"
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
        description="structure of each label value, as {1: liver, 2: liver}; labels that share a name are merged",
    )
    folds: PositiveInt = Field(5, description="number of cross-validation folds")
    validation: tuple[str, ...] | None = Field(
        None, description="cases that validate, as [case_1, case_2?]; all others train, as the one fold 0"
    )
    patch_size: tuple[PositiveInt, PositiveInt] | None = Field(None, description="rows and columns of a training crop")
    batch_size: PositiveInt | None = Field(None, description="crops a step")
    foreground_fraction: Probability = Field(
        0.67, ge=0, le=1, description="share of crops centred on a structure voxel"
    )
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
