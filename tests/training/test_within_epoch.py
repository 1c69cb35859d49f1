"""A training that ends within an epoch: a checkpoint is written there, and goes on as if nothing had been."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from fullscale.config.load import load_config
from fullscale.progress import Progress, ignore
from fullscale.runfolder import FoldFolder, RunFolder
from fullscale.training import module
from fullscale.training.checkpoints import is_validated, read_checkpoint
from fullscale.training.module import dice_per_structure
from fullscale.training.request import TrainRequest
from fullscale.training.run import train
from tests.conftest import QUICK
from tests.training.test_checkpoints import learned, same

pytestmark = [pytest.mark.slow, pytest.mark.whole]

SIGUSR1 = 10
STEPS = 4


class Asking:
    """Asks for the end at a step of an epoch, or in the middle of the validation after it."""

    def __init__(self, epoch: int, step: int | None) -> None:
        self.at = (epoch, step)
        self.epoch = 0
        self.asked = 0
        self.ended = 0

    @contextmanager
    def postponed(self) -> Iterator[None]:
        yield

    def now(self, asked: int) -> NoReturn:
        self.ended = asked
        raise KeyboardInterrupt

    def progress(self, done: int, total: int, item: str) -> None:
        """Hear of a step."""
        assert total == STEPS
        self.epoch = int(item.partition("epoch ")[2].partition(",")[0])
        if (self.epoch, done) == self.at:
            self.asked = SIGUSR1

    def scored(self, *arguments: Any) -> list[float]:
        """Score a case, and ask then."""
        if (self.epoch, None) == self.at:
            self.asked = SIGUSR1
        return dice_per_structure(*arguments)


@pytest.fixture
def request_(phantoms: Path, cache: Path, tmp_path: Path) -> TrainRequest:
    settings = [*QUICK, f"trainer.steps_per_epoch={STEPS}", "trainer.max_epochs=3", "trainer.deterministic=true"]
    config = load_config(None, [*settings, "optimizer.learning_rate=1e-3"])
    return TrainRequest(phantoms, tmp_path / "whole", config=config, cache=cache)


def with_settings(request: TrainRequest, **trainer: object) -> TrainRequest:
    changed = request.config.trainer.model_copy(update=trainer)
    return replace(request, config=request.config.model_copy(update={"trainer": changed}))


def train_fold(request: TrainRequest, name: str, progress: Progress = ignore) -> FoldFolder:
    request = replace(request, run=request.run.parent / name, progress=progress)
    train(request)
    return RunFolder(request.run).fold(0)


def require_same(one: FoldFolder, other: FoldFolder) -> None:
    """Hold the weights, the optimiser and the curve of two folds against each other, and which epoch was best."""
    for file in ("last_checkpoint", "best_checkpoint"):
        states = [read_checkpoint(getattr(fold, file)) for fold in (one, other)]
        for key in ("epoch", "global_step", "state_dict", "optimizer_states", "current_model_state"):
            assert same(*(state.get(key) for state in states)), (file, key)
    rows = [list(csv.DictReader(fold.metrics.open())) for fold in (one, other)]
    assert [learned(row) for row in rows[0]] == [learned(row) for row in rows[1]]


@pytest.mark.parametrize(("workers", "ema"), [(0, 0.9), pytest.param(1, None, marks=pytest.mark.long)])
def test_asked_to_end_anywhere_it_ends_with_the_weights_of_an_uninterrupted_one(
    workers: int, ema: float | None, request_: TrainRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = request_.config.data.model_copy(update={"workers": workers})
    request = with_settings(request_, ema=ema)
    request = replace(request, config=request.config.model_copy(update={"data": data}))
    whole = train_fold(request, "whole")
    before = 0
    for epoch, step in [(0, 2), (0, STEPS), (1, None), (2, 1), (2, None)]:
        asking = Asking(epoch, step)
        asking.epoch = before  # the validation of that one may come first
        monkeypatch.setattr(module, "dice_per_structure", asking.scored)
        with pytest.raises(KeyboardInterrupt):
            train_fold(replace(request, ending=asking), "stopped", asking.progress)
        assert asking.ended == SIGUSR1
        state = read_checkpoint(RunFolder(request.run.parent / "stopped").fold(0).last_checkpoint)
        assert not is_validated(state)
        assert (state["epoch"], state["global_step"]) == (epoch, STEPS * epoch + (step or STEPS))
        before = epoch
        torch.rand(7)  # whatever happens between the two
    monkeypatch.setattr(module, "dice_per_structure", dice_per_structure)
    require_same(whole, train_fold(request, "stopped"))


def test_killed_within_an_epoch_it_loses_no_more_than_the_minutes_that_are_set(request_: TrainRequest) -> None:
    whole = train_fold(request_, "whole")
    kept = with_settings(request_, checkpoint_minutes=1e-9)

    def stop(done: int, total: int, item: str) -> None:
        if "epoch 1" in item and done == total - 1:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        train_fold(kept, "stopped", stop)
    fold = RunFolder(request_.run.parent / "stopped").fold(0)
    assert read_checkpoint(fold.last_checkpoint)["global_step"] == 2 * STEPS - 2
    assert read_checkpoint(fold.best_checkpoint)["epoch"] == 0
    require_same(whole, train_fold(kept, "stopped"))


def test_a_checkpoint_before_validation_is_not_taken_for_a_finished_training(request_: TrainRequest) -> None:
    asking = Asking(2, STEPS)
    with pytest.raises(KeyboardInterrupt):
        train_fold(replace(request_, ending=asking), "stopped", asking.progress)
    fold = train_fold(request_, "stopped")
    assert len(list(csv.DictReader(fold.metrics.open()))) == 3
    assert is_validated(read_checkpoint(fold.last_checkpoint))
    before = fold.last_checkpoint.stat().st_mtime_ns
    train_fold(request_, "stopped")
    assert fold.last_checkpoint.stat().st_mtime_ns == before
