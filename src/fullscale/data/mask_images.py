"""Masks in image files: label values, black and white, or colours that a table gives a meaning.

A mask of black and white holds 0 and 255, whatever the file makes of it: one bit a pixel, a palette, 16 bits. What a
palette numbers is nothing that anybody sees, so its colours are looked up, never its numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.data.image_files import WHITE, Pixels, read_pixels
from fullscale.errors import DataError, UsageError
from fullscale.geometry.volume import Volume, require_same_grid

Colours = Mapping[str, int]
"""Label value of each colour, `#ff0000`, or of each grey value, `255`; a colour that is in no table is refused."""

_NAMED = 5
_JPEG = (".jpg", ".jpeg")
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def read_mask_image(
    path: str | Path,
    like: Volume | None = None,
    colours: Colours | None = None,
) -> Volume:
    """Read a mask from an image file.

    Args:
        path: the mask.
        like: its image, or the grid of that, which knows the size of a pixel where the mask does not.
        colours: what colours or grey values stand for; without it grey values are label values.

    Returns:
        Whole numbers `[W, H, S]`, 0 for the background.

    Raises:
        DataError: it cannot be read, has a colour that is in no table, or values between black and white.
    """
    path = Path(path)
    pixels = read_pixels(path)
    _require_opaque(path, pixels)
    array = _greys(pixels)
    if colours is not None:
        labels = _looked_up(path, _eight_bits(path, pixels.array) if array is None else array, colours)
    elif array is None:
        raise DataError(
            f"{path}: is a mask in colours ({_some_colours(pixels.array)}), which no table gives a meaning: say in "
            'dataset.json which are which, as "colours": {"#ff0000": "vessel"}; evaluate and overlay also take '
            "--colours '#ff0000=1'"
        )
    else:
        labels = array
        _require_label_values(path, labels)
    mask = pixels.volume(labels)
    if like is None or like.shape != mask.shape:
        return mask  # of another size, which is refused where the two meet
    return Volume(mask.array, like.affine, notes=mask.notes, unit=like.unit)


def unite(files: Sequence[Path], masks: Sequence[Volume]) -> Volume:
    """Put the masks of one image together: each pixel has the label that one of them gives it.

    Raises:
        DataError: two masks give a pixel different labels.
        GeometryError: they differ in size.
    """
    united = masks[0].array
    for file, mask in zip(files[1:], masks[1:], strict=True):
        require_same_grid(masks[0], mask, f"{files[0]} and {file.name}")
        clash = (united != 0) & (mask.array != 0) & (united != mask.array)
        if clash.any():
            values = sorted({*united[clash].tolist(), *mask.array[clash].tolist()})
            raise DataError(
                f"{file}: overlaps another mask of its image in {int(clash.sum())} pixels, which would have the labels "
                f"{values}; one pixel has one label"
            )
        united = np.where(mask.array != 0, mask.array, united)
    return masks[0].with_array(united)


def read_colours(text: Any, source: str) -> dict[str, str]:
    """Read a table of colours: name of each colour's structure.

    Raises:
        DataError: a key is neither `#rrggbb` nor a grey value.
    """
    if not isinstance(text, dict) or not text or not all(isinstance(name, str) and name for name in text.values()):
        raise DataError(f"{source}: 'colours' is {text!r:.80}, expected names by colour, as {{'#ff0000': 'vessel'}}")
    for key in text:
        if not _is_colour(str(key)):
            raise DataError(f"{source}: colour {key!r:.80} is neither of the form '#ff0000' nor a grey value")
    return {str(key).lower(): name for key, name in text.items()}


def parse_colours(text: str) -> dict[str, int]:
    """Read `#ff0000=1,#0000ff=2`: the label value of each colour or grey value.

    Raises:
        UsageError: it is not of this form.
    """
    parts = [part.strip().partition("=") for part in text.split(",")]
    if not all(_is_colour(key) and value.isdecimal() for key, _, value in parts):
        raise UsageError(f"--colours {text!r} is neither a data set nor of the form '#ff0000=1,#0000ff=2'")
    return {key.lower(): int(value) for key, _, value in parts}


def _is_colour(key: str) -> bool:
    return bool(_COLOUR.fullmatch(key)) or (key.isdecimal() and int(key) <= np.iinfo(np.uint16).max)


def _require_opaque(path: Path, pixels: Pixels) -> None:
    """Refuse a mask that is drawn in its alpha channel; one that is fully opaque is left out."""
    if pixels.alpha is not None and pixels.alpha.min() != pixels.alpha.max():
        raise DataError(
            f"{path}: its alpha channel is not the same everywhere, so it is not clear what the mask is; save it "
            "without transparency"
        )


def _greys(pixels: Pixels) -> npt.NDArray[Any] | None:
    """Return grey values `[S, H, W]`; None of colours that are not all grey."""
    array = pixels.array
    if not pixels.is_grey:
        if (array != array[..., :1]).any():
            return None
        array = array[..., 0]
    if array.dtype.kind == "f":
        whole = np.rint(array)
        return whole.astype(np.int32) if np.array_equal(whole, array) else array
    widest = np.iinfo(np.uint16).max
    if array.dtype == np.uint16 and array.max() == widest and np.isin(array, (0, widest)).all():
        return np.where(array > 0, np.uint8(WHITE), np.uint8(0))
    return array


def _eight_bits(path: Path, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Bring colours of 16 bits to the 8 of a table; those between two of these are refused."""
    step = np.iinfo(np.uint16).max // WHITE
    if array.dtype == np.uint8 or array.max() <= WHITE:
        return array
    if array.dtype != np.uint16 or (array % step).any():
        raise DataError(f"{path}: has colours of more than 8 bits, which #rrggbb cannot name; save it with 8")
    return (array // step).astype(np.uint8)


def _require_label_values(path: Path, array: npt.NDArray[Any]) -> None:
    """Refuse the values that smooth borders and lossy files leave between black and white."""
    values = np.unique(array)
    if array.dtype.kind == "f":
        raise DataError(f"{path}: labels are whole numbers, found {values[:_NAMED].tolist()}")
    white = np.iinfo(array.dtype).max if array.dtype == np.uint16 and values[-1] > WHITE else WHITE
    known = {0, white}
    between = [value for value in values.tolist() if value not in known]
    if between and (values[-1] == white or path.suffix.lower() in _JPEG):
        pixels = int(np.isin(array, between).sum())
        raise DataError(
            f"{path}: holds {len(between)} values between black and white, such as "
            f"{', '.join(map(str, between[:_NAMED]))}, in {pixels} pixels: smooth borders, or a lossy file? Masks hold "
            "0 and 255, or the label values that the data set declares in dataset.json"
        )


def _looked_up(path: Path, array: npt.NDArray[Any], colours: Colours) -> npt.NDArray[Any]:
    """Replace colours `[S, H, W, 3]` or grey values `[S, H, W]` by what the table says."""
    codes = _codes(array)
    table = {_code(key): value for key, value in colours.items()}
    table.setdefault(0, 0)  # black is background, where it is nothing else
    found, index = np.unique(codes, return_inverse=True)
    strange = [code for code in found.tolist() if code not in table]
    if strange:
        pixels = int(np.isin(codes, strange).sum())
        named = ", ".join(_written(code) for code in strange[:_NAMED])
        raise DataError(
            f"{path}: has {len(strange)} colours that are in no table, such as {named}, in {pixels} pixels; the table "
            f"has {', '.join(colours)}"
        )
    values = np.array([table[code] for code in found.tolist()])
    labels: npt.NDArray[Any] = values.astype(np.min_scalar_type(values.max()))[index].reshape(codes.shape)
    return labels


def _codes(array: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Number colours: a grey value is itself, a colour of three different parts lies below 0."""
    whole = array.astype(np.int64)
    if array.ndim == 3:
        return whole
    red, green, blue = whole[..., 0], whole[..., 1], whole[..., 2]
    return np.where((red == green) & (green == blue), red, -(red << 16 | green << 8 | blue))


def _code(key: str) -> int:
    if not key.startswith("#"):
        return int(key)
    red, green, blue = (int(key[k : k + 2], 16) for k in (1, 3, 5))
    return red if red == green == blue else -(red << 16 | green << 8 | blue)


def _written(code: int) -> str:
    return str(code) if code >= 0 else f"#{-code:06x}"


def _some_colours(array: npt.NDArray[Any]) -> str:
    codes = np.unique(_codes(array))[: _NAMED + 1].tolist()
    named = [_written(code) if code < 0 else "#" + f"{code:02x}" * 3 for code in codes]
    return ", ".join(named[:_NAMED]) + (" ..." if len(named) > _NAMED else "")
