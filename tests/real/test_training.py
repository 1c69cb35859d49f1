"""A short training on real MRI learns, and its masks lie on the grids of the files."""

from pathlib import Path

import nibabel as nib
import numpy as np

from fullscale.config.load import load_config
from fullscale.training.request import TrainRequest
from fullscale.training.run import train
from tests.conftest import QUICK
from tests.training.test_run import LEARNING


def test_a_short_training_on_real_hippocampi_learns(shared_data: Path, cache: Path, tmp_path: Path) -> None:
    folder = shared_data / "Task04_Hippocampus"
    names = sorted(path.name for path in (folder / "imagesTr").glob("*.nii.gz"))[:12]
    listed = tmp_path / "hippocampus.csv"
    rows = [f"{folder}/imagesTr/{name},{folder}/labelsTr/{name}" for name in names]
    listed.write_text("image,label\n" + "\n".join(rows))
    config = load_config(None, [*QUICK, *LEARNING, "data.patch_size=[64,48]"])
    summary = train(TrainRequest(listed, tmp_path / "run", config=config, cache=cache))
    assert (summary.foreground_mean()["Dice"] or 0) > 0.6
    for case in summary.cases:
        mask, truth = nib.load(case.prediction_file), nib.load(folder / "labelsTr" / case.reference_file.name)
        np.testing.assert_allclose(mask.affine, truth.affine, atol=1e-6)
        assert mask.shape == truth.shape
