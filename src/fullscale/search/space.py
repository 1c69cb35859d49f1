"""What is searched: for each setting its values, `8,16,32`, or a range, `1e-4..1e-2:log`."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fullscale.config.load import CHOICES, configure, parse_override
from fullscale.errors import UsageError
from fullscale.training.choices import check_choices
from fullscale.training.equal_cost import BUDGET, SHARED

DEFAULT = {
    "optimizer.learning_rate": "3e-4..3e-2:log",
    "loss.name": ["ce+dice", "hybrid"],
    "data.foreground_fraction": "0.33..1",
}
"""What is searched where nothing is said: what every network has, and what matters most for many."""

FIXED = (*BUDGET, *SHARED, "data.view", "trainer.device", "trainer.devices", "trainer.logger", "trainer.log_model")
"""Settings that all trials share: what they cost, what they learn on which cases, and where they run."""

_NUMBER = r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?::(log|{_NUMBER}))?")


@dataclass(frozen=True)
class Values:
    """A setting with several values.

    Attributes:
        key: of the setting.
        values: at least two.
    """

    key: str
    values: tuple[Any, ...]

    @property
    def labels(self) -> list[str]:
        """The values as text, by which trials name them: a value may be a list."""
        return [json.dumps(value) for value in self.values]

    @property
    def samples(self) -> tuple[Any, ...]:
        """Values that must be settings if all are."""
        return self.values


@dataclass(frozen=True)
class Range:
    """A setting from one number to another, both included.

    Attributes:
        key: of the setting.
        low: whole numbers, if all of them are, stay whole.
        high: likewise.
        log: whether every power of ten counts alike.
        step: between two values; None for any number between.
    """

    key: str
    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def samples(self) -> tuple[Any, ...]:
        """Values that must be settings if all are."""
        return self.low, self.high


Dimension = Values | Range


def parse_words(words: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take `key=value` apart: a setting of several values, or a range, is searched, any other holds for all trials.

    Returns:
        What is searched, and the settings.

    Raises:
        UsageError: a word is not of this form, or a key is given twice.
    """
    space: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for word in words:
        key, text = (part.strip() for part in word.partition("=")[::2])
        if key in space | settings:
            raise UsageError(f"{key} is given twice: leave one out")
        values = [] if _RANGE.fullmatch(text) or "," not in text else _several(text, word)
        if len(values) > 1 or _RANGE.fullmatch(text):
            space[key] = values or text
        else:
            settings[key] = parse_override(word)[1]
    return space, settings


def dimensions(space: Mapping[str, Any]) -> list[Dimension]:
    """Read what is searched, from texts and lists.

    Raises:
        UsageError: a setting has nothing to choose from.
    """
    return [_dimension(key, given) for key, given in space.items()]


def require_settings(found: Sequence[Dimension], settings: Iterable[tuple[str, Any]]) -> None:
    """Refuse what the configuration refuses: each value of a setting, under every name that is searched beside it.

    Raises:
        UsageError: a setting is unknown, or refuses a value; or trials that differ in it could not be compared.
    """
    base = list(settings)
    for dimension in found:
        if dimension.key in FIXED:
            raise UsageError(f"{dimension.key} must be the same for all trials: it cannot be searched")
    names = [d for d in found if isinstance(d, Values) and d.key in {f"{section}.name" for section in CHOICES}]
    others = [d for d in found if d not in names]
    for chosen in itertools.product(*(name.values for name in names)):
        named = list(zip((name.key for name in names), chosen, strict=True))
        for k in range(max((len(d.samples) for d in others), default=1)):
            _require([*base, *named, *((d.key, d.samples[k % len(d.samples)]) for d in others)], named)


def _require(settings: list[tuple[str, Any]], named: list[tuple[str, Any]]) -> None:
    try:
        check_choices(configure(settings))
    except UsageError as error:
        beside = " ".join(f"{key}={name}" for key, name in named if f"{key}={name!r}" not in str(error))
        raise UsageError(f"{error}{f' (with {beside})' if beside else ''}") from error


def _several(text: str, word: str) -> list[Any]:
    key, values = parse_override(f"{word.partition('=')[0]}=[{text}]")
    return [parse_override(f"{key}={v}")[1] if isinstance(v, str) else v for v in values]


def _dimension(key: str, given: Any) -> Dimension:
    if isinstance(given, list):
        return _values(key, given)
    match = _RANGE.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        raise UsageError(
            f"{key}: {given} is one value, which leaves nothing to search: give several, or it as a setting"
        )
    low, high = (_number(text) for text in match.groups()[:2])
    log = match[3] == "log"
    step = None if match[3] is None or log else _number(match[3])
    if not low < high or (log and low <= 0) or not math.isfinite(high):
        needs = "a positive number up to a larger one" if log else "a number up to a larger one"
        raise UsageError(f"{key}: the range {given} is none: expected {needs}")
    if step is not None and not 0 < step <= high - low:
        raise UsageError(f"{key}: the steps of {given} must be larger than 0 and fit between its ends")
    return Range(key, low, high, log, step)


def _values(key: str, given: list[Any]) -> Values:
    texts = [json.dumps(value) for value in given]
    twice = next((text for text in texts if texts.count(text) > 1), None)
    if twice is not None:
        raise UsageError(f"{key}: {twice} stands twice among the values: leave one out")
    if len(given) < 2:
        raise UsageError(f"{key}: one value leaves nothing to search: give several, or it as a setting")
    return Values(key, tuple(given))


def _number(text: str) -> float:
    return int(text) if text.lstrip("+-").isdecimal() else float(text)
