"""What is seen of a network is what it is built of, at other widths, depths and strides too."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fullscale.paper.full_scale import aggregation_of
from fullscale.paper.graph import build_graph


@given(st.integers(1, 9), st.integers(1, 9), st.integers(2, 4))
@settings(deadline=None, max_examples=5)
def test_every_level_of_unet3plus_takes_a_map_of_every_level(width, skip, levels):
    graph = build_graph("unet3+", 3, 1, width=width, skip_channels=skip, levels=levels)
    channels = {name: node.channels for name, node in graph.nodes.items()}
    encoder = {f"En{level + 1}": width * 2**level for level in range(levels)}
    assert channels == encoder | {f"De{level}": levels * skip for level in range(1, levels)}
    for own in range(1, levels):
        edges = graph.into(f"De{own}")
        sources = [f"En{k}" if k <= own or k == levels else f"De{k}" for k in range(1, levels + 1)]
        assert [edge.source for edge in edges] == sources
        assert [edge.direction for edge in edges] == ["down"] * (own - 1) + ["same"] + ["up"] * (levels - own)
        assert [edge.factor[0] for edge in edges] == [2 ** abs(k - own) for k in range(1, levels + 1)]
        assert {edge.out_channels for edge in edges} == {skip}
    assert set(graph.heads) == {*(f"De{level}" for level in range(1, levels)), f"En{levels}"}
    assert graph.guided == f"En{levels}"


def test_unet_takes_one_skip_a_level_and_unetplusplus_all_earlier_nodes():
    plain, nested = (build_graph(name, 3, 2, width=4, levels=4) for name in ("unet", "unet++"))
    assert [edge.source for edge in plain.into("De1")] == ["De2", "En1"]
    assert [edge.source for edge in nested.into("De1")] == ["De2", "En1", "Me1,1", "Me1,2"]
    assert [edge.source for edge in nested.into("Me1,2")] == ["Me2,1", "En1", "Me1,1"]
    assert sum(node.kind == "nested" for node in nested.nodes.values()) == 3
    assert (len(plain.heads["De1"]), sum(map(len, nested.heads.values()))) == (1, 3)
    assert all(head.out_channels == 2 for heads in nested.heads.values() for head in heads)


def test_in_3d_steps_are_those_of_the_strides():
    graph = build_graph("unet3+", 1, 1, spatial_dims=3, width=2, levels=3, strides=[[1, 2, 2], [2, 2, 2]])
    assert [node.stride for node in graph.nodes.values()][:3] == [(1, 1, 1), (1, 2, 2), (2, 4, 4)]
    assert graph.into("De1")[-1].factor == (2, 4, 4)


@pytest.mark.parametrize("fusion", ["paper", "reduce", "refine", "sum"])
def test_a_level_is_described_by_its_own_modules(fusion):
    graph = build_graph("unet3+", 1, 1, width=4, skip_channels=3, levels=4, fusion=fusion)
    made = aggregation_of(graph)
    first, *_ = made.branches
    assert (made.level, len(made.branches)) == (3, 4)
    assert made.joined == ("added" if fusion == "sum" else "joined")
    lean = fusion in ("reduce", "refine")
    kernel = "1×1" if lean else "3×3"
    assert first.steps[0] == ("max-pooling", "4×4")
    assert first.steps[1][0].startswith(f"{kernel} conv")
    up = [branch.steps for branch in made.branches if branch.edge.direction == "up"]
    assert all((steps[-1][0] == "up, bilinear") == lean for steps in up)
    assert made.channels == {"paper": 12, "reduce": 12, "refine": 3 * 3 + 16, "sum": 16}[fusion]
    assert len(made.fuse) == (3 if fusion == "refine" else 2)
