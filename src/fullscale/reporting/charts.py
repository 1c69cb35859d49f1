"""Charts as SVG that takes its colours from the page around it, so that light, dark and paper all fit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple

WIDTH = 520
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 40
_ROW = 46


class Point(NamedTuple):
    """A mark in a chart.

    Attributes:
        x: along the lower edge.
        y: along the left edge.
        text: shown where the pointer rests on it.
    """

    x: float
    y: float
    text: str


class _Axis(NamedTuple):
    """A scale from values to pixels, linear or by the logarithm; of counts, only whole numbers are marked."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    whole: bool = False

    def at(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return round(self.start + (value - low) / ((high - low) or 1) * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            marks = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
        else:
            step = max(_nice_step((self.high - self.low) / 5), 1 if self.whole else 0)
            marks = [
                k * step for k in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)
            ]
        return [mark for mark in marks if self.low * (1 - 1e-9) <= mark <= self.high * (1 + 1e-9)]


def colour_of(number: int) -> str:
    """The class that the page gives the colour of a structure, by its place among all of them."""
    return f"c{number % 8}"


def strip_chart(groups: Mapping[str, Sequence[Point]], x_label: str) -> str:
    """Draw values from 0 to 1 of several groups, a row each; points of near values are set apart, `y` is not used."""
    bottom = _TOP + _ROW * max(1, len(groups))
    x = _Axis(0, 1, _LEFT + 56, WIDTH - _RIGHT)
    parts = _grid_x(x, _TOP, bottom, x_label)
    for row, (name, points) in enumerate(groups.items()):
        middle = _TOP + _ROW * (row + 0.5)
        parts.append(f'<text class="end" x="{x.start - 10}" y="{middle + 4}">{escape(_short(name, 14))}</text>')
        piled: dict[int, int] = {}
        for point in sorted(points):
            column = round(point.x * 70)
            level = piled[column] = piled.get(column, 0) + 1
            offset = (level // 2) * (1 if level % 2 else -1)
            parts.append(_dot(x.at(point.x), middle + max(-18, min(18, 4 * offset)), colour_of(row), point.text))
    return _svg(parts, bottom + _BOTTOM, x_label)


def scatter_chart(groups: Mapping[str, Sequence[Point]], x_label: str, y_label: str) -> str:
    """Draw points of several groups, `y` from 0 to 1; the lower edge is logarithmic where `x` spans a decade."""
    values = [point.x for points in groups.values() for point in points if point.x > 0] or [1.0]
    low, high = min(values), max(values)
    log = high >= 10 * low
    margin = 1.12 if log else 1.04
    x = _Axis(low / margin if log else 0.0, high * margin, _LEFT, WIDTH - _RIGHT, log)
    y = _Axis(0, 1, 260, _TOP)
    parts = _grid_x(x, _TOP, y.start, x_label) + _grid_y(y, x, y_label)
    for row, points in enumerate(groups.values()):
        parts += [_dot(x.at(p.x), y.at(p.y), colour_of(row), p.text) for p in points if p.x > 0]
    return _svg(parts, y.start + _BOTTOM, f"{y_label} against {x_label}")


def line_chart(
    lines: Mapping[str, Sequence[Point]],
    x_label: str,
    y_label: str,
    to_one: bool = False,
    colours: Sequence[str] | None = None,
) -> str:
    """Draw curves; over whole numbers, such as epochs, only those are marked.

    With `to_one` the left edge runs from 0 to 1, else from 0 or below to the largest value.

    Args:
        lines: points of each curve, by its name.
        x_label: what the lower edge measures.
        y_label: what the left edge measures.
        to_one: whether values lie between 0 and 1.
        colours: class of each curve, such as "c0" or "ink"; default in their order.
    """
    points = [point for line in lines.values() for point in line] or [Point(0, 0, "")]
    whole = all(float(point.x).is_integer() for point in points)
    x = _Axis(min(p.x for p in points), max(p.x for p in points) or 1, _LEFT, WIDTH - _RIGHT, whole=whole)
    top = 1.0 if to_one else max(p.y for p in points) * 1.05 or 1.0
    y = _Axis(min(0.0, *(p.y for p in points)), top, 230, _TOP)
    parts = _grid_x(x, _TOP, y.start, x_label) + _grid_y(y, x, y_label)
    for colour, line in zip(colours or [colour_of(k) for k in range(len(lines))], lines.values(), strict=True):
        path = " ".join(f"{x.at(p.x)},{y.at(p.y)}" for p in line)
        parts.append(f'<polyline class="line {colour}" points="{path}"/>')
        parts += [_dot(x.at(p.x), y.at(p.y), colour, p.text) for p in line if len(line) < 40]
    return _svg(parts, y.start + _BOTTOM, f"{y_label} by {x_label}")


def _grid_x(axis: _Axis, top: float, bottom: float, label: str) -> list[str]:
    parts = [f'<line class="axis" x1="{axis.start}" y1="{bottom}" x2="{axis.end}" y2="{bottom}"/>']
    for tick in axis.ticks():
        at = axis.at(tick)
        parts.append(f'<line class="grid" x1="{at}" y1="{top}" x2="{at}" y2="{bottom}"/>')
        parts.append(f'<text class="mid" x="{at}" y="{bottom + 16}">{tick:g}</text>')
    parts.append(f'<text class="mid" x="{(axis.start + axis.end) / 2}" y="{bottom + 34}">{escape(label)}</text>')
    return parts


def _grid_y(axis: _Axis, across: _Axis, label: str) -> list[str]:
    parts = []
    for tick in axis.ticks():
        at = axis.at(tick)
        parts.append(f'<line class="grid" x1="{across.start}" y1="{at}" x2="{across.end}" y2="{at}"/>')
        parts.append(f'<text class="end" x="{across.start - 6}" y="{at + 4}">{tick:g}</text>')
    middle = (axis.start + axis.end) / 2
    parts.append(f'<text class="mid" transform="translate(13 {middle}) rotate(-90)">{escape(label)}</text>')
    return parts


def _dot(x: float, y: float, colour: str, text: str) -> str:
    return f'<circle class="dot {colour}" cx="{x}" cy="{y:g}" r="4"><title>{escape(text)}</title></circle>'


def _svg(parts: Iterable[str], height: float, what: str) -> str:
    inside = "".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(what)}">{inside}</svg>'


def _nice_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 0.1
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
