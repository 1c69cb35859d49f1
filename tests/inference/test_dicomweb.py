"""Series of a DICOMweb server segmented: each once, whatever becomes of the server, and nothing left behind."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fullscale.data.dicom import web
from fullscale.data.dicom.web import Query, RemoteSeries
from fullscale.inference.archive import predict_archive
from fullscale.inference.attempt import ArchiveRequest, EntryResult, ModelRequest
from fullscale.inference.entries import find_entries
from fullscale.work.ledger import Ledger
from tests.conftest import Command
from tests.dicom_slices import write_series, write_slice
from tests.orthanc import Orthanc, orthanc

SERIES = [f"1.2.{k}.1" for k in range(4)]


def write_scan(folder: Path, k: int, slices: range = range(6)) -> Path:
    """A small CT of its own content, or some of its slices."""
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(k).integers(-200, 300, (7, 32, 32))
    named = {"StudyInstanceUID": f"1.2.{k}", "SeriesInstanceUID": f"1.2.{k}.1", "PixelSpacing": [2.0, 2.0]}
    for z in slices:
        write_slice(folder / f"content {k} slice {z}", pixels[z], (0, 0, 3 * z), **named)
    return folder


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scans, and a localiser, a picture and a report in the study of the first."""
    folder = tmp_path_factory.mktemp("studies") / "studies"
    for k in range(4):
        write_scan(folder / f"1.2.{k}.1", k)
    beside = {"StudyInstanceUID": "1.2.0"}
    write_series(
        folder / "scout",
        slices=[0, 1],
        SeriesInstanceUID="8.1",
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
        **beside,
    )
    write_series(folder / "report", slices=[0], SeriesInstanceUID="8.2", Modality="SR", **beside)
    return folder


@pytest.fixture
def server(studies: Path, tmp_path: Path) -> Iterator[Orthanc]:
    with orthanc(tmp_path / "orthanc") as started:
        started.store(studies)
        yield started


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where series are fetched to; nothing is left there."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture(scope="module")
def local(fullscale: Command, studies: Path, trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks of the same scans as folders."""
    output = tmp_path_factory.mktemp("local") / "out"
    sources = [studies / name for name in SERIES]
    done = fullscale("predict", trained_run, *sources, "-o", output, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    return output


def masks(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.nii.gz")}


def test_the_series_of_a_server_are_an_archive(
    fullscale: Command, server: Orthanc, local: Path, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    command = ("predict", trained_run, server.url, "-o", out, "--device", "cpu")
    for k in (1, 2):
        done = fullscale(*command, "--shard", f"{k}/2")
        assert done.returncode == 0, done.stderr
    assert masks(out) == masks(local)
    assert "series without images were passed over: 1 SR" in done.stderr
    gathered = fullscale("gather", out)
    assert gathered.returncode == 0, gathered.stderr
    table = (out / "results.csv").read_text()
    assert "studies/1.2.3/series/1.2.3.1,1.2.3.1.nii.gz" in table
    assert ".writing-" not in table
    told: list[str] = []
    monkeypatch.setattr(RemoteSeries, "fetch", lambda series, _: told.append(series.series))
    again = fullscale(*command)
    assert (again.returncode, told) == (0, [])
    assert "done already: 5 cases" in again.stderr
    assert masks(out) == masks(local)


def test_one_study_or_series_alone_and_what_came_in_since(
    fullscale: Command, server: Orthanc, trained_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    head = ("predict", trained_run)
    assert fullscale(*head, f"{server.url}/studies/1.2.1", "-o", out, "--device", "cpu").returncode == 0
    assert set(masks(out)) == {"1.2.1.1.nii.gz"}
    before = masks(out)
    server.store(write_scan(tmp_path / "new", 1, range(6, 7)))  # a further slice of the same series
    again = fullscale(*head, f"{server.url}/studies/1.2.1/series/1.2.1.1", "-o", out, "--device", "cpu")
    assert "done already" not in again.stderr
    assert masks(out).keys() == before.keys()
    assert masks(out) != before
    scout = fullscale(*head, f"{server.url}/studies/1.2.0/series/8.1", "-o", out, "--device", "cpu")
    assert (scout.returncode, "8.1.nii.gz" in masks(out)) == (0, True)  # it was named itself
    assert ".writing-" not in scout.stderr
    by_uid = ("--series", "1.2.3.1", "-o", tmp_path / "by uid", "--device", "cpu")
    assert fullscale(*head, server.url, *by_uid).returncode == 0
    assert set(masks(tmp_path / "by uid")) == {"1.2.3.1.nii.gz"}
    assert fullscale("gather", tmp_path / "by uid").returncode == 0
    none = fullscale(*head, f"{server.url}/studies?ModalitiesInStudy=MR", "-o", tmp_path / "none", "--device", "cpu")
    assert none.returncode == 3
    assert "holds no series or scan" in none.stderr


def test_a_server_that_is_started_again_in_the_middle_loses_nothing(
    server: Orthanc, local: Path, trained_run: Path, tmp_path: Path
) -> None:
    request = ArchiveRequest(ModelRequest(trained_run, "cpu"), tmp_path / "out")
    entries = find_entries([Query.parse(server.url)], request, Ledger(request.output))
    found: list[EntryResult] = []
    for result in predict_archive(request, entries, jobs=1):
        found.append(result)
        if len(found) == 1:
            server.kill()
            threading.Timer(2, server.start).start()
    assert [result.error for result in found] == [None] * 5
    assert masks(request.output) == masks(local)
    assert {row.tries for row in Ledger(request.output)} == {1}


def test_a_server_that_stays_away_ends_the_command_and_the_next_goes_on(
    fullscale: Command, server: Orthanc, local: Path, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "PATIENCE_S", 0.5)
    out, fetch = tmp_path / "out", RemoteSeries.fetch
    command = ("predict", trained_run, server.url, "-o", out, "--device", "cpu")

    def fetch_one(series: RemoteSeries, folder: Path) -> None:
        if masks(out):
            server.kill()
        fetch(series, folder)

    with monkeypatch.context() as while_it_dies:
        while_it_dies.setattr(RemoteSeries, "fetch", fetch_one)
        ended = fullscale(*command)
    assert ended.returncode == 1
    assert "cannot be reached, or broke off; look after it, and repeat the command to go on" in ended.stderr
    assert len(masks(out)) == 1
    assert Ledger(out).counts()["failed"] == 0
    server.start()
    assert fullscale(*command).returncode == 0
    assert masks(out) == masks(local)


@pytest.mark.long
@pytest.mark.slow
def test_a_command_that_is_killed_while_it_fetches_goes_on_and_leaves_nothing(
    server: Orthanc, local: Path, trained_run: Path, tmp_path: Path, temporary: Path, fullscale: Command
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "fullscale", "predict", trained_run, server.url, "-o", out, "--device", "cpu"]
    for how, code in ((signal.SIGKILL, -9), (signal.SIGINT, 130)):
        there, before = len(masks(out)), set(temporary.iterdir())
        client = subprocess.Popen(
            [*map(str, command), "--jobs", "1"],
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        deadline = time.monotonic() + 120
        while set(temporary.iterdir()) <= before and len(masks(out)) == there and client.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        os.kill(client.pid, how)
        assert client.wait() in (code, 0)
    assert fullscale("predict", trained_run, server.url, "-o", out, "--device", "cpu").returncode == 0
    assert masks(out) == masks(local)
