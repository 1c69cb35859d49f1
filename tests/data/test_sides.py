"""Which mirrors leave the labels true."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullscale.data.sides import FEET_HEAD, FRONT_BACK, LEFT_RIGHT, mirror_axes

ALL = (LEFT_RIGHT, FRONT_BACK, FEET_HEAD)


@pytest.mark.parametrize(
    ("structures", "axes"),
    [
        (["liver", "tumour"], ALL),
        ([], ALL),
        (["kidney_left", "kidney_right"], (FRONT_BACK, FEET_HEAD)),
        (["kidney_l", "kidney_r"], (FRONT_BACK, FEET_HEAD)),
        (["Left kidney"], (FRONT_BACK, FEET_HEAD)),
        (["kidneyL", "kidneyR"], (FRONT_BACK, FEET_HEAD)),
        (["L", "R"], (FRONT_BACK, FEET_HEAD)),
        (["Kidney (R)"], (FRONT_BACK, FEET_HEAD)),
        (["leftkidney"], (FRONT_BACK, FEET_HEAD)),
        (["ctx-lh-cuneus"], (FRONT_BACK, FEET_HEAD)),
        (["Anterior", "Posterior"], (LEFT_RIGHT, FEET_HEAD)),
        (["lung_upper_lobe_left"], (FRONT_BACK,)),
        (["vena cava inferior"], (LEFT_RIGHT, FRONT_BACK)),
        (["vertebrae_L1", "vertebrae_T12"], ALL),
        (["liver", "gallbladder", "spleen", "colon", "leaflet", "bronchi", "femur"], ALL),
    ],
)
def test_an_axis_along_which_a_name_has_a_side_is_left_out(structures: list[str], axes: tuple[int, ...]) -> None:
    assert mirror_axes(structures, 3) == axes


def test_slices_have_two_axes() -> None:
    assert mirror_axes(["liver"], 2) == (LEFT_RIGHT, FRONT_BACK)
    assert mirror_axes(["kidney_left"], 2) == (FRONT_BACK,)


@given(st.lists(st.text(max_size=12), max_size=4), st.text(max_size=12))
def test_another_structure_never_allows_a_mirror(structures: list[str], another: str) -> None:
    assert set(mirror_axes([*structures, another], 3)) <= set(mirror_axes(structures, 3))
