"""Which mirrors a set of structures allows: none that would turn one of them into another, such as left into right.

Axes are counted from the last, so that slices `[H, W]` and patches `[D, H, W]` name them alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

LEFT_RIGHT, FRONT_BACK, FEET_HEAD = -1, -2, -3
"""The axes of what a network sees, from the last."""

_SIDES = {
    LEFT_RIGHT: ("left", "right", "l", "r", "lt", "rt", "lh", "rh", "sinister", "dexter"),
    FRONT_BACK: ("anterior", "posterior", "ant", "post", "front", "back", "ventral", "dorsal"),
    FEET_HEAD: ("superior", "inferior", "sup", "inf", "upper", "lower", "cranial", "caudal"),
}
_JOINED = re.compile(r"^(left|right)|(left|right)$")
"""Sides that are written as one word with what they are of: "leftkidney"."""
_BETWEEN = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z])(?=[A-Z])")


def mirror_axes(structures: Iterable[str], spatial_dims: int) -> tuple[int, ...]:
    """Return the axes along which a scan can be mirrored and its labels stay true.

    An axis is left out as soon as one structure's name has a side along it: "kidney_left", "kidneyL", "Anterior". One
    is enough: mirrored, what lies on the other side would be shown under its name. Where a word is in doubt it counts
    as a side; that costs a mirror and no mask.

    Args:
        structures: their names.
        spatial_dims: 2 for slices `[H, W]`, 3 for patches `[D, H, W]`.
    """
    words = {word for name in structures for word in _words(name)}
    sided = {axis for axis, sides in _SIDES.items() if words & set(sides)}
    return tuple(axis for axis in range(-1, -spatial_dims - 1, -1) if axis not in sided)


def _words(name: str) -> set[str]:
    words = {word.lower() for word in _BETWEEN.split(name) if word}
    joined = {match.group(1) or match.group(2) for word in words if (match := _JOINED.search(word))}
    return words | joined
