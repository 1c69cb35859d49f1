"""A service that is killed at random moments while studies are sent to it: each is segmented and delivered once.

FAULTS_KILLS=20 kills it as often.
"""

import os
import random
import signal
import threading
import time
from pathlib import Path

import pydicom
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("pynetdicom")

from fullscale.data.dicom.peers import Peer, store
from fullscale.errors import FullscaleError
from fullscale.serve.jobs import JobStore
from fullscale.serve.pacs.store import PacsStore
from tests.orthanc import free_port
from tests.serve.pacs.studies import exchanging, idle, until, write_rules, write_study

pytestmark = [pytest.mark.whole, pytest.mark.slow, pytest.mark.long]

KILLS = int(os.environ.get("FAULTS_KILLS", "3"))


def send(port: int, files: list[Path], ending: threading.Event) -> None:
    """Send as a scanner does: again and again, until all of it was taken."""
    while not ending.is_set():
        try:
            store(Peer("FULLSCALE", "127.0.0.1", port), files)
            return
        except FullscaleError:
            time.sleep(0.3)


def test_killed_at_any_moment_it_does_each_study_once(trained_run: Path, tmp_path: Path) -> None:
    draw, port, ending = random.Random(16), free_port(), threading.Event()
    state, box = tmp_path / "state", tmp_path / "box"
    box.mkdir()
    rules = write_rules(tmp_path / "rules.yaml", box)
    scans = [write_study(tmp_path / f"scan{k}", f"study{k}") for k in range(KILLS + 2)]
    senders = []
    try:
        for kill in range(KILLS + 1):
            for scan in scans[kill : kill + 2] if kill == KILLS else scans[kill : kill + 1]:
                words = (port, sorted(scan.iterdir()), ending)
                senders.append(threading.Thread(target=send, args=words))
                senders[-1].start()
            with exchanging(state, trained_run, rules, "--dicom-port", port, nth=kill + 1) as service:
                if kill < KILLS:
                    time.sleep(draw.uniform(0, 9))
                    service.stop(signal.SIGKILL)
                    continue
                for sender in senders:
                    sender.join(120)
                until(service, lambda now: now["deliveries"].get("sent") == len(scans) and idle(now))
    finally:
        ending.set()
    studies = [str(pydicom.dcmread(file).StudyInstanceUID) for file in box.iterdir()]
    assert sorted(studies) == sorted(str(pydicom.dcmread(scan / "000.dcm").StudyInstanceUID) for scan in scans)
    found = PacsStore(state / "jobs.sqlite")
    assert found.letters() == []
    assert [outcome.state for outcome in found.outcomes("1")] == ["done"] * len(scans)
    jobs = JobStore(state / "jobs.sqlite")
    ended = [[way for way, _ in jobs.history(job.id) if way == "done"] for job in jobs.all(100)]
    assert ended == [["done"]] * len(scans)
