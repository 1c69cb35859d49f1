"""Which mirrors leave the labels true."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullscale.data.sides import safe_mirrors

ALL = (LEFT_RIGHT, FRONT_BACK, HEAD_FOOT) = ("left-right", "front-back", "head-foot")


@pytest.mark.parametrize(
    ("structures", "mirrors"),
    [
        (["liver", "tumour"], ALL),
        ([], ALL),
        (["kidney_left", "kidney_right"], (FRONT_BACK, HEAD_FOOT)),
        (["kidney_l", "kidney_r"], (FRONT_BACK, HEAD_FOOT)),
        (["Left kidney"], (FRONT_BACK, HEAD_FOOT)),
        (["kidneyL", "kidneyR"], (FRONT_BACK, HEAD_FOOT)),
        (["L", "R"], (FRONT_BACK, HEAD_FOOT)),
        (["Kidney (R)"], (FRONT_BACK, HEAD_FOOT)),
        (["leftkidney"], (FRONT_BACK, HEAD_FOOT)),
        (["ctx-lh-cuneus"], (FRONT_BACK, HEAD_FOOT)),
        (["Anterior", "Posterior"], (LEFT_RIGHT, HEAD_FOOT)),
        (["lung_upper_lobe_left"], (FRONT_BACK,)),
        (["vena cava inferior"], (LEFT_RIGHT, FRONT_BACK)),
        (["vertebrae_L1", "vertebrae_T12"], ALL),
        (["liver", "gallbladder", "spleen", "colon", "leaflet", "bronchi", "femur"], ALL),
    ],
)
def test_a_mirror_along_which_a_name_has_a_side_is_left_out(structures: list[str], mirrors: tuple[str, ...]) -> None:
    assert safe_mirrors(structures, "patches") == mirrors


def test_slices_have_two_mirrors() -> None:
    assert safe_mirrors(["liver"], "slices") == (LEFT_RIGHT, FRONT_BACK)
    assert safe_mirrors(["kidney_left"], "slices") == (FRONT_BACK,)


@given(st.lists(st.text(max_size=12), max_size=4), st.text(max_size=12))
def test_another_structure_never_allows_a_mirror(structures: list[str], another: str) -> None:
    assert set(safe_mirrors([*structures, another], "patches")) <= set(safe_mirrors(structures, "patches"))
