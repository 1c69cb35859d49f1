"""Checkpoints: damage is noticed, the two files are one step, and a resumed run is an uninterrupted one."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fullscale.config.load import load_config
from fullscale.errors import DataError
from fullscale.progress import Progress, ignore
from fullscale.runfolder import FoldFolder, RunFolder
from fullscale.training.checkpoints import AtomicCheckpoints, Checkpoints, read_checkpoint
from fullscale.training.request import TrainRequest
from fullscale.training.run import train
from tests.conftest import QUICK


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def learned(row: dict[str, str]) -> dict[str, str]:
    """What a row of metrics says of the training, without what it took."""
    return {name: v for name, v in row.items() if not name.endswith("_s") and name != "augmentation_share"}


def small_state(epoch: int, best_epoch: int) -> dict[str, object]:
    callback = Checkpoints(FoldFolder(Path("fold_0")))
    callback.best_epoch, callback.best_score = best_epoch, 0.5
    weights = {"weight": torch.arange(400.0), "norm": torch.randn(30)}
    state = {"epoch": epoch, "global_step": 4 * (epoch + 1), "state_dict": weights}
    return state | {"callbacks": {callback.state_key: callback.state_dict()}}


def test_every_flipped_byte_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "fold_0" / "last.ckpt"
    AtomicCheckpoints().save_checkpoint(small_state(2, 1), path)
    whole, known = path.read_bytes(), read_checkpoint(path)
    refused = 0
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            assert same(read_checkpoint(path), known), place
        except DataError as error:
            refused += str(path) in str(error) and "\n" not in str(error)
    assert refused > len(whole) / 97 / 2


def test_a_run_killed_between_its_two_files_finds_the_best_again(tmp_path: Path) -> None:
    fold = FoldFolder(tmp_path / "fold_0")
    AtomicCheckpoints().save_checkpoint(small_state(0, 0), fold.best_checkpoint)
    AtomicCheckpoints().save_checkpoint(small_state(1, 1), fold.last_checkpoint)
    Checkpoints(fold).complete_pair()
    assert read_checkpoint(fold.best_checkpoint)["epoch"] == 1
    AtomicCheckpoints().save_checkpoint(small_state(2, 1), fold.last_checkpoint)
    Checkpoints(fold).complete_pair()
    assert read_checkpoint(fold.best_checkpoint)["epoch"] == 1
    fold.best_checkpoint.unlink()
    AtomicCheckpoints().save_checkpoint(small_state(3, 3), fold.last_checkpoint)
    Checkpoints(fold).complete_pair()
    assert read_checkpoint(fold.best_checkpoint)["epoch"] == 3
    assert sorted(path.name for path in fold.path.iterdir()) == ["best.ckpt", "last.ckpt"]


def test_a_checkpoint_is_written_beside_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    path = tmp_path / "fold_0" / "last.ckpt"
    AtomicCheckpoints().save_checkpoint(small_state(0, 0), path)
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
    before = path.read_bytes()
    monkeypatch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(Exception, match="No space left"):
        AtomicCheckpoints().save_checkpoint(small_state(1, 1), path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_generators_go_on_where_the_checkpoint_left_them(tmp_path: Path) -> None:
    import random

    import numpy as np

    fold = FoldFolder(tmp_path)
    path = tmp_path / "last.ckpt"
    state = Checkpoints(fold).state_dict()
    torch.save(state, path)
    expected = (torch.rand(3), np.random.rand(3), random.random())  # noqa: NPY002
    again = Checkpoints(fold)
    again.load_state_dict(torch.load(path, weights_only=True))
    again.on_train_start()
    assert torch.equal(torch.rand(3), expected[0])
    np.testing.assert_array_equal(np.random.rand(3), expected[1])  # noqa: NPY002
    assert random.random() == expected[2]


def test_a_copied_run_has_two_whole_files(tmp_path: Path) -> None:
    fold = FoldFolder(tmp_path / "a")
    AtomicCheckpoints().save_checkpoint(small_state(0, 0), fold.last_checkpoint)
    Checkpoints(fold).complete_pair()
    copied = FoldFolder(Path(shutil.copytree(fold.path, tmp_path / "b")))
    Checkpoints(copied).complete_pair()
    assert copied.best_checkpoint.read_bytes() == fold.best_checkpoint.read_bytes()


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(
    phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    settings = [*QUICK, "trainer.deterministic=true", "trainer.max_epochs=3", "optimizer.learning_rate=1e-3"]

    def stop(done: int, total: int, item: str) -> None:
        if "epoch 1" in item and done == total // 2:
            raise RuntimeError("stopped")

    def run(name: str, progress: Progress = ignore) -> FoldFolder:
        request = TrainRequest(phantoms, tmp_path / name, config=load_config(None, settings), cache=cache)
        train(replace(request, progress=progress))
        return RunFolder(tmp_path / name).fold(0)

    whole = run("whole")
    with pytest.raises(RuntimeError, match="stopped"):
        run("stopped", stop)
    torch.rand(7)  # whatever happens between the two
    resumed = run("stopped")
    for file in ("last_checkpoint", "best_checkpoint"):
        one, other = (read_checkpoint(getattr(fold, file)) for fold in (whole, resumed))
        assert one["epoch"] == other["epoch"]
        assert same(one["state_dict"], other["state_dict"])
    assert [learned(row) for row in csv.DictReader(whole.metrics.open())] == [
        learned(row) for row in csv.DictReader(resumed.metrics.open())
    ]


@pytest.mark.slow
def test_a_longer_budget_keeps_the_best_epoch_of_the_shorter_one(phantoms: Path, cache: Path, tmp_path: Path) -> None:
    def run(epochs: int, rate: float) -> FoldFolder:
        settings = [*QUICK, f"trainer.max_epochs={epochs}", f"optimizer.learning_rate={rate}"]
        train(TrainRequest(phantoms, tmp_path / "run", config=load_config(None, settings), cache=cache))
        return RunFolder(tmp_path / "run").fold(0)

    fold = run(1, 1e-12)
    state = read_checkpoint(fold.last_checkpoint)
    [kept] = [value for key, value in state["callbacks"].items() if key == Checkpoints(fold).state_key]
    kept["best_score"] = 2.0  # no later epoch can be better
    AtomicCheckpoints().save_checkpoint(state, fold.last_checkpoint)
    run(2, 1e-12)
    assert read_checkpoint(fold.last_checkpoint)["epoch"] == 1
    assert read_checkpoint(fold.best_checkpoint)["epoch"] == 0
