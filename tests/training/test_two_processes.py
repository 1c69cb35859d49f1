"""Two processes of one training against one process with their batches together."""

import csv
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from fullscale.runfolder import RunFolder
from tests.conftest import QUICK, Command

ADDITIVE = [
    *("network.name=strided-unet", "loss.name=focal", "trainer.deterministic=true", "trainer.precision=32"),
]
"""A norm of each image by itself and a mean over voxels: what batches together give is the mean of what each gives."""


@pytest.mark.slow
@pytest.mark.whole
def test_two_processes_have_the_curve_of_one_with_the_same_global_batch(
    process: Command, phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    curves, weights = [], []
    for devices, batch in ((1, 8), (2, 4)):
        run = RunFolder(tmp_path / str(devices))
        settings = [*QUICK, *ADDITIVE, f"trainer.devices={devices}", f"data.batch_size={batch}"]
        done = process("train", phantoms, "-o", run.path, "--cache", cache, *settings)
        assert done.returncode == 0, done.stderr
        curves.append(list(csv.DictReader(run.fold(0).metrics.open())))
        weights.append(load_file(run.fold(0).bundle / "model.safetensors"))
    for one, two in zip(*curves, strict=True):
        for name, tolerance in {"train_loss": 3e-4, "learning_rate": 0, "val_dice_mean": 2e-3}.items():
            assert float(two[name]) == pytest.approx(float(one[name]), rel=tolerance), name
    for name, values in weights[0].items():
        assert abs(values - weights[1][name]).max() < 5e-3, name
