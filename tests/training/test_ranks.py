"""Several processes of one training: they find their places, do what one process does, and one of them speaks."""

import csv
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from fullscale.config.load import load_config
from fullscale.errors import UsageError
from fullscale.runfolder import RunFolder
from fullscale.training.group import join
from fullscale.training.request import TrainRequest
from fullscale.training.run import train
from fullscale.work.ranks import Ranks
from tests.conftest import QUICK
from tests.faults.commands import Ended, Zygote, litter

EXACT = [
    *(*QUICK, "network.name=tests.training.float64_net:Float64Net", "loss.name=focal", "trainer.precision=32"),
    *(
        "trainer.deterministic=true",
        "trainer.steps_per_epoch=3",
        "data.validation=[phantom_000,phantom_003,phantom_005]",
    ),
]
"""The mean over a batch is the mean of its parts' means: a norm of each image by itself, a loss by voxels, float64."""
TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
SRUN = {
    "SLURM_PROCID": "5",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_NTASKS": "8",
    "SLURM_JOB_ID": "7",
    "SLURM_NODEID": "1",
}


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def torchrun(size: int) -> list[dict[str, str]]:
    """What torchrun puts into the environment of each rank."""
    shared = {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size)}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]


def srun(size: int) -> list[dict[str, str]]:
    """What Slurm puts into the environment of each task of a step on one machine."""
    shared = {"SLURM_STEP_NUM_TASKS": str(size), "SLURM_STEP_NUM_NODES": "1", "SLURM_JOB_ID": free_port()}
    shared |= {"SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "127.0.0.1"}
    return [shared | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in range(size)]


def together(zygote: Zygote, environments: list[dict[str, str]], *arguments: object) -> list[Ended]:
    """Run a command once in each environment, side by side."""
    running = [zygote.start(*arguments, **environment) for environment in environments]
    return [one.wait() for one in running]


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, Ranks()),
        (TORCHRUN, Ranks(5, 8, 1, 4)),
        (SRUN, Ranks(5, 8, 1, 4)),
        (SRUN | TORCHRUN | {"RANK": "4", "LOCAL_RANK": "0"}, Ranks(4, 8, 0, 4)),
        ({"RANK": "2", "WORLD_SIZE": "3"}, Ranks(2, 3, 0, 1)),
        ({"RANK": "2", "WORLD_SIZE": "3", "LOCAL_RANK": "2"}, Ranks(2, 3, 2, 3)),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, Ranks()),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, Ranks()),
    ],
    ids=[
        "none",
        "torchrun",
        "srun",
        "torchrun in a job",
        "by hand",
        "by hand on one machine",
        "a batch script",
        "one task",
    ],
)
def test_the_place_is_read_from_the_environment(environment: Mapping[str, str], place: Ranks) -> None:
    assert Ranks.of_environment(environment) == place


def test_two_machines_of_four() -> None:
    assert Ranks.of_environment(SRUN).machines == 2


@pytest.mark.parametrize(
    "wrong", [{"RANK": "8"}, {"RANK": "-1"}, {"WORLD_SIZE": "7"}, {"LOCAL_RANK": "4"}, {"WORLD_SIZE": ""}], ids=str
)
def test_a_place_that_cannot_be_is_refused(wrong: Mapping[str, str]) -> None:
    with pytest.raises(UsageError, match=r"RANK|SIZE|Ranks"):
        Ranks.of_environment(TORCHRUN | wrong)


@pytest.mark.slow
@pytest.mark.whole
def test_two_processes_do_what_one_does_with_the_same_global_batch(
    zygote: Zygote, phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    curves, weights, files = [], [], []
    for name, environments, batch in (("one", [{}], 4), ("torchrun", torchrun(2), 2), ("srun", srun(2), 2)):
        run = RunFolder(tmp_path / name)
        settings = ["--cache", cache, *EXACT, f"data.batch_size={batch}"]
        first, *others = together(zygote, environments, "train", phantoms, "-o", run.path, *settings)
        assert first.code == 0, first.stderr
        assert [(other.code, other.stdout, other.stderr) for other in others] == [(0, "", "")] * len(others)
        assert len(others) == first.stderr.count("2 processes: a batch of 2 crops each, 4 in all; the learning rate")
        assert litter(run.path) == []
        curves.append(list(csv.DictReader(run.fold(0).metrics.open())))
        weights.append(load_file(run.fold(0).bundle / "model.safetensors"))
        files.append(
            {str(path.relative_to(run.path)) for path in run.path.rglob("*") if "tensorboard" not in path.parts}
        )
    assert files[0] == files[1] == files[2]
    for one, *others in zip(*curves, strict=True):
        for other in others:
            assert other["val_dice_mean"] == one["val_dice_mean"]
            assert float(other["train_loss"]) == pytest.approx(float(one["train_loss"]), rel=1e-5)  # six digits
    for name, values in weights[0].items():
        for other in weights[1:]:
            assert abs(values - other[name]).max() < 1e-12, name


@pytest.mark.slow
@pytest.mark.whole
@pytest.mark.parametrize(("killed", "left"), [(1, 0), pytest.param(0, 1, marks=pytest.mark.long)])
def test_a_rank_that_is_killed_is_named_and_the_same_command_goes_on(
    killed: int, left: int, zygote: Zygote, phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    command = ("train", phantoms, "-o", run.path, "--cache", cache, *QUICK, "trainer.steps_per_epoch=25")
    running = [zygote.start(*command, **environment) for environment in torchrun(2)]
    while not run.fold(0).last_checkpoint.exists():
        time.sleep(0.01)
    at = time.monotonic()
    assert running[killed].end_after(0, signal.SIGKILL).code == -signal.SIGKILL
    ended = running[left].wait()
    assert time.monotonic() - at < 30
    assert ended.code == 1, ended.stderr
    lines = [line for line in ended.stderr.splitlines() if line.startswith("fullscale: ")]
    [line] = lines
    assert line.startswith(f"fullscale: rank {killed} of 2 (process {running[killed].pid} on ")
    assert "is gone" in line
    assert "Traceback" not in ended.stderr
    again = together(zygote, torchrun(2), *command)
    assert [one.code for one in again] == [0, 0]
    assert "going on from" in again[0].stderr
    assert litter(run.path) == []
    assert [row["step"] for row in csv.DictReader(run.fold(0).metrics.open())] == ["25", "50"]


@pytest.mark.slow
@pytest.mark.whole
def test_ranks_that_were_not_started_alike_are_refused_in_one_line(
    zygote: Zygote, phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    command = ("train", phantoms, "-o", tmp_path / "run", "--cache", cache, *QUICK)
    running = [
        zygote.start(*command, "--fold", str(fold), **environment) for fold, environment in enumerate(torchrun(2))
    ]
    first, second = (one.wait() for one in running)
    assert (first.code, second.code, second.stderr) == (2, 1, "")
    assert "was given the folds ('1',), and rank 0 ('0',): start all alike" in first.last_line
    assert not (tmp_path / "run").exists()


def test_more_devices_than_a_group_has_are_refused(phantoms: Path, cache: Path, tmp_path: Path) -> None:
    config = load_config(None, ["trainer.devices=2"])
    with pytest.raises(UsageError, match="devices=2 needs as many processes"):
        train(TrainRequest(phantoms, tmp_path / "run", config=config, cache=cache))
    with (
        pytest.raises(UsageError, match="devices=3, but 2 processes were started"),
        join(Ranks(0, 2), 3, False),
    ):
        pass
