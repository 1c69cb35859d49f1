"""Text, JSON and YAML as they are read: what is wrong with a file is one line that names it and its fault.

JSON is read strictly: no NaN, no infinity, no key twice, no half of a character. What a reader takes in silence, such
as the second of two equal keys, is refused here, so that no reader of records need think of it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from fullscale.errors import DataError
from fullscale.text import one_line

Model = TypeVar("Model", bound=BaseModel)
Value = TypeVar("Value")

SHOWN = 80
"""Characters of a wrong value that a message shows."""
MOST_VALUES = 1_000_000
"""Values that a YAML file may stand for."""


def digest_of(content: Any, size: int = 16) -> str:
    """Return a digest of so many bytes of plain values, as JSON has them, in the order in which they stand."""
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=size).hexdigest()


def read_text(path: Path, what: str = "") -> str:
    """Read text in UTF-8, with or without a byte order mark; `what` the file is goes into the message.

    Raises:
        DataError: it is not there, cannot be read, or is no such text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read {what}{' ' if what else ''}{path}: {one_line(error)}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not text in UTF-8 (byte {error.start}: {error.reason})") from error


def read_json(path: Path, what: str = "") -> Any:
    """Read a JSON file strictly; `what` it is goes into the message.

    Raises:
        DataError: it cannot be read, or is not JSON.
    """
    return _parsed(path, read_text(path, what), parse_json, "JSON")


def parse_json(text: str) -> Any:
    """Parse JSON strictly.

    Raises:
        ValueError: it is none, holds NaN, an infinite number or half of a surrogate pair, or has a key twice.
        RecursionError: it is nested too deep.
    """
    content = json.loads(
        text, object_pairs_hook=_without_twins, parse_constant=_no_number, parse_float=_finite, parse_int=_whole
    )
    json.dumps(content, ensure_ascii=False).encode()  # half of a surrogate pair is JSON, but no text
    return content


def read_yaml(path: Path, what: str = "") -> Any:
    """Read a YAML file without executing anything in it; `what` it is goes into the message.

    Raises:
        DataError: it cannot be read, is not YAML, or has a key twice.
    """
    return _parsed(path, read_text(path, what), _parse_yaml, "YAML")


def read_model(path: Path, kind: type[Model], what: str = "") -> Model:
    """Read a JSON file that holds the fields of a model; `what` it is goes into the message.

    Raises:
        DataError: it cannot be read, or a value is not what it must be; the first is named.
    """
    return validated(kind, read_json(path, what), str(path))


def validated(kind: type[Model], content: Any, source: str) -> Model:
    """Hold plain values against a model; `source` says in the message where they are from.

    Raises:
        DataError: one is not what it must be; the first is named.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise DataError(f"{source}: {first_fault(error)}") from error


def first_fault(error: ValidationError) -> str:
    """Say in one line where the first wrong value is, what is wrong with it, and what it is."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "its text"
    text = " ".join(first["msg"].removeprefix("Value error, ").split())
    return f"{where[:SHOWN]}: {text} (it holds {first['input']!r:.{SHOWN}})"


class _Loader(yaml.SafeLoader):
    """Plain values alone, and no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Make a mapping, unless one of its own keys stands in it twice; merged ones (`<<`) may be overridden."""
        own = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        _require_once([self.construct_object(key, deep=True) for key in own])
        return super().construct_mapping(node, deep)


def _parse_yaml(text: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        _require_size(node, {})
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _require_size(node: yaml.Node | None, known: dict[int, int]) -> int:
    """Count the values that a node stands for, those behind its aliases each time; a few lines can stand for billions.

    Raises:
        ValueError: they are too many, or an alias stands within what it names.
    """
    place = id(node)
    if place not in known:
        known[place] = MOST_VALUES  # until it is counted: who meets it meanwhile stands within it
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        listed = [part for pair in parts for part in pair] if isinstance(node, yaml.MappingNode) else parts
        known[place] = 1 + sum(_require_size(part, known) for part in listed)
    if known[place] >= MOST_VALUES:
        raise ValueError("its aliases stand for too many values, or for themselves")
    return known[place]


def _parsed(path: Path, text: str, parse: Callable[[str], Value], kind: str) -> Value:
    try:
        return parse(text)
    except RecursionError as error:
        raise DataError(f"{path}: is not {kind} that can be read (it is nested too deep)") from error
    except (ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: is not {kind} ({' '.join(str(error).split())[:200]})") from error


def _without_twins(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    _require_once([key for key, _ in pairs])
    return dict(pairs)


def _require_once(keys: Sequence[Any]) -> None:
    """Refuse a key that stands twice in one object; keys that are no plain values are left to the parser."""
    counts = Counter(key for key in keys if isinstance(key, Hashable))
    twice = [key for key, count in counts.items() if count > 1]
    if twice:
        raise ValueError(f"the key {twice[0]!r:.{SHOWN}} stands twice in one object")


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number in JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:SHOWN]} is too large")
    return number


def _whole(text: str) -> int:
    number = int(text)
    if abs(number) >= 2**63:  # beyond what arrays and other libraries take
        raise ValueError(f"the number {text[:SHOWN]} is too large")
    return number
