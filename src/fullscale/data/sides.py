"""Which mirrors a set of structures allows: none that would turn one of them into another, such as left into right."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fullscale.data.recipe import MIRRORS, Mirror, View

_SIDES: dict[Mirror, tuple[str, ...]] = {
    "left-right": ("left", "right", "l", "r", "lt", "rt", "lh", "rh", "sinister", "dexter"),
    "front-back": ("anterior", "posterior", "ant", "post", "front", "back", "ventral", "dorsal"),
    "head-foot": ("superior", "inferior", "sup", "inf", "upper", "lower", "cranial", "caudal"),
}
_JOINED = re.compile(r"^(left|right)|(left|right)$")
"""Sides that are written as one word with what they are of: "leftkidney"."""
_BETWEEN = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z])(?=[A-Z])")


def safe_mirrors(structures: Iterable[str], view: View) -> tuple[Mirror, ...]:
    """Return the mirrors of a scan that leave its labels true.

    A mirror is left out as soon as one structure's name has a side along it: "kidney_left", "kidneyL", "Anterior". One
    is enough: mirrored, what lies on the other side would be shown under its name. Where a word is in doubt it counts
    as a side; that costs a mirror and no mask.

    Args:
        structures: their names.
        view: slices have no mirror from head to foot.
    """
    words = {word for name in structures for word in _words(name)}
    possible = [mirror for mirror in MIRRORS if view == "patches" or mirror != "head-foot"]
    return tuple(mirror for mirror in possible if words.isdisjoint(_SIDES[mirror]))


def _words(name: str) -> set[str]:
    words = {word.lower() for word in _BETWEEN.split(name) if word}
    joined = {match.group(1) or match.group(2) for word in words if (match := _JOINED.search(word))}
    return words | joined
