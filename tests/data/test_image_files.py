"""2D images, against imageio and tifffile, which read them by other code."""

import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from fullscale.data.image_files import image_channels, image_grid, image_pages, read_pixels
from fullscale.data.volume_files import read_frames, read_volume, write_volume
from fullscale.errors import DataError, UsageError
from fullscale.geometry.volume import Volume

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 30)).astype(np.uint8)
RGB = RNG.integers(0, 256, (20, 30, 3)).astype(np.uint8)
WIDE = RNG.integers(0, 65536, (20, 30)).astype(np.uint16)
WIDE_RGB = RNG.integers(0, 65536, (20, 30, 3)).astype(np.uint16)


def grey(path: Path) -> np.ndarray:
    """Pages of an image [S, H, W], as a volume has them."""
    return read_volume(path).array.transpose(2, 1, 0)


def colours(path: Path) -> np.ndarray:
    return np.stack([one.array.transpose(2, 1, 0) for one in read_frames(path, 3)], axis=-1)


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_pixels(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def png(width: int, height: int, depth: int, kind: int, rows: bytes) -> bytes:
    """Write a PNG by hand: the chunks of its specification."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tif", "tiff", "jpg"])
def test_grey_images_are_read_as_another_library_reads_them(tmp_path: Path, suffix: str):
    imageio.imwrite(tmp_path / f"a.{suffix}", GREY)
    expected = imageio.imread(tmp_path / f"a.{suffix}")
    if suffix == "gif":  # imageio gives frames, and the colours of a palette
        assert (expected == expected[..., :1]).all()
        expected = expected[0, ..., 0]
    np.testing.assert_array_equal(grey(tmp_path / f"a.{suffix}")[0], expected)
    assert image_channels(tmp_path / f"a.{suffix}") == ("image",)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "jpeg"])
def test_colours_are_three_channels(tmp_path: Path, suffix: str):
    imageio.imwrite(tmp_path / f"a.{suffix}", RGB)
    np.testing.assert_array_equal(colours(tmp_path / f"a.{suffix}")[0], imageio.imread(tmp_path / f"a.{suffix}"))
    assert image_channels(tmp_path / f"a.{suffix}") == ("red", "green", "blue")
    with pytest.raises(DataError, match="is a colour image, expected one of grey values"):
        read_volume(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiffs_of_16_bits_and_of_floats(tmp_path: Path, compression: str | None, byteorder: Any):
    for array in (WIDE, WIDE.astype(np.float32) / 7, WIDE.astype(np.int32) - 9, WIDE.astype(np.int16)):
        tifffile.imwrite(tmp_path / "a.tif", array, compression=compression, byteorder=byteorder)
        np.testing.assert_array_equal(grey(tmp_path / "a.tif")[0], array)
    tifffile.imwrite(tmp_path / "a.tif", WIDE_RGB, photometric="rgb", compression=compression, byteorder=byteorder)
    np.testing.assert_array_equal(colours(tmp_path / "a.tif")[0], WIDE_RGB)


def test_colours_in_planes_are_the_same_colours(tmp_path: Path):
    planes = np.ascontiguousarray(np.moveaxis(WIDE_RGB, -1, 0))
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(colours(tmp_path / "a.tif")[0], WIDE_RGB)


def wide_png(array: np.ndarray, kind: int) -> bytes:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    return png(array.shape[1], array.shape[0], 16, kind, rows)


def test_a_png_of_16_bits_keeps_them_with_colours_and_alpha_too(tmp_path: Path):
    for kind, array, shown in (
        (0, WIDE, WIDE),
        (2, WIDE_RGB, WIDE_RGB),
        (4, np.dstack([WIDE, WIDE_RGB[..., 0]]), WIDE),
        (6, np.dstack([WIDE_RGB, WIDE]), WIDE_RGB),
    ):
        (tmp_path / "a.png").write_bytes(wide_png(array, kind))
        pixels = read_pixels(tmp_path / "a.png")
        np.testing.assert_array_equal(pixels.array[0], shown)
        assert pixels.array.dtype == np.uint16
        assert (pixels.notes, pixels.alpha is None) == (
            (("its alpha channel is left out",), False) if kind > 2 else ((), True)
        )
        assert image_grid(tmp_path / "a.png").shape == (30, 20, 1)
    np.testing.assert_array_equal(pixels.alpha, WIDE[None])
    assert len(read_frames(tmp_path / "a.png", 3)) == 3


def test_a_png_of_16_bits_in_colours_that_is_damaged_or_cut_short_is_refused(tmp_path: Path):
    content = bytearray(wide_png(WIDE_RGB, 2))
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    assert "cannot be read" in refusal(tmp_path / "a.png")
    content[len(content) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    assert "cannot be read" in refusal(tmp_path / "a.png")


@pytest.mark.parametrize(("suffix", "module"), [("png", "imagecodecs"), ("tif", "tifffile")])
def test_without_the_extra_one_line_says_what_to_install(
    tmp_path: Path, suffix: str, module: str, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / f"a.{suffix}"
    if suffix == "png":
        path.write_bytes(wide_png(WIDE_RGB, 2))
    else:
        tifffile.imwrite(path, WIDE_RGB, photometric="rgb")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError) as caught:
        read_pixels(path)
    assert str(caught.value).startswith(f"{path}: {suffix.upper() if suffix == 'png' else 'TIFF'} files of")
    assert str(caught.value).endswith(f"need {module}: pip install 'fullscale[tiff]'")


def test_pages_are_slices_and_must_be_alike(tmp_path: Path):
    stack = RNG.integers(0, 256, (5, 20, 30)).astype(np.uint8)
    resolution = {"resolution": (4, 2), "metadata": {"unit": "um", "spacing": 3.0}}
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, **resolution)
    volume = read_volume(tmp_path / "a.tif")
    np.testing.assert_array_equal(volume.array.transpose(2, 1, 0), stack)
    assert volume.unit == "mm"
    np.testing.assert_allclose(volume.spacing_mm, (0.25e-3, 0.5e-3, 3e-3))
    assert image_pages(tmp_path / "a.tif") == 5
    for odd in (GREY[:10], WIDE):
        with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
            writer.write(GREY)
            writer.write(odd)
        assert "expected slices of one size and type" in refusal(tmp_path / "b.tif")


def test_a_preview_in_a_tiff_is_no_slice(tmp_path: Path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(GREY)
        writer.write(GREY[::2, ::2], subfiletype=1)
    pixels = read_pixels(tmp_path / "a.tif")
    np.testing.assert_array_equal(pixels.array, GREY[None])
    assert "previews of lower resolution are left out: 1" in pixels.notes


@pytest.mark.parametrize(
    ("resolution", "unit", "spacing"),
    [
        ((72, 72), 2, None),
        ((300, 300), 2, None),
        ((28.3464567, 28.3464567), 3, None),  # 72 dots an inch, in centimetres
        ((20000, 10000), 3, (0.0005, 0.001)),
        ((1016, 1016), 2, (0.025, 0.025)),
        ((5, 5), 1, None),
    ],
)
def test_a_resolution_is_believed_unless_it_is_that_of_printers(
    tmp_path: Path, resolution: tuple[float, float], unit: int, spacing: tuple[float, float] | None
):
    tifffile.imwrite(tmp_path / "a.tif", GREY, resolution=resolution, resolutionunit=unit)
    volume = read_volume(tmp_path / "a.tif")
    assert volume.unit == ("px" if spacing is None else "mm2")
    np.testing.assert_allclose(volume.spacing_mm, (*(spacing or (1, 1)), 1), rtol=1e-5)
    assert volume.voxel_ml == pytest.approx(1 if spacing is None else spacing[0] * spacing[1], rel=1e-5)


def test_ome_says_how_large_a_pixel_is(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.ome.tif", GREY, metadata={"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25})
    np.testing.assert_allclose(read_volume(tmp_path / "a.ome.tif").spacing_mm, (0.5e-3, 0.25e-3, 1))


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_exif_orientation_turns_an_image_upright(tmp_path: Path, turn: int, suffix: str):
    path = tmp_path / f"a.{suffix}"
    upright = GREY if suffix != "jpg" else np.kron(GREY[:4, :6] // 64 * 64, np.ones((8, 8), np.uint8))
    back = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.T}
    back |= {6: np.rot90(upright, 1), 7: upright[::-1, ::-1].T, 8: np.rot90(upright, -1)}
    exif = Image.Exif()
    exif[274] = turn
    stored = Image.fromarray(np.ascontiguousarray(back[turn]))
    stored.save(path, exif=exif, **({"compression": "tiff_lzw"} if suffix == "tif" else {"quality": 100}))
    np.testing.assert_allclose(grey(path)[0].astype(int), upright, atol=3 if suffix == "jpg" else 0)
    assert image_grid(path).shape == (upright.shape[1], upright.shape[0], 1)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["grey", "float", "colours", "planes", "png"])
def test_images_of_more_than_8_bits_are_turned_upright_with_their_pixels(tmp_path: Path, turn: int, kind: str):
    upright = {"grey": WIDE, "float": WIDE.astype(np.float32) / 7}.get(kind, WIDE_RGB)
    mirrored = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1]}
    mirrored |= {5: upright.swapaxes(0, 1), 6: np.rot90(upright, 1), 8: np.rot90(upright, -1)}
    mirrored |= {7: upright[::-1, ::-1].swapaxes(0, 1)}
    stored = np.ascontiguousarray(mirrored[turn])
    path = tmp_path / ("a.png" if kind == "png" else "a.tif")
    if kind == "png":
        exif = Image.Exif()
        exif[274] = turn
        content, chunk = wide_png(stored, 2), exif.tobytes()[6:]
        inner = b"eXIf" + chunk
        whole = struct.pack(">I", len(chunk)) + inner + struct.pack(">I", zlib.crc32(inner))
        path.write_bytes(content[:33] + whole + content[33:])
    else:
        further = {"photometric": "minisblack"} if stored.ndim == 2 else {"photometric": "rgb"}
        if kind == "planes":
            stored, further = np.ascontiguousarray(np.moveaxis(stored, -1, 0)), further | {"planarconfig": "separate"}
        size = {"resolution": (20000, 10000), "resolutionunit": 3}
        tifffile.imwrite(path, stored, extratags=[(274, "H", 1, turn, True)], **further, **size)
    np.testing.assert_array_equal(read_pixels(path).array[0], upright)
    grid = image_grid(path)
    assert grid.shape == (30, 20, 1)
    if kind != "png":
        across = (0.0005, 0.001) if turn < 5 else (0.001, 0.0005)  # the stored rows are columns from 5 on
        np.testing.assert_allclose(grid.spacing_mm[:2], across)


def test_an_uncompressed_tiff_on_its_side_is_refused_for_pillow_scrambles_it(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", GREY, extratags=[(274, "H", 1, 6, True)])
    assert "lies on its side (orientation 6)" in refusal(tmp_path / "a.tif")


def test_alpha_is_left_out_and_that_is_said(tmp_path: Path):
    Image.fromarray(np.dstack([RGB, GREY])).save(tmp_path / "a.png")
    np.testing.assert_array_equal(colours(tmp_path / "a.png")[0], RGB)
    assert read_frames(tmp_path / "a.png", 3)[0].notes == ("its alpha channel is left out",)
    Image.fromarray(np.dstack([GREY, GREY])).save(tmp_path / "b.png")
    np.testing.assert_array_equal(grey(tmp_path / "b.png")[0], GREY)


def test_the_colours_of_a_palette_are_looked_up(tmp_path: Path):
    table = [(0, 0, 0), (255, 0, 0), (9, 200, 3), (1, 2, 3)]
    image = Image.fromarray(GREY // 64)
    image.putpalette([part for colour in table for part in colour])
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(colours(tmp_path / "a.png")[0], np.array(table)[GREY // 64])
    image.putpalette([250, 250, 250, 7, 7, 7, 0, 0, 0, 255, 255, 255])
    image.save(tmp_path / "b.gif")
    np.testing.assert_array_equal(grey(tmp_path / "b.gif")[0], np.array([250, 7, 0, 255])[GREY // 64])


def test_an_image_of_one_pixel(tmp_path: Path):
    Image.fromarray(np.array([[7]], np.uint8)).save(tmp_path / "a.png")
    assert read_volume(tmp_path / "a.png").array.tolist() == [[[7]]]


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "bmp"])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, suffix: str):
    Image.fromarray(RGB if suffix != "gif" else GREY).save(tmp_path / f"a.{suffix}")
    whole = (tmp_path / f"a.{suffix}").read_bytes()
    for part in (0, 3, len(whole) // 2, len(whole) * 9 // 10):
        (tmp_path / f"a.{suffix}").write_bytes(whole[:part])
        refusal(tmp_path / f"a.{suffix}")
    tifffile.imwrite(tmp_path / "b.tif", WIDE_RGB, photometric="rgb")
    (tmp_path / "b.tif").write_bytes((tmp_path / "b.tif").read_bytes()[:1500])
    assert "cut short" in refusal(tmp_path / "b.tif")


def test_bombs_print_colours_and_animations_are_refused(tmp_path: Path):
    (tmp_path / "bomb.png").write_bytes(png(100_000, 100_000, 8, 0, bytes(1000)))
    assert "exceeds limit" in refusal(tmp_path / "bomb.png")
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "a.jpg")
    assert "has the colours CMYK" in refusal(tmp_path / "a.jpg")
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert "is an animation of 2 pictures" in refusal(tmp_path / "a.gif")


@settings(max_examples=30, deadline=None)
@given(
    array=st.sampled_from([np.uint8, np.uint16]).flatmap(
        lambda kind: arrays(kind, st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)))
    )
)
def test_what_is_written_reads_back_in_its_place(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray):
    folder = tmp_path_factory.mktemp("written")
    suffix = ".png" if array.shape[2] == 1 else ".tif"
    volume = Volume(array, np.diag([-1.0, -1, 1, 1]), unit="px")
    write_volume(folder / f"a{suffix}", volume)
    again = read_volume(folder / f"a{suffix}")
    np.testing.assert_array_equal(again.array, array)
    np.testing.assert_array_equal(again.affine, volume.affine)
    other = imageio.imread(folder / "a.png") if suffix == ".png" else tifffile.imread(folder / "a.tif")
    np.testing.assert_array_equal(np.squeeze(other), np.squeeze(array.transpose(2, 1, 0)))


def test_a_png_holds_no_stack_no_floats_and_no_large_numbers(tmp_path: Path):
    for array in (np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 1), np.float32), np.full((4, 4, 1), 70_000)):
        with pytest.raises(DataError, match="holds"):
            write_volume(tmp_path / "a.png", Volume(array, np.eye(4)))
    soft = Volume(RNG.random((4, 5, 1)).astype(np.float32), np.eye(4))
    write_volume(tmp_path / "a.tif", soft)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), soft.array[..., 0].T)


def test_real_retinas_and_micrographs(shared_data: Path):
    retina = shared_data / "drive/training/images/21_training.tif"
    np.testing.assert_array_equal(colours(retina)[0], tifffile.imread(retina))
    cells = shared_data / "membrane/image/0.png"
    np.testing.assert_array_equal(grey(cells)[0], imageio.imread(cells))
