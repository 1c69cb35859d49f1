"""A load on the service: so many studies at once into its DICOM receiver, and clients at its routes meanwhile.

    python benchmarks/exchange.py RUN

RUN is a trained model of CT, as `fullscale demo` leaves one. Studies are small (8 slices of 64x64), so that what is
measured is the receiver, the queue and the routes, not the network. Counts, seconds and peak memory are printed and
written beside this file. It ends with an error if a job is lost, or a segmentation is missing or there twice.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import nibabel
import numpy as np
import pydicom
import yaml
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from fullscale.data.dicom.peers import Peer, store
from fullscale.errors import FullscaleError

HERE = Path(__file__).parent
CLIENTS, UPLOADS = 20, 2
SLICES, SIZE = 8, 64


@dataclass
class Result:
    """A load, and what it came to.

    Attributes:
        studies: sent at once, each by an association of its own.
        clients: at the routes, each with uploads of its own.
        received_s: until the last study was received.
        busy: times that a sender was told to come again.
        done_s: until every segmentation was delivered and every upload segmented.
        segmentations: delivered.
        jobs: by state, those of uploads too.
        requests: answered meanwhile.
        median_ms: that an answer took.
        slowest_ms: likewise, the 99th percentile.
        idle_mb: memory of the service's process before the load.
        peak_mb: the most that it held.
    """

    studies: int
    clients: int
    received_s: float
    busy: int
    done_s: float
    segmentations: int
    jobs: dict[str, int]
    requests: int
    median_ms: float
    slowest_ms: float
    idle_mb: float
    peak_mb: float


def write_study(folder: Path, number: int) -> list[Path]:
    """Write a CT study of noise."""
    folder.mkdir()
    study, rng = generate_uid(), np.random.default_rng(number)
    files = []
    for k in range(SLICES):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, f"{study[:60]}.1"
        dataset.FrameOfReferenceUID, dataset.Modality, dataset.PatientID = f"{study[:60]}.2", "CT", f"load {number}"
        dataset.Rows = dataset.Columns = SIZE
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 3 * k], [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness = [2, 2], 3
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit = 15
        dataset.PixelData = rng.integers(800, 1400, (SIZE, SIZE)).astype(np.uint16).tobytes()
        dataset["PixelData"].VR = "OW"
        files.append(folder / f"{k}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    return files


def memory_mb(process: int, what: str) -> float:
    """Read what a process holds (VmRSS), or the most that it held (VmHWM)."""
    [kilobytes] = re.findall(rf"{what}:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(kilobytes) / 1024


def send_patiently(peer: Peer, files: list[Path]) -> int:
    """Send a study as a scanner does, again while the receiver is busy; return how often it was."""
    busy = 0
    while True:
        try:
            store(peer, files)
            return busy
        except FullscaleError:
            busy += 1
            time.sleep(0.5)


def browse(url: str, scan: bytes, ending: threading.Event) -> list[float]:
    """Upload scans, and look at jobs until told to end; return how long each answer took."""
    took = []
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        for _ in range(UPLOADS):
            began = time.perf_counter()
            client.post("/jobs", data={"model": "model"}, files={"scan": ("s.nii.gz", scan)}).raise_for_status()
            took.append(time.perf_counter() - began)
        while not ending.is_set():
            for path in ("/jobs", "/pacs", "/models", "/health"):
                began = time.perf_counter()
                client.get(path).raise_for_status()
                took.append(time.perf_counter() - began)
            ending.wait(0.25)
    return took


def measure(run: Path, studies: int, folder: Path) -> Result:
    """Start a service in a folder, load it, and see what came of it."""
    box, rules, log = folder / "box", folder / "rules.yaml", folder / "log"
    box.mkdir(parents=True)
    rule = {"name": "all", "model": "model", "when": {"modality": "CT"}, "to": str(box)}
    rules.write_text(yaml.safe_dump({"rules": [rule], "settle_s": 1}))
    scans = [write_study(folder / f"study {k}", k) for k in range(studies)]
    volume = folder / "scan.nii.gz"
    noise = np.random.default_rng(0).integers(-200, 300, (SIZE, SIZE, SLICES)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(noise, np.diag([2.0, 2, 3, 1])), volume)
    words = ["-m", "fullscale", "serve", f"model={run}", "--state", folder / "state", "--port", 0, "--device", "cpu"]
    words += ["--rules", rules, "--dicom-port", 0]
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, *map(str, words)], stdout=out, stderr=out)
    try:
        while "is received at" not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        url, port = (
            re.findall(r"at (http\S+)", log.read_text())[0],
            re.findall(r"received at \S+:(\d+)", log.read_text())[0],
        )
        return load(process.pid, url, Peer("FULLSCALE", "127.0.0.1", int(port)), scans, volume.read_bytes(), box)
    finally:
        process.terminate()
        process.wait()


def load(process: int, url: str, peer: Peer, scans: list[list[Path]], volume: bytes, box: Path) -> Result:
    """Load a service that runs."""
    idle, began, ending = memory_mb(process, "VmRSS"), time.monotonic(), threading.Event()
    with ThreadPoolExecutor(CLIENTS) as browsers, ThreadPoolExecutor(len(scans)) as senders:
        browsing = [browsers.submit(browse, url, volume, ending) for _ in range(CLIENTS)]
        busy = sum(senders.map(lambda files: send_patiently(peer, files), scans))
        received = time.monotonic() - began
        with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
            while not settled(client, len(scans)):
                time.sleep(0.5)
            ending.set()
            took = np.array([seconds for one in browsing for seconds in one.result()])
            jobs = Counter(job["state"] for job in client.get("/jobs", params={"limit": 1000}).json())
    done = time.monotonic() - began
    studies = Counter(str(pydicom.dcmread(file, stop_before_pixels=True).StudyInstanceUID) for file in box.iterdir())
    assert len(studies) == len(scans), "a segmentation is missing"
    assert set(studies.values()) == {1}, "a segmentation is there twice"
    assert jobs == {"done": len(scans) + CLIENTS * UPLOADS}, jobs
    milliseconds = np.percentile(1000 * took, [50, 99])
    return Result(
        *(len(scans), CLIENTS, round(received, 1), busy, round(done, 1), sum(studies.values()), dict(jobs), len(took)),
        *(round(float(ms), 1) for ms in milliseconds),
        *(round(idle, 1), round(memory_mb(process, "VmHWM"), 1)),
    )


def settled(client: httpx.Client, studies: int) -> bool:
    """Tell whether all that was sent and uploaded has ended."""
    exchange = client.get("/pacs").json()
    waiting = (
        client.get("/jobs", params={"state": "queued"}).json() + client.get("/jobs", params={"state": "running"}).json()
    )
    return exchange["deliveries"] == {"sent": studies} and not waiting


def main() -> None:
    """Load a service with a few studies, and with fifty."""
    run = Path(sys.argv[1]).resolve()
    results = []
    for studies in (5, 50):
        with tempfile.TemporaryDirectory() as folder:
            results.append(measure(run, studies, Path(folder) / "load"))
        sys.stdout.write(f"{results[-1]}\n")
    machine = {"cores": os.cpu_count(), "load": os.getloadavg()[0]}
    content = {"slices": SLICES, "size": SIZE, "machine": machine, "results": [asdict(result) for result in results]}
    (HERE / "exchange-load.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
