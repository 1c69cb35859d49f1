"""Runs that are refused before any work is done."""

import shutil
from pathlib import Path

import pytest

from fullscale.config.load import load_config
from fullscale.errors import UsageError
from fullscale.training.request import TrainRequest
from fullscale.training.run import train
from tests.conftest import QUICK
from tests.training.test_run import request

pytestmark = pytest.mark.whole


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["network.width=-1"], "width is -1: expected a whole number of at least 1"),
        (["network.width=0"], "width is 0: expected a whole number of at least 1"),
        (["network.encoder=resnet-34"], "encoder"),
        (["network.encoder=resnet18", "network.pretrained=true", "network.init=somewhere"], "give one of them"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_any_scan_is_read(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: list[str], message: str
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("a scan was read")

    monkeypatch.setattr("fullscale.data.checks.inspect_case", read)
    quick = [text for text in QUICK if not text.startswith("network.width")]
    asked = TrainRequest(phantoms, tmp_path / "run", config=load_config(None, [*quick, *settings]))
    with pytest.raises(UsageError, match=f"(?s){message}"):
        train(asked)
    assert not (tmp_path / "run").exists()


def test_a_folder_of_someone_else_is_no_run(phantoms: Path, cache: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(phantoms, data)
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=r"dataset\.json is there and belongs to no run"):
        train(request(data, data, cache))
    for name in ("plan.json", "bundle/notes.txt", "fold_0/notes.txt", "summary.json"):
        other = tmp_path / name.replace("/", "_")
        (other / name).parent.mkdir(parents=True)
        (other / name).write_text("{}")
        with pytest.raises(UsageError, match="belongs to no run; choose another run folder"):
            train(request(data, other, cache))
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before
