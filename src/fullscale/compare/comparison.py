"""What is compared: rows, each a name and its settings, and the budget that all of them have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PositiveInt, ValidationError, field_validator, model_validator

from fullscale.config.load import configure, flat_settings, read_yaml
from fullscale.config.schema import Config, Section
from fullscale.errors import UsageError
from fullscale.networks import NETWORKS, list_networks
from fullscale.text import nearest
from fullscale.training.choices import check_choices
from fullscale.training.equal_cost import BUDGET, SHARED, EqualCost


class Row(Section):
    """One line of the table.

    Attributes:
        name: in the table, and of its run folder; where the settings name no network, it may be one's name.
        settings: what sets it apart, such as `{"network.name": "unet"}`.
    """

    name: str = Field(pattern=r"^\w[\w.+ -]*$")
    settings: dict[str, Any] = Field({})

    @model_validator(mode="before")
    @classmethod
    def _from_a_name(cls, values: Any) -> Any:
        return {"name": values} if isinstance(values, str) else values

    @field_validator("settings")
    @classmethod
    def _said_once(cls, settings: dict[str, Any]) -> dict[str, Any]:
        return flat_settings(settings)


class Comparison(EqualCost):
    """Rows that are trained on the same cases, splits, seed and budget.

    Attributes:
        rows: at least one, of different names.
        reference: the row that the others are tested against; default `unet3+` where a row has that name, or the last.
        folds: how many of the `data.folds` folds are trained and scored.
    """

    each: ClassVar[str] = "row"

    rows: list[Row] = Field(min_length=1)
    reference: str = ""
    folds: PositiveInt = 3

    @field_validator("rows")
    @classmethod
    def _different_names(cls, rows: list[Row]) -> list[Row]:
        names = [row.name for row in rows]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two rows are called {twice[0]!r}; give each its own name")
        return rows

    @model_validator(mode="before")
    @classmethod
    def _choose_reference(cls, values: Any) -> Any:
        rows = values.get("rows") if isinstance(values, dict) else None
        if not isinstance(rows, list) or values.get("reference"):
            return values
        names = [row.get("name") if isinstance(row, dict) else getattr(row, "name", row) for row in rows]
        return values | {"reference": "unet3+" if "unet3+" in names else (names or [""])[-1]}

    @model_validator(mode="after")
    def _every_row_has_a_network(self) -> Comparison:
        for row in self.rows:
            if "network.name" in row.settings:
                continue
            if row.name in list_networks():
                row.settings["network.name"] = row.name
            elif "network.name" not in self.settings:
                raise ValueError(
                    f"row {row.name!r} names no network: set network.name{nearest(row.name, list_networks())}"
                )
        return self

    @model_validator(mode="after")
    def _fits(self) -> Comparison:
        if self.settings.get("trainer.devices", 1) != 1:
            raise ValueError("trainer.devices: a comparison trains its rows one after the other on one device")
        if self.reference not in (row.name for row in self.rows):
            raise ValueError(f"the reference {self.reference!r} is none of the rows")
        return self

    def config(self, row: Row) -> Config:
        """Return the configuration of a row.

        Raises:
            UsageError: a setting is unknown or does not fit, or speaks of the budget.
        """
        settings = self.settings | row.settings
        for key in settings:
            if key in BUDGET:
                raise UsageError(
                    f"row {row.name}: {key} is the budget, which all rows share; use minutes or steps each"
                )
            if key in SHARED and key in row.settings:
                raise UsageError(
                    f"row {row.name}: {key} must be the same for all rows; put it under the common settings"
                )
        try:
            config = configure(self.with_budget(settings))
            check_choices(config)
            return config
        except UsageError as error:
            raise UsageError(f"row {row.name}: {error}") from error


def rows_of(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row for each network name.

    Raises:
        UsageError: a network is unknown; the nearest name is offered.
    """
    for name in names:
        NETWORKS.find(name)
    return [{"name": name, "settings": {"network.name": name}} for name in names]


def load_comparison(file: Path | None = None, **changes: Any) -> Comparison:
    """Read a YAML file of rows, or start with none, and put `changes` that are not None on top.

    A budget among the changes replaces the file's.

    Raises:
        UsageError: the file cannot be read, or what it says does not fit together.
    """
    values: dict[str, Any] = {} if file is None else read_yaml(file, "the comparison", "rows and a budget")
    given = {key: value for key, value in changes.items() if value is not None}
    if given.keys() & {"minutes_each", "steps_each"}:
        values = {key: value for key, value in values.items() if key not in ("minutes_each", "steps_each")}
    settings = values.get("settings") or {}
    values |= given | {"settings": settings | given.get("settings", {})}
    try:
        return Comparison.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        text = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{f'{file}: ' if file else ''}{f'{where}: ' if where else ''}{text}") from error
