"""Commands whose work is done by a Dask cluster: the same files as without, and a command that is killed goes on."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fullscale.work.ledger import Ledger
from tests.conftest import Command
from tests.dask_cluster import PATIENCE_S, local_cluster

pytest.importorskip("distributed")
pytestmark = [pytest.mark.slow, pytest.mark.whole]


def masks(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.nii.gz")}


@pytest.mark.long
def test_a_command_that_is_killed_or_interrupted_goes_on_and_each_mask_is_there_once(
    fullscale: Command, phantoms: Path, trained_run: Path, tmp_path: Path
) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    for k in range(12):
        (archive / f"study {k}").mkdir(parents=True)
        shutil.copy(phantoms / "imagesTr" / f"phantom_00{k % 6}.nii.gz", archive / f"study {k}" / "ct.nii.gz")
    serial = tmp_path / "serial"
    assert fullscale("predict", trained_run, archive, "-o", serial, "--archive", "--device", "cpu").returncode == 0

    with local_cluster(tmp_path, 2) as cluster:
        arguments = ["predict", trained_run, archive, "-o", out, "--device", "cpu", "--dask", cluster.address]
        for how, code in ((signal.SIGKILL, -9), (signal.SIGINT, 130)):
            there = len(list(out.glob("*.nii.gz")))
            client = subprocess.Popen(
                [sys.executable, "-m", "fullscale", *map(str, arguments)],
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
            assert client.stderr is not None
            begun = ""  # what a killed client left to workers may be done before the next one hears signals
            while "dashboard http" not in begun:
                line = client.stderr.readline()
                assert line, begun
                begun += line
            deadline = time.monotonic() + PATIENCE_S
            while len(list(out.glob("*.nii.gz"))) < there + 2 and client.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            client.send_signal(how)
            told = client.communicate(timeout=PATIENCE_S)[1]
            assert client.returncode in (code, 0), told  # 0 where it was done before the signal came
        os.kill(cluster.started[1].pid, signal.SIGKILL)
        done = fullscale(*arguments)
        assert done.returncode == 0, done.stderr
    assert masks(out) == masks(serial)
    assert len(masks(out)) == 12
    assert Ledger(out).counts()["done"] == 12
    assert not list(out.rglob(".writing-*"))


def test_evaluate_test_and_prepare_write_the_same(
    fullscale: Command, phantoms: Path, trained_run: Path, tmp_path: Path
) -> None:
    with local_cluster(tmp_path, 2) as cluster:
        for name, how in (("here", ("--jobs", "1")), ("there", ("--dask", cluster.address))):
            out = tmp_path / name
            for command in (
                ("test", trained_run, phantoms, "-o", out, "--device", "cpu"),
                ("evaluate", out, phantoms, "-o", out / "again.json"),
                ("prepare", phantoms, "--cache", tmp_path / f"cache {name}"),
            ):
                done = fullscale(*command, *how)
                assert done.returncode == 0, done.stderr
    assert masks(tmp_path / "here") == masks(tmp_path / "there")
    for file in ("summary.json", "again.json"):
        texts = [(tmp_path / name / file).read_text() for name in ("here", "there")]
        assert without_places(texts[0]) == without_places(texts[1])
    prepared = [
        {p.relative_to(cache): p.read_bytes() for p in cache.rglob("*.npy")}
        for cache in (tmp_path / "cache here", tmp_path / "cache there")
    ]
    assert prepared[0] == prepared[1]
    assert prepared[0]


def without_places(text: str) -> list[str]:
    """Leave out the digest of the folder of the masks, which differs."""
    return [line for line in text.splitlines() if '"masks"' not in line and '"folder"' not in line]
