"""What the tests of scoring share."""

from pathlib import Path

import pytest

from tests.masks import cube, write_mask


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two cases with their truth: `a` perfect, `b` write_shifted by one voxel."""
    for name, start in (("a", 2), ("b", 3)):
        write_mask(tmp_path / "predictions" / f"{name}.nii.gz", cube(start))
        write_mask(tmp_path / "truth" / f"{name}.nii.gz")
    return tmp_path / "predictions", tmp_path / "truth"
