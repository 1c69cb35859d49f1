"""A model trained on phantoms, and a scan that it has not seen."""

from pathlib import Path

import pytest

from fullscale.data.volume_files import read_volume
from fullscale.geometry.volume import Volume
from fullscale.inference.predictor import Predictor


@pytest.fixture(scope="module")
def predictor(trained_run: Path) -> Predictor:
    return Predictor.from_run(trained_run, device="cpu")


@pytest.fixture(scope="module")
def scan(phantoms: Path) -> Volume:
    return read_volume(phantoms / "imagesTs" / "phantom_006.nii.gz")
