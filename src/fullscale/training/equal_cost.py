"""Several trainings that may be compared: each of equal cost, on the same cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from fullscale.config.load import flat_settings
from fullscale.config.schema import Section

BUDGET = ("trainer.max_minutes", "trainer.clock", "trainer.max_epochs", "trainer.steps_per_epoch")
SHARED = (
    "data.labels",
    "data.regions",
    "data.region_order",
    "data.ignore",
    "data.folds",
    "data.validation",
    "trainer.seed",
)
"""Settings that say what is learned and on which cases: rows that differ in one of them cannot be compared."""


class EqualCost(Section):
    """What trainings that are compared have in common.

    Attributes:
        minutes_each: training and validation of each, or
        steps_each: its steps.
        clock: of the minutes: "wall", or "processor", which other work on the machine does not change.
        validate_every: steps between validations, after which the best epoch is chosen.
        settings: of every one; its own come on top.
    """

    each: ClassVar[str] = "training"
    """What one of them is called."""

    minutes_each: PositiveFloat | None = None
    steps_each: PositiveInt | None = None
    clock: Literal["wall", "processor"] = "wall"
    validate_every: PositiveInt = 250
    settings: dict[str, Any] = Field({})

    @field_validator("settings")
    @classmethod
    def _settings_said_once(cls, settings: dict[str, Any]) -> dict[str, Any]:
        return flat_settings(settings)

    @model_validator(mode="after")
    def _one_budget(self) -> EqualCost:
        if (self.minutes_each is None) == (self.steps_each is None):
            raise ValueError(f"give every {self.each} minutes_each or steps_each, one of the two")
        between = self.validate_every
        if self.steps_each and self.steps_each > between and self.steps_each % between:
            raise ValueError(
                f"steps_each={self.steps_each} is no multiple of {between}, the steps between validations "
                f"(validate_every): take {self.steps_each // between * between}, or another validate_every"
            )
        if self.clock == "processor" and self.minutes_each is None:
            raise ValueError(f"clock=processor is of minutes: give every {self.each} minutes_each")
        return self

    @property
    def budget(self) -> str:
        """The budget in words."""
        if self.minutes_each is None:
            return f"{self.steps_each} steps each"
        return f"{self.minutes_each:g} {'processor ' if self.clock == 'processor' else ''}minutes each"

    def with_budget(self, settings: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """Return settings with those of the budget behind them."""
        if self.minutes_each is not None:
            return [
                *settings.items(),
                ("trainer.max_minutes", self.minutes_each),
                ("trainer.clock", self.clock),
                ("trainer.steps_per_epoch", self.validate_every),
            ]
        assert self.steps_each is not None
        epochs = max(1, self.steps_each // self.validate_every)
        steps = self.steps_each // epochs
        return [*settings.items(), ("trainer.max_epochs", epochs), ("trainer.steps_per_epoch", steps)]
