"""A volume says in one line what it is."""

from pathlib import Path

import numpy as np

from fullscale.data.volume_files import read_volume, write_volume
from fullscale.geometry.volume import Volume


def test_a_volume_is_shown_in_one_line(tmp_path: Path) -> None:
    volume = Volume(np.zeros((512, 512, 90), np.int16), np.diag([-0.78125, 0.78125, 5, 1]))
    assert repr(volume) == "Volume(512 x 512 x 90 int16, 0.7812 x 0.7812 x 5 mm, LAS, no header)"
    write_volume(tmp_path / "a.nii", Volume(np.ones((2, 3, 4), np.float32), np.eye(4)))
    assert repr(read_volume(tmp_path / "a.nii")) == "Volume(2 x 3 x 4 float32, 1 x 1 x 1 mm, RAS, Nifti1Header)"
