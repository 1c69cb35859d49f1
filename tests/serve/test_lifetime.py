"""The life of the service: how it ends, what it goes on with, and what it removes."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from fullscale.data.volume_files import write_volume
from fullscale.geometry.volume import Volume
from fullscale.serve.jobs import JobStore
from tests.serve.served import log_of, served, start

pytestmark = pytest.mark.whole


@pytest.fixture(scope="module")
def long_scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan that takes long: many slices."""
    path = tmp_path_factory.mktemp("long") / "long.nii.gz"
    write_volume(path, Volume(np.zeros((64, 64, 1000), np.int16), np.diag([1.0, 1.0, 1.0, 1.0])))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("with_signal", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.long), (signal.SIGKILL, -9)],
    ids=str,
)
def test_what_ran_when_it_ended_is_done_after_the_next_start_and_once(
    trained_run: Path, phantoms: Path, long_scan: Path, tmp_path: Path, with_signal: signal.Signals, code: int
) -> None:
    state, words = tmp_path / "state", (f"tiny={trained_run}", "--data", phantoms)
    with served(state, *words) as service:
        jobs = [service.upload("tiny", long_scan), service.ask("tiny", "phantom_000")]
        service.until(jobs[0], "running")
        time.sleep(0.5)
        assert service.stop(with_signal) == code
        last = service.log.read_text().splitlines()[-1]
        assert last == {143: "fullscale: terminated", 130: "fullscale: interrupted"}.get(code, last)
        assert "Traceback" not in service.log.read_text()
    with served(state, *words, nth=2) as service:
        first = [service.ended(job) for job in jobs]
        assert [(job["state"], job["attempts"]) for job in first] == [("done", 2), ("done", 1)]
        assert service.client.get(f"/jobs/{jobs[1]}/mask").status_code == 200
    store = JobStore(state / "jobs.sqlite")
    states = [state for state, _ in store.history(jobs[0])]
    assert states == ["queued", "running", "queued", "running", "done"]


@pytest.mark.slow
def test_jobs_are_cancelled_waiting_and_running_and_the_others_go_on(
    trained_run: Path, phantoms: Path, long_scan: Path, tmp_path: Path
) -> None:
    with served(tmp_path / "state", f"tiny={trained_run}", "--data", phantoms, "--max-waiting", 2) as service:
        running = service.upload("tiny", long_scan)
        service.until(running, "running")
        waiting, after = service.ask("tiny", "phantom_000"), service.ask("tiny", "phantom_001")
        full = service.client.post("/jobs", json={"model": "tiny", "case": "phantom_002"})
        assert full.status_code == 503
        assert full.json()["detail"] == "2 jobs wait already; ask again later"
        assert service.client.delete(f"/jobs/{waiting}").json()["state"] == "cancelled"
        service.client.delete(f"/jobs/{running}")
        assert service.ended(running)["state"] == "cancelled"
        assert service.ended(after)["state"] == "done"
        assert service.client.get(f"/jobs/{running}/mask").status_code == 409
        assert not list((tmp_path / "state" / "jobs" / running).glob("output/*"))
        states = {job["id"]: job["state"] for job in service.client.get("/jobs").json()}
        assert states == {running: "cancelled", waiting: "cancelled", after: "done"}


def test_files_are_removed_when_their_time_is_over_and_the_service_says_so(
    trained_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    scan = phantoms / "imagesTr" / "phantom_000.nii.gz"
    with served(tmp_path / "state", f"tiny={trained_run}", "--keep", "3s") as service:
        job = service.upload("tiny", scan)
        assert service.ended(job)["kept_until"] is not None
        assert service.client.get(f"/jobs/{job}/mask").status_code == 200
        for _ in range(100):
            if service.client.get(f"/jobs/{job}").json()["removed"]:
                break
            time.sleep(0.1)
        gone = service.client.get(f"/jobs/{job}/mask")
        assert gone.status_code == 410
        assert gone.json()["detail"] == "the files of the job were removed: they are kept for 3 seconds"
        assert not (tmp_path / "state" / "jobs" / job).exists()


def test_files_are_removed_when_they_are_not_wanted_any_more(trained_run: Path, phantoms: Path, tmp_path: Path) -> None:
    with served(tmp_path / "state", f"tiny={trained_run}", "--data", phantoms) as service:
        job = service.ask("tiny", "phantom_000")
        service.ended(job)
        assert service.client.delete(f"/jobs/{job}").json()["removed"] is not None
        assert service.client.get(f"/jobs/{job}/mask").status_code == 410
        assert service.client.get(f"/jobs/{job}/result").status_code == 410


@pytest.mark.slow
def test_a_process_that_dies_is_started_again_and_a_job_that_kills_it_is_given_up(
    trained_run: Path, phantoms: Path, long_scan: Path, tmp_path: Path
) -> None:
    with served(tmp_path / "state", f"tiny={trained_run}", "--data", phantoms) as service:
        job, after = service.upload("tiny", long_scan), service.ask("tiny", "phantom_000")
        for attempt in (1, 2, 3):
            while (now := service.client.get(f"/jobs/{job}").json())["attempts"] < attempt or not now["progress"]:
                time.sleep(0.05)
            for process in children(service.process.pid):
                os.kill(process, signal.SIGKILL)
        ended = service.ended(job)
        assert (ended["state"], ended["failure"]) == ("failed", "its process died at each of 3 attempts")
        assert service.ended(after)["state"] == "done"


def children(pid: int) -> list[int]:
    """The processes that another one started."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for path in found for word in path.read_text().split()]


def test_no_process_outlives_a_service_that_is_killed(trained_run: Path, phantoms: Path, tmp_path: Path) -> None:
    with served(tmp_path / "state", f"tiny={trained_run}", "--data", phantoms) as service:
        service.ended(service.ask("tiny", "phantom_000"))
        workers = children(service.process.pid)
        assert workers
        service.process.kill()
        service.process.wait()
        for _ in range(100):
            if not any(Path(f"/proc/{worker}").exists() for worker in workers):
                return
            time.sleep(0.1)
        raise AssertionError("a process is still there")


def test_a_signal_that_was_ignored_from_the_start_stays_ignored(trained_run: Path, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for what it starts with &
    try:
        with served(tmp_path / "state", f"tiny={trained_run}") as service:
            service.process.send_signal(signal.SIGINT)
            time.sleep(0.5)
            assert service.client.get("/health").status_code == 200
            assert service.stop(signal.SIGTERM) == 143
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_service_on_the_same_folder_or_port_says_so_in_one_line(
    trained_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    with served(tmp_path / "state", f"tiny={trained_run}", "--data", phantoms) as service:
        second = start(tmp_path / "state", f"tiny={trained_run}")
        assert second.wait(60) == 2
        assert "another process is serving in" in service.log.read_text().splitlines()[-1]
        port = service.url.rpartition(":")[2]
        third = start(tmp_path / "other", f"tiny={trained_run}", "--port", port)
        assert third.wait(60) == 2
        assert f"port {port} of 127.0.0.1 is in use" in log_of(tmp_path / "other").read_text()
