"""Masks in image files: what their grey values and colours mean."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from fullscale.data.case import Case
from fullscale.data.identity import DigestIndex, case_digest
from fullscale.data.mask_images import read_colours, read_mask_image
from fullscale.data.read import read_truth
from fullscale.errors import DataError, GeometryError

INSIDE = np.zeros((6, 9), bool)
INSIDE[2:4, 3:8] = True
WHITE = np.where(INSIDE, 255, 0).astype(np.uint8)


def save(path: Path, array: np.ndarray | Image.Image) -> Path:
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(path)
    return path


def values(path: Path, colours: dict[str, int] | None = None) -> np.ndarray:
    """A mask [H, W]."""
    return read_mask_image(path, colours=colours).array[..., 0].T


def palette(*colours: tuple[int, int, int], numbers: np.ndarray = INSIDE) -> Image.Image:
    image = Image.fromarray(numbers.astype(np.uint8))
    image.putpalette([part for colour in colours for part in colour])
    return image


@pytest.mark.parametrize(
    "mask",
    [
        WHITE,
        np.dstack([WHITE] * 3),
        Image.fromarray(INSIDE),
        WHITE.astype(np.uint16) * 257,
        palette((0, 0, 0), (255, 255, 255)),
        palette((255, 255, 255), (0, 0, 0), numbers=~INSIDE),  # by its numbers it would be inside out
        np.dstack([WHITE, WHITE, WHITE, np.full_like(WHITE, 255)]),
    ],
    ids=["grey", "rgb", "one bit", "16 bits", "palette", "palette turned over", "opaque"],
)
def test_black_and_white_is_0_and_255_however_it_is_stored(tmp_path: Path, mask: np.ndarray | Image.Image):
    np.testing.assert_array_equal(values(save(tmp_path / "a.png", mask)), WHITE)


def test_grey_values_below_white_are_label_values_up_to_16_bits(tmp_path: Path):
    for array in (np.arange(54).reshape(6, 9).astype(np.uint8), np.arange(54).reshape(6, 9).astype(np.uint16) * 1000):
        np.testing.assert_array_equal(values(save(tmp_path / "a.png", array)), array)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_smooth_borders_and_lossy_files_are_refused(tmp_path: Path, suffix: str):
    smooth = WHITE.copy()
    smooth[1, 3:8] = 37
    with pytest.raises(DataError, match=r"values between black and white, such as .*smooth borders, or a lossy file"):
        read_mask_image(save(tmp_path / f"a.{suffix}", smooth))


def test_declared_values_beside_white_are_label_values(tmp_path: Path):
    labels = np.where(INSIDE, 128, WHITE + 255 * ~INSIDE).astype(np.uint8)
    path = save(tmp_path / "a.png", labels)
    np.testing.assert_array_equal(values(path, {"0": 0, "128": 128, "255": 255}), labels)
    with pytest.raises(DataError, match="colours that are in no table, such as 128, in 10 pixels"):
        read_mask_image(path, colours={"0": 0, "255": 255})


def test_colours_are_looked_up_in_a_table(tmp_path: Path):
    red_green = np.zeros((6, 9, 3), np.uint8)
    red_green[INSIDE] = (255, 0, 0)
    red_green[0, 0] = (0, 255, 16)
    for name, image in (("a.png", red_green), ("b.gif", Image.fromarray(red_green).quantize(4))):
        path = save(tmp_path / name, image)
        expected = INSIDE * 2
        expected[0, 0] = 1
        np.testing.assert_array_equal(values(path, {"#ff0000": 2, "#00ff10": 1}), expected)
        refusal = r"in colours \(#ff0000, #00ff10, #000000\), which no table gives a meaning.*also take --colours"
        with pytest.raises(DataError, match=refusal):
            read_mask_image(path)
        with pytest.raises(DataError, match=r"1 colours that are in no table, such as #00ff10, in 1 pixels"):
            read_mask_image(path, colours={"#ff0000": 2})


def test_colours_of_16_bits_are_looked_up_by_the_8_that_they_stand_for(tmp_path: Path):
    colours = {"#ff0000": 1, "#00ff00": 2}
    for step, expected in ((257, [0, 1, 2]), (1, [0, 1, 2])):
        drawn = np.zeros((4, 6, 3), np.uint16)
        drawn[0, 0], drawn[1, 1] = (255 * step, 0, 0), (0, 255 * step, 0)
        tifffile.imwrite(tmp_path / "a.tif", drawn, photometric="rgb")
        mask = read_mask_image(tmp_path / "a.tif", colours=colours)
        assert np.unique(mask.array).tolist() == expected
        assert mask.array[1, 1, 0] == 2
    drawn[0, 0] = (40000, 0, 0)
    tifffile.imwrite(tmp_path / "a.tif", drawn, photometric="rgb")
    with pytest.raises(DataError, match="colours of more than 8 bits"):
        read_mask_image(tmp_path / "a.tif", colours=colours)


def test_black_can_be_a_structure(tmp_path: Path):
    path = save(tmp_path / "a.png", WHITE)
    np.testing.assert_array_equal(values(path, {"0": 2, "255": 1}), np.where(INSIDE, 1, 2))
    np.testing.assert_array_equal(values(path, {"#000000": 2, "#ffffff": 1}), np.where(INSIDE, 1, 2))


def test_a_mask_that_is_drawn_in_alpha_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="alpha channel is not the same everywhere"):
        read_mask_image(save(tmp_path / "a.png", np.dstack([WHITE * 0] * 3 + [WHITE])))


def test_several_masks_of_one_image_are_united_and_must_not_clash(tmp_path: Path):
    image = save(tmp_path / "a.png", np.arange(54).reshape(6, 9).astype(np.uint8))
    one, other = np.zeros((2, 6, 9), np.uint8)
    one[:2], other[1:4] = 255, 255
    first, second = save(tmp_path / "1.png", one), save(tmp_path / "2.png", other)
    case = replace(Case.of_image("a", image, first), masks=(second,))
    np.testing.assert_array_equal(read_truth(case).array[..., 0].T, np.maximum(one, other))
    save(second, other // 255)
    with pytest.raises(DataError, match=r"2\.png: overlaps another mask of its image in 9 pixels.*\[1, 255\]"):
        read_truth(case)
    save(second, other[:5])
    with pytest.raises(GeometryError, match="shapes differ"):
        read_truth(case)


def test_every_mask_and_the_meaning_of_its_colours_identify_the_truth(tmp_path: Path):
    image, first = save(tmp_path / "a.png", WHITE + 1), save(tmp_path / "1.png", WHITE)
    plain = Case.of_image("a", image, first)
    cases = [plain, replace(plain, masks=(first,)), replace(plain, colours={"255": 1}), replace(plain, colours={})]
    digests = [case_digest(case, DigestIndex()) for case in cases]
    assert len({digest.label for digest in digests}) == 4
    assert len({digest.image for digest in digests}) == 1


@pytest.mark.parametrize("table", [None, [], {}, {"red": "a"}, {"#ff00": "a"}, {"70000": "a"}, {"0": ""}, {"0": 3}])
def test_a_table_of_another_form_is_refused(table: object):
    with pytest.raises(DataError, match="colour"):
        read_colours(table, "dataset.json")
