"""The picture and the tables of a comparison: rows at their own cost, numbers legible, names as they are."""

from itertools import combinations

import pytest
from matplotlib.text import Text

from fullscale.compare.figure import comparison_figure
from fullscale.compare.results import Line, Results, Score
from fullscale.compare.tables import latex, markdown
from fullscale.reporting.figures import figure_png


def results(*rows: tuple[str, float, float]) -> Results:
    lines = [
        Line(
            *(name, (32, 32), 9, int(cost * 1e9), None, [1]),
            dice={"mean": Score(mean, (mean - 0.02, mean + 0.02), 4)},
            nsd={},
            hd95_mm={},
            by_case={str(k): mean + 0.01 * k for k in range(4)},
            against_reference=None,
            failures={},
        )
        for name, cost, mean in rows
    ]
    return Results(r"Liver $\nosuch$ [a]", rows[0][0], "2 steps each", 1, lines)


@pytest.mark.parametrize("costs", [(5, 5, 5, 5), (5, 5.05, 7, 70)], ids=["equal", "near and far"])
def test_rows_stand_at_their_own_cost_and_their_numbers_apart(costs: tuple[float, ...]) -> None:
    means = (0.8, 0.8, 0.801, 0.7)
    figure = comparison_figure(results(*((f"a [{k}]", cost, means[k]) for k, cost in enumerate(costs))))
    left, right = figure.axes
    assert [float(line.get_xdata()[0]) for line in right.lines] == pytest.approx(costs)
    assert [float(line.get_ydata()[0]) for line in right.lines] == pytest.approx(means)
    assert figure_png(figure)  # what stands between dollar signs in a name is no formula
    figure.draw_without_rendering()
    places = [Text.get_window_extent(text) for text in right.texts]  # without the line that leads to the point
    assert len(places) == 4
    assert not any(one.overlaps(other) for one, other in combinations(places, 2))
    assert next(label.get_text() for label in left.get_yticklabels()) == "a [0]  1"


def test_names_are_no_markup_in_the_tables() -> None:
    found = results(("[1] a|b _x_", 5, 0.8), ("second", 5, 0.7))
    row = markdown(found).splitlines()[2]
    assert row.startswith(r"| \[1\] a\|b \_x\_ |")
    assert "\n{[}1] a|b" in latex(found)
