"""How a run's settings are read: defaults, then a YAML file, then `key.sub=value`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fullscale.config.schema import Config, Section
from fullscale.errors import UsageError
from fullscale.text import nearest


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
