"""What many tests share: the folder of real scans, a small phantom set, and a run trained on it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SMALL = {"size": 32, "slices": 14}
QUICK = [
    "network.width=4",
    "data.patch_size=[32,32]",
    "data.batch_size=4",
    "data.workers=0",
    "trainer.steps_per_epoch=4",
    "trainer.max_epochs=2",
    "trainer.device=cpu",
]
"""Settings with which a run takes seconds."""


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans: FULLSCALE_TEST_DATA, or ../shared/data beside the checkout."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FULLSCALE_TEST_DATA", default))
    if not (folder / "README.md").is_file():
        pytest.skip(f"no real scans at {folder}; set FULLSCALE_TEST_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six small labelled phantoms and one to segment, as a Medical Segmentation Decathlon folder."""
    from fullscale.data.phantom import write_dataset

    folder = tmp_path_factory.mktemp("data") / "phantoms"
    list(write_dataset(folder, 6, seed=3, test_cases=1, **SMALL))
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared cases, shared by the tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def trained_run(phantoms: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder whose network has seen a few steps: it predicts, not well."""
    from fullscale.config.load import load_config
    from fullscale.training.run import TrainRequest, train

    run = tmp_path_factory.mktemp("runs") / "run"
    train(TrainRequest(phantoms, run, config=load_config(None, QUICK), cache=cache))
    return run


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def fullscale() -> Command:
    """The command, run as a user runs it."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).with_name("fullscale"), *map(str, arguments)],
            capture_output=True,
            text=True,
            env=os.environ | environment,
            timeout=300,
            check=False,
        )

    return run
