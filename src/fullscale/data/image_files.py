"""2D images in files: PNG, JPEG, TIFF, BMP and GIF, read as volumes of one slice, or of one a page of a TIFF.

Row 0 is drawn at the top and column 0 at the left, so an image lies as a slice of a patient seen from the feet: columns
run to the left, rows to the back. Without a pixel size in the file, lengths are pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from fullscale.data.bounds import require_room
from fullscale.data.case import ONE_CHANNEL
from fullscale.data.tiff import SIDEWAYS, TiffPages, is_wide, read_wide, tiff_pages, turned
from fullscale.data.wide_png import is_wide_png, read_wide_png
from fullscale.errors import DataError, FullscaleError, OutputError
from fullscale.files import atomic_path
from fullscale.geometry.units import Unit
from fullscale.geometry.volume import Volume
from fullscale.text import one_line

TIFF = (".tif", ".tiff")
WHITE = 255
"""The value of a structure in a mask of black and white."""
PICTURES = (".png", ".jpg", ".jpeg", *TIFF, ".bmp", ".gif")
"""Suffixes of 2D images, in lower case."""
COLOURS = ("red", "green", "blue")
"""Names of the channels of a colour image."""
ALPHA = "its alpha channel is left out"

_GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F"}
_COLOUR = {"RGB", "RGBA", "RGBa", "RGBX", "YCbCr"}
_WITH_ALPHA = {"LA", "La", "RGBA", "RGBa", "PA"}


@dataclass(frozen=True)
class Pixels:
    """What an image file holds.

    Attributes:
        array: grey values `[S, H, W]`, or colours `[S, H, W, 3]`; S is 1 but for a TIFF of several pages.
        spacing: across pages, of rows and of columns.
        unit: what the spacing is counted in.
        alpha: of the first page `[H, W]`, where there is any.
        notes: what was left out, a line each.
    """

    array: npt.NDArray[Any]
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    unit: Unit = "px"
    alpha: npt.NDArray[Any] | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_grey(self) -> bool:
        """Whether there is one value a pixel."""
        return self.array.ndim == 3

    def volume(self, array: npt.NDArray[Any]) -> Volume:
        """Place values `[S, H, W]` of these pixels: `[W, H, S]`."""
        across, row, column = self.spacing
        affine = np.diag([-column, -row, across, 1.0])
        return Volume(np.ascontiguousarray(array.transpose(2, 1, 0)), affine, notes=self.notes, unit=self.unit)


def is_picture(path: str | Path) -> bool:
    """Tell a 2D image by its suffix."""
    path = Path(path)
    return path.suffix.lower() in PICTURES and path.name.lower() != path.suffix.lower()


def image_channels(path: str | Path) -> tuple[str, ...]:
    """Name the channels of an image by its header: `COLOURS`, or one.

    Raises:
        DataError: it cannot be read.
    """
    with _opened(Path(path)) as image:
        return (ONE_CHANNEL,) if _is_grey(image) else COLOURS


def holds_colours(path: str | Path) -> bool:
    """Tell whether a file is an image of three channels; one that cannot be read is not, and reading it says why."""
    try:
        return is_picture(path) and image_channels(path) == COLOURS
    except DataError:
        return False


def image_pages(path: str | Path) -> int:
    """Count the pages of an image file by its header.

    Raises:
        DataError: it cannot be read.
    """
    with _opened(Path(path)) as image:
        return len(tiff_pages(image).numbers) if isinstance(image, TiffImageFile) else 1


def image_grid(path: str | Path) -> Volume:
    """Return the place of an image by its header; all of its pixels are 0.

    Raises:
        DataError: it cannot be read.
    """
    with _opened(Path(path)) as image:
        shape = (1, image.width, image.height) if _lies_on_its_side(image) else (1, image.height, image.width)
        nothing = Pixels(np.broadcast_to(np.uint8(0), shape))
        if isinstance(image, TiffImageFile):
            pages = tiff_pages(image)
            nothing = _stack([nothing] * len(pages.numbers), pages)
        return nothing.volume(nothing.array)


def read_grey(path: str | Path) -> Volume:
    """Read an image of one channel; colours that are all grey are one channel too, and that is noted.

    Raises:
        DataError: it cannot be read, or holds colours.
    """
    pixels = read_pixels(path)
    if pixels.is_grey:
        return pixels.volume(pixels.array)
    red = pixels.array[..., 0]
    if not all(np.array_equal(red, pixels.array[..., k]) for k in (1, 2)):
        raise DataError(
            f"{path}: is a colour image, expected one of grey values; convert it, or take its channels red, green, blue"
        )
    volume = pixels.volume(red)
    return Volume(volume.array, volume.affine, notes=(*volume.notes, "colours that are all grey"), unit=volume.unit)


def read_colours(path: str | Path) -> list[Volume]:
    """Read red, green and blue of an image.

    Raises:
        DataError: it cannot be read, or is grey.
    """
    pixels = read_pixels(path)
    if pixels.is_grey:
        raise DataError(f"{path}: is a grey image, expected colours: red, green and blue")
    return [pixels.volume(pixels.array[..., k]) for k in range(3)]


def read_pixels(path: str | Path) -> Pixels:
    """Read all that an image file holds, turned as its EXIF orientation says.

    Raises:
        DataError: the file is missing, empty, cut short, damaged or of another kind; it is larger than memory; its
            pages differ; or its colours are those of print.
    """
    path = Path(path)
    with _opened(path) as image:
        if isinstance(image, PngImageFile) and is_wide_png(path):
            return _wide_png(path, image)
        if not isinstance(image, TiffImageFile):
            return _read_page(image, 0)
        pages = tiff_pages(image)
        wide = read_wide(path, image, pages.numbers)
        read = [Pixels(one[None]) for one in wide or ()] or [_read_page(image, k) for k in pages.numbers]
        kinds = sorted({f"{'x'.join(map(str, one.array.shape[1:]))} {one.array.dtype}" for one in read})
        if len(kinds) > 1:
            raise DataError(f"has pages of {' and of '.join(kinds)}: expected slices of one size and type")
        return _stack(read, pages)


def _wide_png(path: Path, image: PngImageFile) -> Pixels:
    array, alpha = read_wide_png(path)
    turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    hidden = None if alpha is None else turned(alpha, turn)[None]
    return Pixels(turned(array, turn)[None], alpha=hidden, notes=() if alpha is None else (ALPHA,))


def _stack(pages: list[Pixels], tiff: TiffPages) -> Pixels:
    notes = tuple(dict.fromkeys(note for page in pages for note in page.notes))
    array = np.concatenate([page.array for page in pages])
    across, row, column = tiff.spacing_mm or (1.0, 1.0, 1.0)
    unit: Unit = "px" if tiff.spacing_mm is None else "mm2" if len(array) == 1 else "mm"
    spacing = (1.0 if unit == "mm2" else across, row, column)
    return Pixels(array, spacing, unit, pages[0].alpha, (*notes, *tiff.notes))


def write_picture(path: str | Path, volume: Volume) -> None:
    """Write integers, or float32 as TIFF, as an image of the size and the orientation that `read_pixels` gives.

    Args:
        path: `.png` for one slice of whole numbers up to 65535; `.tif` for any number of slices.
        volume: `[W, H, S]`.

    Raises:
        DataError: the format cannot hold the values.
        OutputError: writing failed.
    """
    path, pages = Path(path), volume.array.transpose(2, 1, 0)
    if path.suffix.lower() != ".png" and path.suffix.lower() not in TIFF:
        raise DataError(f"{path}: images are written as .png or .tif")
    if path.suffix.lower() == ".png" and (len(pages) > 1 or pages.dtype.kind == "f"):
        raise DataError(f"{path}: a PNG holds one slice of whole numbers; write .tif")
    first, *others = [Image.fromarray(np.ascontiguousarray(page)) for page in _as_stored(pages, path)]
    with atomic_path(path) as temporary, open(temporary, "w+b") as stream:
        try:
            if path.suffix.lower() == ".png":
                first.save(stream, "PNG")
            else:
                first.save(stream, "TIFF", save_all=True, append_images=others, compression="tiff_deflate")
        except (ValueError, OSError) as error:
            raise OutputError(f"cannot write {path}: {one_line(error)}") from error


def _as_stored(pages: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    if pages.dtype.kind == "f":
        return pages.astype(np.float32)
    low, high = int(pages.min()), int(pages.max())
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise DataError(f"{path}: holds values from {low} to {high}, an image whole numbers from 0 to 65535")
    return pages.astype(np.uint8 if high <= np.iinfo(np.uint8).max else np.uint16)


@contextmanager
def _opened(path: Path) -> Iterator[ImageFile]:
    """Open an image whose size is bounded; whatever is wrong with it names the file."""
    if not path.is_file():
        raise DataError(f"{path}: is a folder, expected a file" if path.is_dir() else f"{path}: no such file")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are bounded here, and of metadata, which is not used
            with Image.open(path) as image:
                _require_known(image, path)
                yield image
    except FullscaleError as error:
        text = str(error)
        raise type(error)(text if text.startswith(f"{path}:") else f"{path}: {text}") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: {one_line(error)}; cut it into tiles, if it is what it says") from error
    except Exception as error:
        suffix = path.suffix.lower()
        raise DataError(f"{path}: cannot be read ({one_line(error)}); is the file whole and a {suffix}?") from error


def _require_known(image: ImageFile, path: Path) -> None:
    bytes_a_pixel = 4 * len(image.getbands())
    require_room(image.width * image.height * bytes_a_pixel, path.stat().st_size, "its header")
    if image.mode not in _GREY | _COLOUR | {"P", "PA"}:
        raise DataError(f"has the colours {image.mode}, as for print; convert it to RGB or to grey values")
    if isinstance(image, GifImageFile | PngImageFile) and image.n_frames > 1:
        raise DataError(f"is an animation of {image.n_frames} pictures, expected one")
    turn = image.getexif().get(ExifTags.Base.Orientation, 1) if isinstance(image, TiffImageFile) else 1
    raw = image.info.get("compression") == "raw" and not (isinstance(image, TiffImageFile) and is_wide(image))
    if turn >= SIDEWAYS and raw:  # Pillow 13 mixes up its rows without a word
        raise DataError(
            f"lies on its side (orientation {turn}) and is not compressed, which is not read; save it upright"
        )


def _is_grey(image: ImageFile) -> bool:
    """Tell by the mode whether pixels have one value; a palette of greys is grey."""
    if image.mode not in ("P", "PA"):
        return image.mode in _GREY
    colours = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


def _lies_on_its_side(image: ImageFile) -> bool:
    """Tell whether rows and columns of the header change places; those of a TIFF have done so when it is opened."""
    return not isinstance(image, TiffImageFile) and image.getexif().get(ExifTags.Base.Orientation, 1) >= SIDEWAYS


def _read_page(image: ImageFile, page: int) -> Pixels:
    """Read a page, `[1, H, W]` or `[1, H, W, 3]`."""
    image.seek(page)
    is_grey, mode = _is_grey(image), image.mode
    with_alpha = mode in _WITH_ALPHA or "transparency" in image.info
    upright = ImageOps.exif_transpose(image)
    notes: list[str] = []
    alpha = None
    if with_alpha:
        alpha = np.asarray(upright.convert("RGBA"))[..., 3]
        notes.append(ALPHA)
    if mode in ("1", "P", "PA", "LA", "La") or (mode in _COLOUR and mode != "RGB"):
        upright = upright.convert("L" if is_grey else "RGB")
    return Pixels(np.asarray(upright)[None], alpha=alpha, notes=tuple(notes))
