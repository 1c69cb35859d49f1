import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from fullscale.reporting.charts import Point, line_chart, scatter_chart, strip_chart


def dots(svg: str) -> dict[str, tuple[float, float]]:
    root = ET.fromstring(svg)
    return {c.findtext("title") or "": (float(c.get("cx", 0)), float(c.get("cy", 0))) for c in root.iter("circle")}


def ticks(svg: str) -> list[float]:
    words = [text.text or "" for text in ET.fromstring(svg).iter("text") if text.get("class") == "mid"]
    return [float(word) for word in words if re.fullmatch(r"[\d.e+-]+", word)]


def test_places_are_proportional_to_values() -> None:
    places = dots(scatter_chart({"a": [Point(v, v / 10, f"{v}") for v in (2, 4, 8)]}, "ml", "Dice"))
    x = [places[name][0] for name in ("2", "4", "8")]
    assert (x[2] - x[1]) / (x[1] - x[0]) == pytest.approx(2, abs=0.01)
    y = [places[name][1] for name in ("2", "4", "8")]
    assert (y[2] - y[1]) / (y[1] - y[0]) == pytest.approx(2, abs=0.02)
    assert y[2] < y[0]


def test_volumes_over_decades_stand_by_their_logarithm() -> None:
    places = dots(scatter_chart({"a": [Point(v, 0.5, f"{v}") for v in (1, 10, 1000)]}, "ml", "Dice"))
    x = [places[name][0] for name in ("1", "10", "1000")]
    assert (x[2] - x[1]) / (x[1] - x[0]) == pytest.approx(2, abs=0.01)


def test_equal_values_do_not_hide_each_other() -> None:
    places = dots(strip_chart({"a": [Point(0.5, 0, f"{k}") for k in range(5)]}, "Dice"))
    assert len(set(places.values())) == 5


@pytest.mark.parametrize(
    "points", [[], [Point(0, 0, "x")], [Point(3, 1, "x")], [Point(1, 0.5, "x"), Point(1, 0.5, "y")]]
)
def test_few_points_and_none_are_drawn(points: list[Point]) -> None:
    for svg in (
        strip_chart({"a": points}, "x"),
        scatter_chart({"a": points}, "x", "y"),
        line_chart({"a": points}, "x", "y"),
        strip_chart({}, "x"),
        scatter_chart({}, "x", "y"),
        line_chart({}, "x", "y"),
    ):
        assert "nan" not in svg
        assert ET.fromstring(svg).tag == "svg"


def test_ticks_are_round_and_inside() -> None:
    rng = np.random.default_rng(0)
    for high in 10 ** rng.uniform(-3, 4, 50):
        marks = ticks(line_chart({"a": [Point(0, 0, ""), Point(high, 1, "")]}, "x", "y"))
        assert 2 <= len(marks) <= 7
        assert all(0 <= mark <= high * 1.000001 for mark in marks)
