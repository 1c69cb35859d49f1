"""What the plan chooses for single images."""

import numpy as np
import pytest

from fullscale.data.image_plan import ImageFacts, image_mirrors, mean_thickness, plan_images, shrinking
from fullscale.data.recipe import Intensity, Recipe, slice_geometry
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume


@pytest.mark.parametrize("width", [2, 5, 9])
def test_a_line_is_as_thick_as_it_is_wide_and_a_disc_as_its_radius(width: int):
    rows, columns = np.mgrid[:200, :200]
    slanted = np.abs(rows - 0.6 * columns - 40) * np.cos(np.arctan(0.6)) < width / 2
    assert mean_thickness(slanted.astype(np.uint8)) == pytest.approx(width, rel=0.15)
    rows, columns = np.mgrid[:600, :600]
    disc = (rows - 300) ** 2 + (columns - 300) ** 2 < (10 * width) ** 2
    assert mean_thickness(disc.astype(np.uint8)) == pytest.approx(10 * width, rel=0.05)


def test_background_between_structures_counts_and_a_mask_of_one_class_has_no_thickness():
    cells = np.ones((120, 120), np.uint8)
    cells[:, ::20] = 0  # membranes one pixel wide, which upright borders do not make longer
    assert mean_thickness(cells) == pytest.approx(4 / np.pi, rel=0.1)
    assert mean_thickness(np.zeros((9, 9), np.uint8)) is None


@pytest.mark.parametrize(
    ("side", "thickness", "factor"), [(150, 3, 1), (584, 3, 1), (576, 100, 3), (576, 16, 2), (4000, 1000, 20.8333)]
)
def test_images_are_shrunk_for_a_cpu_as_far_as_their_thinnest_parts_allow(side: float, thickness: float, factor: float):
    assert shrinking(side, [thickness], on_cpu=True).factor == factor
    assert shrinking(side, [thickness], on_cpu=False).factor <= factor


def test_what_is_chosen_for_images_in_pixels_and_in_mm():
    found = plan_images([ImageFacts((500, 600), (1.0, 1.0), "px", 3.0)] * 3, ["vessel"], on_cpu=True)
    assert {name: value for name, (value, _) in found.choices.items()} == {
        "unit": "px",
        "spacing_mm": 1.0,
        "neighbours": 0,
        "augment": {"flip": 0.5, "mirrors": ["left-right", "front-back"]},
    }
    known = ImageFacts((500, 600), (0.002, 0.002), "mm2", 100.0)
    chosen = plan_images([known] * 3, ["cell"], on_cpu=True).choices
    assert (chosen["unit"][0], chosen["spacing_mm"][0]) == ("mm2", 0.00625)  # 600 / 192 pixels become one
    mixed = plan_images([known, known._replace(unit="px", spacing=(1, 1))], ["cell"], on_cpu=True)
    assert (mixed.choices["unit"][0], mixed.pixel) == ("px", 1.0)
    assert "1 of 2 images do not state" in mixed.choices["unit"][1]


def test_mirrors_of_images():
    assert image_mirrors(["left lung"], {"px"})[0] == ("front-back",)
    assert image_mirrors(["lung"], {"mm"})[0] == ()
    assert image_mirrors(["left lung", "upper lobe of the front"], {"px"})[0] == ()


def test_a_model_in_mm_refuses_pixels_and_one_in_pixels_takes_any_image():
    recipe = Recipe(intensity=Intensity(per="scan"), spacing_mm=0.5, neighbours=0)
    image = Volume(np.zeros((40, 30, 1)), np.eye(4), unit="px")
    with pytest.raises(DataError, match="nothing says how large its pixels are"):
        slice_geometry(image, recipe)
    fine = Volume(image.array, np.diag([0.01, 0.01, 1, 1]), unit="mm2")
    in_pixels = recipe.model_copy(update={"unit": "px", "spacing_mm": 2.0})
    assert (
        slice_geometry(fine, in_pixels).network_shape == slice_geometry(image, in_pixels).network_shape == (1, 15, 20)
    )
