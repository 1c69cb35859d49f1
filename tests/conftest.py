"""What many tests share: the folder of real scans, a small phantom set, and a run trained on it.

With pytest-xdist every worker is a process with its own session. What is slow to make is made by the first worker that
needs it, and found by the others.
"""

import atexit
import gc
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from tests.faults.commands import Zygote

# Each worker, and every command that it starts, keeps to its share of the cores. Set before torch is loaded.
SHARE = max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
os.environ.setdefault("OMP_NUM_THREADS", str(SHARE))

# No test touches the user's cache. Workers inherit the folder from the process that starts them.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["FULLSCALE_CACHE"] = tempfile.mkdtemp(prefix="fullscale-tests-")
    atexit.register(shutil.rmtree, os.environ["FULLSCALE_CACHE"], ignore_errors=True)

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


NOT_QUICK = {"slow", "whole", "faults"}
"""Marks of tests that --quick leaves out; pyproject.toml says what they mean."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="what a save can break at once: see NOT_QUICK")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --quick, leave out what is marked as NOT_QUICK, real scans, and all cases of a test but its first."""
    if not config.getoption("quick"):
        return
    kept: dict[str, pytest.Item] = {}
    for item in items:
        if not NOT_QUICK & set(item.keywords) and "shared_data" not in item.fixturenames:
            kept.setdefault(item.nodeid.partition("[")[0], item)
    chosen = set(kept.values())
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = kept.values()


def pytest_collection_finish() -> None:
    """Leave the libraries and the tests themselves out of every later search for garbage: it is half a second each."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let the libraries be taken down in their order."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans: FULLSCALE_TEST_DATA, or ../shared/data beside the checkout."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FULLSCALE_TEST_DATA", default))
    if not (folder / "README.md").is_file():
        pytest.skip(f"no real scans at {folder}; set FULLSCALE_TEST_DATA to their folder")
    return folder


Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """once(name, make): the folder that make(folder) fills, made once for all workers. Tests only read it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # a worker's folder stands in that of the whole session
        shared = shared.parent

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = shared / "shared" / name, shared / "shared" / f"{name}.done"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # the worker that began it failed
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def phantoms(once: Once) -> Path:
    """Six small labelled phantoms and one to segment, as a Medical Segmentation Decathlon folder."""
    from fullscale.data.phantom import write_dataset

    return once("phantoms", lambda folder: list(write_dataset(folder, 6, seed=3, test_cases=1, **SMALL)))


@pytest.fixture(scope="session")
def cache(once: Once) -> Path:
    """Prepared cases, shared by the tests: any of them may add to it."""
    return once("cache", Path.mkdir)


@pytest.fixture(scope="session")
def trained_run(phantoms: Path, cache: Path, once: Once) -> Path:
    """A run folder whose network has seen a few steps: it predicts, not well."""
    from fullscale.config.load import load_config
    from fullscale.training.request import TrainRequest
    from fullscale.training.run import train

    return once("run", lambda run: train(TrainRequest(phantoms, run, config=load_config(None, QUICK), cache=cache)))


@pytest.fixture(scope="session")
def shallow_bundle(trained_run: Path, once: Once) -> Path:
    """The model of `trained_run` in the paper's form, with three levels and fresh weights.

    Three are traced in a third of the time of five.
    """

    import torch

    from fullscale.bundle.card import read_card
    from fullscale.bundle.store import save_bundle

    def make(bundle: Path) -> None:
        card = read_card(trained_run / "bundle" / "model.json")
        card.options = card.options | {"levels": 3, "fusion": "paper", "skip_channels": 4}
        torch.manual_seed(0)
        save_bundle(bundle, card, card.build().state_dict())

    return once("shallow_bundle", make)


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def fullscale() -> Command:
    """The command, in this process: a fresh one spends seconds on loading torch, which most tests are not about.

    It takes one core as its own, so that it works on cases in this process too, unless the test gives `--jobs`.
    """

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        from fullscale.cli.app import run as run_command
        from fullscale.cli.stop import Stop
        from fullscale.work import machine

        command = ["fullscale", *map(str, arguments)]
        output, errors = StringIO(), StringIO()
        with (
            patch.object(sys, "argv", command),
            patch.dict(os.environ, environment),
            patch.object(machine, "cores", lambda: 1),
            redirect_stdout(output),
            redirect_stderr(errors),
        ):
            try:
                run_command(Stop())
                code = 0
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        return subprocess.CompletedProcess(command, code, output.getvalue(), errors.getvalue())

    return run


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Zygote"]:
    """Starts commands that can be killed, without loading everything anew for each."""
    from tests.faults.commands import Zygote

    started = Zygote(tmp_path_factory.mktemp("zygote"))
    yield started
    started.close()


@pytest.fixture(scope="session")
def process() -> Command:
    """The command as a user runs it: the installed program, in a process of its own."""

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
