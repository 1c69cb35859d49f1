"""Minutes of processor time: sleeping costs none, the loader's processes count, and a run that goes on adds up."""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fullscale.config.load import load_config
from fullscale.config.schema import OptimizerConfig, TrainerConfig
from fullscale.progress import ignore
from fullscale.runfolder import RunFolder
from fullscale.training.budget import Budget
from fullscale.training.checkpoints import read_checkpoint
from fullscale.training.clock import Cost, LoaderTimes, TimedAugmentation
from fullscale.training.request import TrainRequest
from fullscale.training.run import train
from tests.conftest import QUICK

pytestmark = pytest.mark.whole


def busy(seconds: float) -> None:
    started = time.process_time()
    while time.process_time() - started < seconds:
        pass


class Busy:
    """Takes 0.02 s of processor time, and 0.05 s asleep."""

    def __call__(
        self, image: npt.NDArray[np.float32], label: npt.NDArray[np.uint8], seed: int
    ) -> tuple[Tensor, Tensor]:
        del seed
        busy(0.02)
        time.sleep(0.05)
        return torch.from_numpy(image), torch.from_numpy(label).long()


class Crops(Dataset[Tensor]):
    """Each crop takes 0.01 s besides its augmentation."""

    def __init__(self, augment: TimedAugmentation) -> None:
        self.augment = augment

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Tensor:
        busy(0.01)
        return self.augment(np.zeros((1, 2, 2), np.float32), np.zeros((2, 2), np.uint8), index)[0]


@pytest.mark.parametrize(
    ("workers", "start"), [(0, None), (2, "fork"), pytest.param(1, "spawn", marks=pytest.mark.slow)]
)
def test_crops_are_counted_wherever_they_are_prepared_and_sleep_is_not(workers: int, start: str | None) -> None:
    times = LoaderTimes(workers)
    crops = Crops(TimedAugmentation(Busy(), times))
    loader = DataLoader(crops, batch_size=2, num_workers=workers, multiprocessing_context=start)
    before = times.now()
    for _ in range(2):  # processes that are started anew go on counting
        list(loader)
    spent = times.now().since(before)
    assert 16 * 0.02 <= spent.augmentation_s < 16 * 0.02 + 0.2
    assert spent.processor_s > 16 * 0.03
    if workers == 0:
        assert spent.wall_s > 16 * 0.05 + spent.processor_s / 2
    assert os.times().children_user < 1000


def budget(clock: str, minutes: float = 1.0) -> Budget:
    trainer = TrainerConfig.model_validate({"max_minutes": minutes, "clock": clock})
    return Budget(trainer, OptimizerConfig(), LoaderTimes(0))


def test_sleep_spends_minutes_on_the_wall_and_none_of_the_processor() -> None:
    wall, processor = budget("wall"), budget("processor")
    for one in (wall, processor):
        one.on_train_start()
    time.sleep(0.6)
    assert 60 * wall.progress(0) >= 0.6
    assert 60 * processor.progress(0) < 0.3
    busy(0.5)
    assert 60 * processor.progress(0) >= 0.5


@pytest.mark.parametrize(("clock", "spent"), [("wall", 0.5), ("processor", 0.75)])
def test_a_run_that_goes_on_has_spent_what_its_checkpoint_says(clock: str, spent: float) -> None:
    first = budget(clock)
    first.earlier = Cost(30.0, 45.0, 9.0)
    again = budget(clock)
    again.load_state_dict(first.state_dict())
    assert again.progress(0) == pytest.approx(spent)
    again.on_train_start()
    busy(0.1)
    assert again.spent_s >= 60 * spent + 0.1


def test_a_checkpoint_without_processor_time_is_taken() -> None:
    old = budget("wall")
    old.load_state_dict({"elapsed_s": 30})
    assert old.progress(0) == pytest.approx(0.5)


def test_a_run_on_processor_time_ends_by_it_and_says_so(
    phantoms: Path, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = [*QUICK, "trainer.clock=processor", "trainer.max_minutes=0.02", "trainer.max_epochs=null"]

    def sleepy(*_: object) -> None:
        time.sleep(0.3)

    request = TrainRequest(phantoms, tmp_path / "run", config=load_config(None, settings), cache=cache, progress=ignore)
    with caplog.at_level("INFO", "fullscale"):
        train(replace(request, progress=sleepy))
    [line, *_] = [record.getMessage() for record in caplog.records if "validation Dice" in record.getMessage()]
    assert "of processor time, augmentation" in line
    state = read_checkpoint(RunFolder(tmp_path / "run").fold(0).last_checkpoint)
    [spent] = [value for value in state["callbacks"].values() if "processor_s" in value]
    assert spent["processor_s"] >= 0.02 * 60
    assert spent["elapsed_s"] > spent["processor_s"]
