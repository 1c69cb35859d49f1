"""A structure that no training case of a fold holds is named before the first fold is trained, whichever fold it is."""

from pathlib import Path

import numpy as np
import pytest

from fullscale.config.load import load_config
from fullscale.data.volume_files import write_volume
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume
from fullscale.training import run as training
from fullscale.training.request import TrainRequest
from tests.conftest import QUICK


def write_cases(root: Path) -> Path:
    """Four cases with a liver, of which the first alone has a spleen."""
    rng = np.random.default_rng(0)
    for number in range(4):
        mask = np.zeros((32, 32, 6), np.uint8)
        mask[4:14, 4:14, 1:5] = 1
        mask[20:28, 20:28, 1:5] = 2 if number == 0 else 0
        scan = rng.normal(size=mask.shape).astype(np.float32)
        write_volume(root / f"images/c{number}.nii.gz", Volume(scan, np.eye(4)))
        write_volume(root / f"labels/c{number}.nii.gz", Volume(mask, np.eye(4)))
    return root


@pytest.mark.parametrize("folds", [("0", "1"), ("1", "0")])
def test_it_is_said_of_every_fold_before_the_first(
    folds: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_training(*_: object) -> None:
        raise DataError("it begins")

    monkeypatch.setattr(training, "fit", no_training)
    named = ["data.labels={1: liver, 2: spleen}", "data.folds=2", "data.view=slices"]
    request = TrainRequest(
        write_cases(tmp_path / "set"),
        tmp_path / "run",
        folds=folds,
        config=load_config(None, [*QUICK, *named]),
        cache=tmp_path / "cache",
    )
    with pytest.raises(DataError, match="it begins"):
        training.train(request)
    said = [record.getMessage() for record in caplog.records if "no training case holds spleen" in record.getMessage()]
    assert len(said) == 1
