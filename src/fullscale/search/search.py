"""What a search is: the settings that are searched, the budget of a trial, and the fold that judges them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, NonNegativeInt, ValidationError, field_validator, model_validator

from fullscale.config.load import configure, flat_settings, read_yaml
from fullscale.config.schema import Config
from fullscale.errors import UsageError
from fullscale.search.space import DEFAULT, Dimension, dimensions, parse_words, require_settings
from fullscale.training.equal_cost import BUDGET, EqualCost


class Search(EqualCost):
    """Trials of equal cost on one fold, which differ in the settings that are searched.

    Attributes:
        space: what is searched, by dotted key: a list of values, or a range as text.
        fold: that holds back the cases by which trials are judged.
        prune: stop a trial whose validation lies behind what most others had at the same cost.
    """

    each: ClassVar[str] = "trial"

    space: dict[str, Any] = Field(min_length=1)
    fold: NonNegativeInt = 0
    prune: bool = True

    @field_validator("space")
    @classmethod
    def _space_said_once(cls, space: dict[str, Any]) -> dict[str, Any]:
        return flat_settings(space)

    @model_validator(mode="after")
    def _searched_or_set(self) -> Search:
        both = sorted(self.space.keys() & self.settings.keys())
        if both:
            raise ValueError(f"{both[0]} is searched and set: leave one out")
        budget = sorted(self.settings.keys() & set(BUDGET))
        if budget:
            raise ValueError(f"{budget[0]} is the budget, which all trials share; use minutes or steps each")
        if self.settings.get("trainer.devices", 1) != 1:
            raise ValueError("trainer.devices: each trial trains on one device")
        return self

    @property
    def dimensions(self) -> list[Dimension]:
        """What is searched."""
        return dimensions(self.space)

    def config(self, chosen: dict[str, Any] | None = None) -> Config:
        """Return the configuration of a trial, or without its own settings what all trials share.

        Raises:
            UsageError: a setting is unknown, or its value is wrong.
        """
        return configure(self.with_budget(self.settings | (chosen or {})))


def load_search(file: Path | None, words: list[str], **given: Any) -> Search:
    """Read what is searched from a YAML file and the words of a command, or search `DEFAULT` where nothing is said.

    Raises:
        UsageError: the file cannot be read, a setting is unknown or refuses a value, or they do not fit together.
    """
    space, settings = parse_words(words)
    if file is not None:
        if not file.exists() and "=" in str(file):
            raise UsageError(f"--space {file} is no file: write it as a setting, behind the data")
        ours = read_yaml(file, "the space", "settings, each with its values")
        space = _joined(space, ours, file)
    if not space:
        space = {key: values for key, values in DEFAULT.items() if key not in settings}
    if not space:
        raise UsageError("all that is searched by default is set: give a setting several values, network.width=8,16,32")
    try:
        search = Search.model_validate({"space": space, "settings": settings} | given)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{first['msg'].removeprefix('Value error, ')}") from error
    require_settings(search.dimensions, search.with_budget(search.settings))
    return search


def _joined(words: dict[str, Any], file: dict[str, Any], path: Path) -> dict[str, Any]:
    try:
        ours = flat_settings(file)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    both = sorted(words.keys() & ours.keys())
    if both:
        raise UsageError(f"{both[0]} is given twice, the second time by {path}: leave one out")
    return ours | words
