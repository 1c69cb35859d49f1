"""Folds trained in shares, side by side or on a cluster: the same models and scores as one after the other."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from fullscale.bundle.store import single_card
from fullscale.compare.run import CLAIM
from fullscale.config.load import load_config
from fullscale.ending import UNASKED
from fullscale.scoring.summary import Summary
from fullscale.training import folds
from fullscale.training.request import TrainRequest
from fullscale.work.shard import Shard
from tests.conftest import QUICK, Command
from tests.dask_cluster import PATIENCE_S, LocalCluster, local_cluster

pytestmark = pytest.mark.slow

SETTINGS = [*QUICK, "trainer.deterministic=true", "data.folds=3"]
ROWS = ["--networks", "unet,unet3+", "--folds", "1", "--steps-each", "2"]
OF_A_ROW = [setting for setting in SETTINGS if "epoch" not in setting]


@pytest.fixture(scope="module")
def in_turn(fullscale: Command, phantoms: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("in_turn") / "run"
    done = fullscale("train", phantoms, *SETTINGS, "--fold", "0-1", "--cache", cache, "-o", run)
    assert done.returncode == 0, done.stderr
    return run


@pytest.fixture(scope="module")
def compared(fullscale: Command, phantoms: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("compared") / "out"
    done = fullscale("compare", *ROWS, phantoms, *OF_A_ROW, "--cache", cache, "-o", output)
    assert done.returncode == 0, done.stderr
    return output


def same_run(one: Path, other: Path, folds: Sequence[str] = ("fold_0", "fold_1")) -> None:
    """Weights, masks and scores are equal; cards name the time of day."""
    for fold in folds:
        weights = [single_card(run / fold / "bundle").weights_sha256 for run in (one, other)]
        assert weights[0] == weights[1]
        masks = [{p.name: p.read_bytes() for p in (run / fold / "validation").glob("*.nii.gz")} for run in (one, other)]
        assert masks[0] == masks[1]
        assert masks[0]
    scores = [json.loads((run / "summary.json").read_text())["metric_per_case"] for run in (one, other)]
    assert scores[0] == scores[1]


def same_results(one: Path, other: Path) -> None:
    results = [json.loads((output / "results.json").read_text()) for output in (one, other)]
    for content in results:
        for row in content["rows"]:
            del row["step_s"]
    assert results[0] == results[1]


def test_shares_of_folds_are_the_run_of_one_command(
    fullscale: Command, in_turn: Path, phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = ("train", phantoms, *SETTINGS, "--fold", "0-1", "--cache", cache, "-o", run)
    assert fullscale(*command, "--shard", "3/3").returncode == 0  # two folds leave the third share without any
    assert fullscale(*command, "--shard", "1/3").returncode == 0
    gathered = fullscale("gather", run)
    assert (gathered.returncode, "missing: fold 1" in gathered.stdout) == (4, True)
    assert fullscale(*command, "--shard", "2/3").returncode == 0
    before = (run / "fold_1" / "last.ckpt").stat().st_mtime_ns
    assert fullscale(*command, "--shard", "2/3").returncode == 0
    assert (run / "fold_1" / "last.ckpt").stat().st_mtime_ns == before
    assert fullscale("gather", run).returncode == 0
    same_run(in_turn, run)
    shutil.rmtree(run / "fold_1")
    assert "missing: fold 1" in fullscale("gather", run).stdout
    assert fullscale(*command, "--shard", "2/3").returncode == 0
    same_run(in_turn, run)


def test_shares_of_a_comparison_are_joined_to_its_table(
    fullscale: Command, compared: Path, phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ("compare", *ROWS, phantoms, *OF_A_ROW, "--cache", cache, "-o", out)
    assert fullscale(*command, "--shard", "2/2").returncode == 0
    assert not (out / "results.json").exists()
    gathered = fullscale("gather", out)
    assert gathered.returncode == 4
    assert "missing: unet, fold 0" in gathered.stdout
    assert fullscale(*command, "--shard", "1/2").returncode == 0
    assert fullscale("gather", out).returncode == 0
    same_results(compared, out)
    assert (out / CLAIM).read_bytes() == (compared / CLAIM).read_bytes()


def test_folds_of_a_share_that_fail_are_tried_three_times(
    fullscale: Command, phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    broken = ["optimizer.learning_rate=1e30"]  # the loss becomes NaN
    command = ("train", phantoms, *SETTINGS, *broken, "--fold", "0-1", "--cache", cache, "-o", run, "--shard", "1/2")
    for _ in range(4):
        done = fullscale(*command)
        assert done.returncode == 4
        assert "failed: fold 0: " in done.stderr
    begun = b"".join(log.read_bytes() for log in (run / ".ledger").glob("*.log")).count(b"\tbegun\t")
    assert begun == 3


def test_a_share_hears_who_asks_it_to_end(
    phantoms: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[TrainRequest] = []
    monkeypatch.setattr(folds, "train", lambda request, _: heard.append(request))
    monkeypatch.setattr(folds, "read_summary", lambda _: Summary({}, {}))
    ending = type(UNASKED)()
    config = load_config(None, SETTINGS)
    request = TrainRequest(phantoms, tmp_path / "run", ("0", "1"), config, cache=cache, ending=ending)
    folds.train_folds(request, 1, Shard(2, 2))
    assert [(one.folds, one.ending is ending) for one in heard] == [(("1",), True)]


@pytest.mark.whole
@pytest.mark.long
def test_a_cluster_trains_the_same_and_a_training_that_kills_is_tried_three_times_and_reported(
    fullscale: Command, in_turn: Path, compared: Path, phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    with local_cluster(tmp_path, 2) as cluster:
        run, out = tmp_path / "run", tmp_path / "out"
        command = ("train", phantoms, *SETTINGS, "--fold", "0-1", "--cache", cache, "-o", run)
        done = fullscale(*command, "--dask", cluster.address)
        assert done.returncode == 0, done.stderr
        same_run(in_turn, run)
        command = ("compare", *ROWS, phantoms, *OF_A_ROW, "--cache", cache, "-o", out)
        done = fullscale(*command, "--dask", cluster.address)
        assert done.returncode == 0, done.stderr
        same_results(compared, out)

        _interrupt_a_slow_training(cluster, watched, phantoms, cache, tmp_path / "slow")

        (watched / "kill").touch()
        for _ in range(2):
            cluster.start_worker()
        command = ("train", phantoms, *SETTINGS, *_watched(watched), "--cache", cache, "-o", tmp_path / "killed")
        done = fullscale(*command, "--fold", "0", "--dask", cluster.address)
        assert done.returncode == 4
        assert "failed: fold 0: each worker that worked on it died" in done.stderr
        assert len(list(watched.glob("*.begun"))) == 3  # as the cluster of the tests allows


def _watched(folder: Path) -> list[str]:
    return ["augment.name=tests.training.watched:Watched", f"augment.folder={folder}"]


def _interrupt_a_slow_training(cluster: LocalCluster, watched: Path, phantoms: Path, cache: Path, run: Path) -> None:
    """Ctrl-C ends the command at once, and the training in its worker at its next step."""
    (watched / "slow").touch()
    arguments = ["train", phantoms, *SETTINGS, "trainer.max_epochs=100", *_watched(watched), "--cache", cache]
    client = subprocess.Popen(
        [sys.executable, "-m", "fullscale", *map(str, [*arguments, "-o", run, "--dask", cluster.address])],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + PATIENCE_S
    while not (begun := list(watched.glob("*.begun"))):
        assert time.monotonic() < deadline
        assert client.poll() is None
        time.sleep(0.1)
    client.send_signal(signal.SIGINT)
    told = client.communicate(timeout=PATIENCE_S)[1]
    assert client.returncode == 130, told
    while begun:
        for path in begun:
            path.unlink()
        time.sleep(4)
        assert time.monotonic() < deadline
        begun = list(watched.glob("*.begun"))
    (watched / "slow").unlink()
