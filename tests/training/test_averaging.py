"""Averaged weights: the formula step by step, what is validated and handed over, and a run that goes on."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import WeightAveraging
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from fullscale.config.load import load_config
from fullscale.progress import Progress, ignore
from fullscale.runfolder import FoldFolder, RunFolder
from fullscale.training.averaging import averaged_weights
from fullscale.training.checkpoints import read_checkpoint
from fullscale.training.request import TrainRequest
from fullscale.training.run import train
from tests.conftest import QUICK

pytestmark = pytest.mark.whole

AVERAGED = [*QUICK, "trainer.ema=0.9", "trainer.deterministic=true", "trainer.max_epochs=3"]


def test_equals_the_formula_step_by_step() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    averaged = AveragedModel(model, use_buffers=True, **averaged_weights(0.5)._kwargs)
    expected: dict[str, torch.Tensor] = {}
    for step in range(12):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(4, 3))
        averaged.update_parameters(model)
        keep = min(0.5, (1 + step) / (10 + step)) if step else 0.0
        for name, value in model.state_dict().items():
            mixed = keep * expected.get(name, 0) + (1 - keep) * value
            expected[name] = mixed if value.is_floating_point() else value.clone()
    for name, value in averaged.module.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    assert int(averaged.module[1].num_batches_tracked) == 12


def run(
    phantoms: Path, cache: Path, folder: Path, settings: list[str] = AVERAGED, progress: Progress = ignore
) -> FoldFolder:
    request = TrainRequest(phantoms, folder, config=load_config(None, settings), cache=cache)
    train(replace(request, progress=progress))
    return RunFolder(folder).fold(0)


def test_what_is_validated_and_handed_over_is_the_average_and_training_goes_on_from_its_own(
    phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    fold = run(phantoms, cache, tmp_path / "whole")
    state = read_checkpoint(fold.best_checkpoint)
    averaged, trained = state["state_dict"], state["current_model_state"]
    handed_over = load_file(fold.bundle / "model.safetensors")
    for name, value in handed_over.items():
        torch.testing.assert_close(value, averaged[f"network.{name}"], rtol=0, atol=0)
    assert any(not torch.equal(averaged[name], trained[name]) for name in averaged)

    def stop(done: int, total: int, item: str) -> None:
        if "epoch 1" in item and done == total // 2:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        run(phantoms, cache, tmp_path / "stopped", progress=stop)
    resumed = run(phantoms, cache, tmp_path / "stopped")
    one, other = (read_checkpoint(f.last_checkpoint) for f in (fold, resumed))
    for part in ("state_dict", "current_model_state", "averaging_state"):
        assert one[part].keys() == other[part].keys()
        assert all(torch.equal(one[part][name], other[part][name]) for name in one[part]), part


def test_it_is_off_unless_it_is_asked_for(trained_run: Path) -> None:
    assert "averaging_state" not in read_checkpoint(RunFolder(trained_run).fold(0).last_checkpoint)
    assert isinstance(averaged_weights(0.99), WeightAveraging)
