"""What lengths and sizes are counted in: the one home of the words "mm", "ml", "mm²" and "px"."""

from __future__ import annotations

from typing import Literal

Unit = Literal["mm", "mm2", "px"]
"""`mm`: a volume, in mm and ml. `mm2`: an image whose pixels have a known size, in mm and mm². `px`: an image of which
nothing says how large its pixels are, in pixels."""

LENGTH: dict[Unit, str] = {"mm": "mm", "mm2": "mm", "px": "px"}
SIZE: dict[Unit, str] = {"mm": "ml", "mm2": "mm²", "px": "px"}
"""Of volumes and areas. Names of scores such as `volume_ml` stay the same whatever is counted in."""
PER_SIZE: dict[Unit, float] = {"mm": 1000.0, "mm2": 1.0, "px": 1.0}
"""How many cubic units of length are one unit of size; an image is one unit thick."""
