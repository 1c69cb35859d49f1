"""PNG files of 16 bits a value with colours or alpha: Pillow reads these as 8 and does not say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.extras import needs

_HEADER = 26
"""Bytes up to the bits of a value and the colour type, which the first chunk of a PNG holds."""
_GREY = 0


def is_wide_png(path: Path) -> bool:
    """Tell whether Pillow would read a PNG with fewer bits than it has."""
    with open(path, "rb") as stream:
        bits, colour_type = stream.read(_HEADER)[24:]
    return bits == 16 and colour_type != _GREY


def read_wide_png(path: Path) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16] | None]:
    """Read what `is_wide_png` tells.

    Returns:
        Grey values `[H, W]` or colours `[H, W, 3]`, and the alpha channel `[H, W]` where there is one.

    Raises:
        UsageError: imagecodecs is not installed.
    """
    with needs("tiff", "PNG files of 16 bits in colours"):
        import imagecodecs
    array: npt.NDArray[Any] = imagecodecs.png_decode(path.read_bytes())
    shown = 1 if array.shape[-1] == 2 else 3
    alpha = array[..., shown] if array.shape[-1] > shown else None
    return (array[..., 0] if shown == 1 else array[..., :3]), alpha
