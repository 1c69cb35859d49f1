"""Slices with their neighbours, as a network of this family sees a scan."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def with_neighbours(slices: npt.NDArray[Any], index: int, neighbours: int) -> npt.NDArray[Any]:
    """Take slice `index` of `[S, H, W]` with its neighbours: `[2 n + 1, H, W]`, from feet to head; edges repeat."""
    around = np.clip(np.arange(index - neighbours, index + neighbours + 1), 0, len(slices) - 1)
    return slices[around]
