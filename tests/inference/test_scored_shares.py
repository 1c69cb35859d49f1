"""Masks and models scored in shares: joined, they are what one command writes; what is done is not done again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fullscale.inference import scored
from fullscale.scoring import evaluate
from fullscale.work.ledger import TRIES
from tests.conftest import Command


@pytest.fixture
def data(phantoms: Path, tmp_path: Path) -> Path:
    """Phantoms, of which one has a label that cannot be read."""
    folder = tmp_path / "data"
    shutil.copytree(phantoms, folder)
    (folder / "labelsTr" / "phantom_001.nii.gz").write_text("junk")
    return folder


def same(one: Path, other: Path) -> None:
    """Both folders hold the same masks and the same scores; the name of the folder itself is in these."""
    names = [{p.name for p in folder.iterdir() if not p.name.startswith(".")} for folder in (one, other)]
    assert names[0] == names[1]
    for name in names[0]:
        contents = [(folder / name).read_bytes() for folder in (one, other)]
        if name.endswith(".json"):
            contents = [json.dumps(json.loads(c) | {"masks": None}).encode() for c in contents]
        assert contents[0] == contents[1], name


def counted(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[str]:
    """Count the calls of a function."""
    calls: list[str] = []
    original: Callable[..., Any] = getattr(module, name)

    def counting(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        return original(*arguments, **options)

    monkeypatch.setattr(module, name, counting)
    return calls


def test_shares_of_a_test_are_joined_to_what_one_command_writes(
    fullscale: Command, data: Path, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, shares = tmp_path / "whole", tmp_path / "shares"
    command = ("test", trained_run, data, "--device", "cpu", "--tolerance-mm", "2")
    assert fullscale(*command, "-o", whole).returncode == 4  # of the label that cannot be read
    codes = [fullscale(*command, "-o", shares, "--shard", f"{k}/3", "--jobs", "1").returncode for k in (1, 2)]
    assert set(codes) <= {0, 4}
    missing = fullscale("gather", shares, "--json")
    assert missing.returncode == 4
    told = json.loads(missing.stdout)
    assert 0 < len(told["missing"]) < 6
    segmented, measured = counted(monkeypatch, scored, "predict_guided"), counted(monkeypatch, evaluate, "score_case")
    for k in (1, 2, 3):
        fullscale(*command, "-o", shares, "--shard", f"{k}/3", "--jobs", "1")
    assert len(segmented) == len(told["missing"])
    assert len(measured) <= len(told["missing"])
    status = fullscale("status", shares).stdout
    assert "masks of test: 5 of an unknown number are done, 1 failed" in status
    assert "scores of test: 5 of an unknown number are done, 0 failed" in status
    gathered = fullscale("gather", shares)
    assert gathered.returncode == 0, gathered.stderr
    assert "phantom_001" in gathered.stderr
    same(whole, shares)
    other = fullscale(*command, "-o", shares, "--shard", "1/3", "--labels", "1=liver")
    assert other.returncode == 2
    assert "was begun with another labels" in other.stderr


def test_shares_of_an_evaluation_are_joined_and_what_changed_is_scored_again(
    fullscale: Command, data: Path, trained_run: Path, tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    assert fullscale("predict", trained_run, data / "imagesTr", "-o", masks, "--device", "cpu").returncode == 0
    (masks / "phantom_005.nii.gz").unlink()
    shutil.copy(masks / "phantom_000.nii.gz", masks / "other.nii.gz")
    command = ("evaluate", masks, data, "--model", trained_run)
    assert fullscale(*command, "-o", tmp_path / "whole" / "summary.json").returncode == 4
    out = tmp_path / "shares"
    for _ in range(TRIES + 1):
        ends = [fullscale(*command, "-o", out / "summary.json", "--shard", f"{k}/2").returncode for k in (1, 2)]
        assert sorted(ends) == [0, 4]
    assert fullscale("gather", out).returncode == 0
    same(tmp_path / "whole", out)
    shutil.copy(masks / "phantom_003.nii.gz", masks / "phantom_002.nii.gz")
    gathered = fullscale("gather", out)
    assert gathered.returncode == 4
    assert "missing: phantom_002" in gathered.stdout


def test_masks_that_a_share_did_not_write_are_left_alone(
    fullscale: Command, phantoms: Path, trained_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ("test", trained_run, phantoms, "-o", out, "--device", "cpu", "--shard", "1/1")
    out.mkdir()
    (out / "phantom_000.nii.gz").write_bytes(b"someone's")
    done = fullscale(*command)
    assert done.returncode == 4
    assert "phantom_000.nii.gz is there and was not written by this command" in done.stderr
    assert (out / "phantom_000.nii.gz").read_bytes() == b"someone's"
    assert fullscale(*command, "--overwrite").returncode == 0
    assert fullscale("gather", out).returncode == 0
    for request in out.glob(".*/request.json"):
        whole = request.read_text()
        for damaged in ("[]", "{}", whole.replace("test", "nothing"), whole.replace("null", "5"), whole[:-9]):
            request.write_text(damaged)
            refused = fullscale("gather", out)
            assert refused.returncode == 3, refused.stderr
            assert str(request) in refused.stderr
        request.write_text(whole)
    assert fullscale("gather", out).returncode == 0


@pytest.mark.parametrize("option", ["--against", "--anonymise"])
def test_what_concerns_all_cases_is_refused_of_a_share(fullscale: Command, tmp_path: Path, option: str) -> None:
    done = fullscale("evaluate", tmp_path, tmp_path, option, tmp_path / "x", "--shard", "1/2")
    assert (done.returncode, option in done.stderr) == (2, True)
    assert fullscale("evaluate", tmp_path / "none", tmp_path, "-o", tmp_path / "o.json", "--shard", "1/2").returncode
    assert list(tmp_path.iterdir()) == []


def test_evaluate_takes_over_what_the_masks_of_an_archive_hold(
    fullscale: Command, phantoms: Path, trained_run: Path, tmp_path: Path
) -> None:
    for how, options in (("plain", ()), ("archive", ("--archive",))):
        out = tmp_path / how
        done = fullscale("predict", trained_run, phantoms / "imagesTr", "-o", out, "--device", "cpu", *options)
        assert done.returncode == 0, done.stderr
        done = fullscale("evaluate", out, phantoms / "labelsTr")
        assert done.returncode == 0, done.stderr
        assert "scored as the model that made the masks has it: " in done.stderr
    (tmp_path / "plain" / "predictions.json").unlink()  # of an archive the ledger says it
    same(tmp_path / "plain", tmp_path / "archive")
