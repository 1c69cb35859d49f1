"""Small volumes for tests, and the file types that are written."""

from pathlib import Path

import numpy as np

from fullscale.geometry.volume import Volume

WRITABLE = ("case.nii.gz", "case.nii", "case.nrrd", "case.mha")


def make_array(shape: tuple[int, ...] = (4, 5, 6), low: int = -1000, high: int = 1000) -> np.ndarray:
    return np.random.default_rng(7).integers(low, high, shape).astype(np.int16)


def make_volume(**options: int) -> Volume:
    affine = np.array([[-0.7, 0, 0, 172.9], [0, 0.7, 0, -179.3], [0, 0, 5, -368], [0, 0, 0, 1]])
    return Volume(make_array(**options), affine)


def one_line_about(error: BaseException, path: Path) -> bool:
    return "\n" not in str(error) and str(path) in str(error)
