"""What only a TIFF says: how many pages it has, how large its pixels are, and values of more than 8 bits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL.TiffImagePlugin import TiffImageFile

from fullscale.errors import DataError
from fullscale.extras import needs

SIDEWAYS = 5
"""From this orientation on, rows and columns are exchanged."""

_SUBFILE, _BITS, _DESCRIPTION, _ORIENTATION, _SAMPLES = 254, 258, 270, 274, 277
_X, _Y, _PLANAR, _UNIT = 282, 283, 284, 296
_REDUCED, _PLANES = 1, 2
_MM_OF_UNIT = {2: 25.4, 3: 10.0}
"""Inch and centimetre."""
_PRINTED = {
    *(1, 72, 75, 90, 96, 100, 120, 144, 150, 180, 200, 240, 254, 266, 300, 350, 360, 400, 480, 600, 720, 800, 1000),
    *(1200, 1440, 2400, 2540, 4800),
}
"""Dots an inch that cameras, scanners of paper and drawing programs write, whatever the image shows."""
_MM_NAMED = {
    **dict.fromkeys(("micron", "microns", "um", "\u00b5m", "\u03bcm", "\\u00b5m"), 1e-3),
    "nm": 1e-6,
    "mm": 1.0,
    "cm": 10.0,
    "inch": 25.4,
}


MOST_PAGES = 10_000
"""Slices of the longest scans, and some more: a page of a few bytes may stand for any pixels."""


@dataclass(frozen=True)
class TiffPages:
    """The pages of a TIFF that are slices.

    Attributes:
        numbers: their places in the file; previews of lower resolution are left out.
        spacing_mm: across pages, of rows and of columns; None where the file does not say, or says what printers do.
        notes: what was left out.
    """

    numbers: tuple[int, ...]
    spacing_mm: tuple[float, float, float] | None
    notes: tuple[str, ...] = ()


def tiff_pages(image: TiffImageFile) -> TiffPages:
    """List the pages of an open TIFF, which is left at its first.

    Raises:
        DataError: there are more than `MOST_PAGES`.
    """
    numbers = []
    for number in _page_numbers(image):
        image.seek(number)
        if not int(_tag(image, _SUBFILE) or 0) & _REDUCED:
            numbers.append(number)
    left_out = image.tell() + 1 - len(numbers)
    image.seek(0)
    spacing, notes = _spacing(image)
    if spacing is not None and int(_tag(image, _ORIENTATION) or 1) >= SIDEWAYS:
        spacing = (spacing[0], spacing[2], spacing[1])  # the file speaks of its columns as they are stored
    if left_out:
        notes = (*notes, f"previews of lower resolution are left out: {left_out}")
    return TiffPages(tuple(numbers), spacing, notes)


def _page_numbers(image: TiffImageFile) -> range:
    """Count the pages by going to each: Pillow counts them to the end, in time that grows with their square."""
    count = 0
    with suppress(EOFError):
        while count <= MOST_PAGES:
            image.seek(count)
            count += 1
    if count > MOST_PAGES:
        raise DataError(f"has more than {MOST_PAGES} pages, which is no stack of slices; split it")
    return range(count)


def read_wide(path: Path, image: TiffImageFile, numbers: Sequence[int]) -> list[npt.NDArray[Any]] | None:
    """Read pages of more than 8 bits a value: Pillow reads such colours as 8, and some floats wrongly, without a word.

    Args:
        path: of the file.
        image: opened.
        numbers: of the pages.

    Returns:
        Each page `[H, W]`, or `[H, W, 3]` of colours; None where pages have 8 bits or fewer.

    Raises:
        DataError: a pixel has another number of values than 1, 3, or 4 with alpha; or the file is cut short.
    """
    if not is_wide(image):
        return None
    samples = int(_tag(image, _SAMPLES) or 1)
    if samples not in (1, 3, 4):
        raise DataError(f"has {samples} values a pixel, expected 1, or 3 for colours")
    with needs("tiff", "TIFF files of more than 8 bits"):
        import tifffile
    size = path.stat().st_size
    with tifffile.TiffFile(path) as file:
        pages = [file.pages[number] for number in numbers]
        end = max(a + b for page in pages for a, b in zip(page.dataoffsets, page.databytecounts, strict=True))
        if end > size:
            raise DataError(f"ends after {size} bytes, its pixels after {end}: it is cut short")
        arrays = [page.asarray() for page in pages]
    if samples > 1 and int(_tag(image, _PLANAR) or 1) == _PLANES:
        arrays = [np.moveaxis(array, 0, -1) for array in arrays]
    turn = int(_tag(image, _ORIENTATION) or 1)
    return [turned(array[..., :3] if samples > 1 else array, turn) for array in arrays]


def is_wide(image: TiffImageFile) -> bool:
    """Tell whether an open TIFF has more than 8 bits a value."""
    bits = _tag(image, _BITS) or (8,)
    return (max(bits) if isinstance(bits, tuple) else int(bits)) > 8


def turned(array: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Turn pixels `[H, W, ...]` as an orientation of EXIF and TIFF says (TIFF 6.0, Orientation)."""
    if orientation >= SIDEWAYS:
        array = array.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return np.ascontiguousarray(array[rows, columns])


def _spacing(image: TiffImageFile) -> tuple[tuple[float, float, float] | None, tuple[str, ...]]:
    """Find the size of pixels and the distance of pages, in mm, and say where it is not believed."""
    described = str(_tag(image, _DESCRIPTION) or "")
    x, y = (float(_tag(image, tag) or 0) for tag in (_X, _Y))
    named = _named_unit(described)
    if described.startswith("ImageJ=") and named is not None and x > 0 and y > 0:
        across = re.search(r"^spacing=([0-9.eE+-]+)$", described, re.MULTILINE)
        return (abs(float(across[1])) * named if across else named / x, named / y, named / x), ()
    ome = {axis: _ome_mm(described, axis) for axis in "XYZ"}
    if ome["X"] and ome["Y"]:
        return (ome["Z"] or ome["X"], ome["Y"], ome["X"]), ()
    unit = _MM_OF_UNIT.get(int(_tag(image, _UNIT) or 2))
    if unit is None or not (np.isfinite([x, y]).all() and x > 0 and y > 0):
        return None, ()
    dots = x * 25.4 / unit
    if round(dots, 1) in _PRINTED or dots < min(_PRINTED - {1}):
        said = f"its {dots:.4g} dots an inch are those of a camera or a printer: the size of a pixel is not known"
        return None, () if dots <= 1 else (said,)
    return (unit / x, unit / y, unit / x), ()


def _named_unit(described: str) -> float | None:
    """Return the mm of the unit that ImageJ names."""
    found = re.search(r"^unit=(.+)$", described, re.MULTILINE)
    return _MM_NAMED.get(found[1].strip()) if found else None


def _ome_mm(described: str, axis: str) -> float | None:
    """Return what OME says of an axis, in mm."""
    size = re.search(rf'PhysicalSize{axis}="([0-9.eE+-]+)"', described)
    unit = re.search(rf'PhysicalSize{axis}Unit="([^"]+)"', described)
    mm = _MM_NAMED.get(unit[1]) if unit else 1e-3
    return None if size is None or mm is None or float(size[1]) <= 0 else float(size[1]) * mm


def _tag(image: TiffImageFile, number: int) -> Any:
    return image.tag_v2.get(number)
