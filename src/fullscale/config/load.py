"""How a run's settings are read: defaults, then a YAML file, then `key.sub=value`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fullscale import documents
from fullscale.config.schema import Choice, Config
from fullscale.errors import DataError, UsageError
from fullscale.text import nearest

CHOICES = {name: type(f.default) for name, f in Config.model_fields.items() if isinstance(f.default, Choice)}
"""Sections that choose something by name, and give it options."""

_HEAD = "# Written by fullscale. The last line is three dots: what lacks it is cut off."
"""First line of every configuration that is written: half of one is YAML too, in which settings are missing."""

RENAMED = {"data.organ_share": "data.foreground_fraction"}
"""Settings of 0.1, and what they are called now."""


def load_config(path: Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration: defaults, then the YAML file, then each `key.sub=value`.

    Raises:
        UsageError: the file cannot be read, a key is unknown (the nearest known one is named), or a value is wrong.
    """
    values = {} if path is None else read_yaml(path, "the configuration", "a mapping of settings")
    try:
        values = _gather_options(_renew(values))
        _validate(values)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
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


def flatten(config: Config) -> dict[str, Any]:
    """Return every setting by its dotted key; an option stands beside the fields of its section."""
    flat = {}
    for section, fields in config.model_dump(mode="json").items():
        for name, value in (fields | fields.pop("options", {})).items():
            flat[f"{section}.{name}"] = value
    return flat


def flat_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of which some are mappings, as `network: {width: 8}`, each by its own dotted key.

    Raises:
        ValueError: a setting is given twice, in which there is no order.
    """
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        path = key.split(".")
        inside = isinstance(value, dict) and _holds_settings(path)
        parts = flat_settings({f"{key}.{name}": v for name, v in value.items()}) if inside else {_short(path): value}
        for single, one in parts.items():
            if single in flat:
                raise ValueError(f"{single} is given twice, the second time by {key}: leave one out")
            flat[single] = one
    return flat


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
        if key in RENAMED:
            raise UsageError(f"the setting {key!r} is called {RENAMED[key]!r} now") from error
        if first["type"] == "extra_forbidden":
            raise UsageError(f"unknown setting {key!r}{nearest(key, [k for k, _ in settings()])}") from error
        where = f"{key}={first['input']!r}: " if key else ""
        raise UsageError(f"{where}{first['msg'].removeprefix('Value error, ')}") from error


def settings() -> Iterator[tuple[str, str]]:
    """Yield the dotted key of every setting with its line of help, without the options of what is chosen by name."""
    for section, field in Config.model_fields.items():
        for name, sub in type(field.default).model_fields.items():
            if name != "options":
                yield f"{section}.{name}", sub.description or ""


def dump_yaml(config: Config) -> str:
    """Write a configuration as YAML that `load_config` reads back to the same values, and of which no part is whole."""
    return f"{_HEAD}\n{yaml.safe_dump(config.model_dump(mode='json'), sort_keys=False, explicit_end=True)}"


def read_yaml(path: Path, what: str, holding: str) -> dict[str, Any]:
    """Read a YAML mapping; `what` the file is and what it must be `holding` go into the error.

    Raises:
        UsageError: it cannot be read, or holds something else.
    """
    try:
        values = documents.read_yaml(path, what)
        if (text := documents.read_text(path)).startswith(_HEAD) and not text.rstrip().endswith("\n..."):
            raise DataError(f"{path}: is cut off, its last line '...' is missing; write it again, or take another file")
    except DataError as error:
        raise UsageError(str(error)) from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} must hold {holding}, it holds {type(values).__name__}")
    return values


def _parse_value(text: str, override: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"the value in {override!r} cannot be read") from error
    # YAML 1.1 takes 1e-3 (without a point) for a string.
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _assign(values: dict[str, Any], key: str, value: Any) -> None:
    path = key.split(".")
    if len(path) > 1 and _is_option(*path[:2]):
        path.insert(1, "options")
    *sections, name = path
    if isinstance(value, dict) and _holds_settings(path):
        for inner, setting in value.items():  # what else the section has stays
            _assign(values, f"{'.'.join(path)}.{inner}", setting)
        return
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UsageError(f"{key!r} goes below {section!r}, which holds a value of its own")
    if value is None and sections[1:] == ["options"]:
        values.pop(name, None)  # null is automatic, as for every other setting
    else:
        values[name] = value


def _holds_settings(path: Sequence[str]) -> bool:
    """Tell a section, or the options of one, from a setting whose value is a mapping."""
    return path[0] in Config.model_fields and (len(path) == 1 or (path[0] in CHOICES and path[1:] == ["options"]))


def _short(path: Sequence[str]) -> str:
    """Return the dotted key of a setting; an option stands beside the fields of its section."""
    if len(path) == 3 and path[1] == "options" and _is_option(path[0], path[2]):
        return f"{path[0]}.{path[2]}"
    return ".".join(path)


def _is_option(section: str, name: str) -> bool:
    return section in CHOICES and name not in CHOICES[section].model_fields


def _gather_options(values: dict[str, Any]) -> dict[str, Any]:
    """Bring the options that a file has beside the fields of a section, as 0.1 wrote them, under `options`.

    Raises:
        UsageError: an option is given in both places.
    """
    for section, fields in values.items():
        if section not in CHOICES or not isinstance(fields, dict):
            continue
        beside = {name: fields.pop(name) for name in list(fields) if _is_option(section, name)}
        options = fields.setdefault("options", {}) if beside else {}
        if not isinstance(options, dict):
            continue
        for name, value in beside.items():
            if name in options:
                raise UsageError(f"{section}.{name} is given twice: beside the options and among them")
            if value is not None:
                options[name] = value
    return values


def _renew(values: dict[str, Any]) -> dict[str, Any]:
    """Bring a configuration that 0.1 wrote to today's names; it always holds `data.organ_share`."""
    data, optimizer = values.get("data"), values.get("optimizer")
    if not isinstance(data, dict) or "organ_share" not in data:
        return values
    data["foreground_fraction"] = data.pop("organ_share")
    if isinstance(optimizer, dict) and optimizer.get("name") == "adamw":
        optimizer.pop("momentum", None)  # of sgd; 0.1 wrote it for both
    return values
