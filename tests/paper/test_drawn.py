"""The figures hold what the networks hold, and no word lies on another."""

from itertools import combinations
from typing import Any

import pytest

from fullscale.paper.architectures import architectures_figure
from fullscale.paper.content import NETWORKS_DRAWN
from fullscale.paper.full_scale import aggregation_figure
from fullscale.paper.graph import Graph, build_graph
from fullscale.paper.guided import guidance_figure


def graphs(**options: Any) -> dict[str, Graph]:
    return {title: build_graph(name, 3, 1, **options) for title, name in NETWORKS_DRAWN.items()}


def words(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def boxes(figure: Any, kind: str) -> list[Any]:
    return [patch for patch in figure.axes[0].patches if type(patch).__name__ == kind]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="paper"),
        pytest.param({"width": 7, "levels": 6}, id="deep", marks=pytest.mark.long),
        pytest.param(
            {"width": 5, "levels": 3, "spatial_dims": 3, "strides": [[1, 2, 2], [2, 2, 2]]},
            id="volume",
            marks=pytest.mark.long,
        ),
    ],
)
def test_words_do_not_overlap_and_stay_on_the_sheet(options):
    drawn = graphs(**options)
    full = drawn["UNet 3+"]
    for figure in (architectures_figure(drawn), aggregation_figure(full), guidance_figure(full)):
        figure.draw_without_rendering()
        texts = [*figure.axes[0].texts, *(text for legend in figure.legends for text in legend.get_texts())]
        places = [(text.get_text(), text.get_window_extent()) for text in texts]
        width, height = figure.get_size_inches() * figure.dpi
        for word, place in places:
            assert place.x0 >= 0, word
            assert place.y0 >= 0, word
            assert place.x1 <= width, word
            assert place.y1 <= height, word
        for (one, here), (other, there) in combinations(places, 2):
            assert not here.overlaps(there), (one, other)


def test_words_stay_within_their_boxes():
    full = graphs()["UNet 3+"]
    for figure in (aggregation_figure(full), guidance_figure(full)):
        figure.draw_without_rendering()
        frames = [box.get_window_extent() for box in boxes(figure, "FancyBboxPatch")]
        for text in figure.axes[0].texts:
            place = text.get_window_extent()
            inside = [f for f in frames if f.x0 < (place.x0 + place.x1) / 2 < f.x1 and f.y0 < place.y0 < f.y1]
            assert all(f.x0 <= place.x0 and place.x1 <= f.x1 for f in inside), text.get_text()


def test_every_map_is_a_box_and_every_way_an_arrow():
    drawn = graphs(width=3, levels=4)
    figure = architectures_figure(drawn)
    assert len(boxes(figure, "FancyBboxPatch")) == sum(len(graph.nodes) for graph in drawn.values())
    assert len(boxes(figure, "FancyArrowPatch")) == sum(len(graph.edges) for graph in drawn.values())
    channels = [str(node.channels) for graph in drawn.values() for node in graph.nodes.values()]
    shown = words(figure)
    assert all(shown.count(number) >= channels.count(number) for number in channels)


def test_without_guidance_there_is_no_third_figure():
    full = build_graph("unet3+", 3, 1, width=2, levels=3, classification_guided=False)
    assert guidance_figure(full) is None


def test_guidance_gates_all_outputs_where_it_gates_while_training():
    one, every = (
        guidance_figure(build_graph("unet3+", 3, 4, width=2, levels=3, gate_in_training=gates)) for gates in (0, 1)
    )
    assert words(one).count("gate, not in training") == 1
    assert words(every).count("gate") == 3
    assert "for each of 3 structures" in words(one)
