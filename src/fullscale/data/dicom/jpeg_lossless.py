"""JPEG lossless (process 14) for pydicom, decoded by libjpeg-turbo through imagecodecs.

pydicom's own plugins for it are under the GPL, or may end the process on a damaged frame. The names that pydicom looks
for in a plugin are its own: `is_available`, `DECODER_DEPENDENCIES`.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from pydicom.pixels.decoders import JPEGLosslessDecoder, JPEGLosslessSV1Decoder
from pydicom.uid import JPEGLossless, JPEGLosslessSV1

DECODER_DEPENDENCIES = {JPEGLossless: ("imagecodecs",), JPEGLosslessSV1: ("imagecodecs",)}


def is_available(uid: str) -> bool:
    """Tell pydicom which transfer syntaxes are decoded here."""
    return uid in DECODER_DEPENDENCIES


@lru_cache(maxsize=1)
def register() -> None:
    """Make pydicom decode JPEG lossless, once, where imagecodecs is installed."""
    if find_spec("imagecodecs") is None:
        return
    for decoder in (JPEGLosslessDecoder, JPEGLosslessSV1Decoder):
        decoder.add_plugin("fullscale", (__name__, "decode_frame"))


def decode_frame(source: bytes, runner: Any) -> bytes:
    """Decode one frame to little-endian bytes, and tell pydicom how many bits a value takes."""
    import imagecodecs

    values = np.asarray(imagecodecs.jpeg_decode(source))
    runner.set_option("bits_allocated", values.dtype.itemsize * 8)
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
