"""A whole exchange with a real PACS: Orthanc on loopback, by DICOMweb and classic DICOM, with deaths on both sides."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("pynetdicom")

from fullscale.data.dicom.peers import Peer, store
from fullscale.data.dicom.seg import read_seg
from fullscale.data.dicom.series import read_series
from fullscale.errors import FullscaleError
from tests.conftest import Command
from tests.orthanc import Orthanc, free_port, orthanc
from tests.serve.pacs.studies import QUICK, exchanging, idle, letters, peer, sent, until, write_rules, write_study
from tests.serve.served import Served

pytestmark = [pytest.mark.whole, pytest.mark.slow, pytest.mark.long]

CLASSIC = {
    "DicomServerEnabled": True,
    "DicomAet": "ORTHANC",
    "DicomAlwaysAllowFind": True,
    "DicomAlwaysAllowMove": True,
}
LOOK = {"every_s": 0.5, "days": 1}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Orthanc]:
    with orthanc(tmp_path / "orthanc", **CLASSIC) as started:
        yield started


def qido(server: Orthanc, resource: str, **parameters: str) -> Any:
    """Ask as a viewer does, by plain HTTP."""
    query = urllib.parse.urlencode(parameters)
    request = urllib.request.Request(f"{server.url}/{resource}?{query}", headers={"Accept": "application/dicom+json"})
    with urllib.request.urlopen(request) as answer:
        content = answer.read()
    return json.loads(content) if content else []


def segmentations(server: Orthanc, folder: Path) -> list[Path]:
    """Fetch every SEG that Orthanc has, by its own interface."""
    query = json.dumps({"Level": "Instance", "Query": {"Modality": "SEG"}}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{server.address}/tools/find", query)) as answer:
        names = json.load(answer)
    folder.mkdir(exist_ok=True)
    for name in names:
        with urllib.request.urlopen(f"{server.address}/instances/{name}/file") as answer:
            (folder / f"{name}.dcm").write_bytes(answer.read())
    return [folder / f"{name}.dcm" for name in names]


def same_as_predict(fullscale: Command, run: Path, scan: Path, seg: Path, folder: Path) -> None:
    done = fullscale("predict", run, scan, "-o", folder, "--format", "seg", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    [by_command] = folder.glob("*.dcm")
    grid = read_series(scan)
    wanted = read_seg(by_command, grid).array
    assert wanted.any()
    assert np.array_equal(read_seg(seg, grid).array, wanted)


def by_study(files: list[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(str(pydicom.dcmread(file).StudyInstanceUID), []).append(file)
    return found


def test_a_study_that_is_received_comes_back_to_its_study_by_both_ways(
    fullscale: Command, server: Orthanc, trained_run: Path, tmp_path: Path
) -> None:
    scan = write_study(tmp_path / "scan", "a")
    server.store(scan)
    rules = write_rules(tmp_path / "rules.yaml", "pacs", f"ORTHANC@127.0.0.1:{server.dicom_port}", look=None)
    with exchanging(tmp_path / "state", trained_run, rules, "--pacs", server.url) as service:
        for _ in range(2):  # the second time nothing more is made or sent
            if shutil.which("storescu"):
                port = service.client.get("/pacs").json()["dicom_port"]
                words = ["storescu", "-aec", "FULLSCALE", "127.0.0.1", str(port), *map(str, sorted(scan.iterdir()))]
                subprocess.run(words, check=True, timeout=60)
            else:
                store(Peer.parse(peer(service)), sorted(scan.iterdir()))
            time.sleep(1)
            until(service, sent(2))
        assert letters(service) == []
        log = service.log.read_text()
    first = pydicom.dcmread(scan / "000.dcm")
    study = str(first.StudyInstanceUID)
    assert not any(str(word) in log for word in (study, "ID-a", "Doe", first.SeriesInstanceUID))
    segs = segmentations(server, tmp_path / "got")
    kinds = {pydicom.dcmread(seg).SegmentationType: seg for seg in segs}
    assert set(kinds) == {"LABELMAP", "BINARY"}
    assert len(segs) == 2
    for kind, seg in kinds.items():
        same_as_predict(fullscale, trained_run, scan, seg, tmp_path / kind)
        assert pydicom.dcmread(seg).PatientName == "Doe^a"
    found = qido(server, "studies", ModalitiesInStudy="SEG", limit="10", includefield="00081030,00080060")
    assert [one["0020000D"]["Value"] for one in found] == [[study]]
    series = qido(server, f"studies/{study}/series", includefield="0008103E,00080060")
    assert sorted(one["00080060"]["Value"][0] for one in series) == ["CT", "SEG", "SEG"]
    [seg_series] = {one["0020000E"]["Value"][0] for one in series if one["00080060"]["Value"] == ["SEG"]} - {
        str(pydicom.dcmread(kinds["BINARY"]).SeriesInstanceUID)
    }
    [metadata] = qido(server, f"studies/{study}/series/{seg_series}/metadata")
    assert metadata["00620002"]["Value"][1]["00620005"]["Value"] == ["liver"]


def test_a_study_of_a_server_is_segmented_once_without_a_service(
    fullscale: Command, server: Orthanc, trained_run: Path, tmp_path: Path
) -> None:
    scan = write_study(tmp_path / "scan", "a")
    server.store(scan)
    study = pydicom.dcmread(scan / "000.dcm").StudyInstanceUID
    url, out = f"{server.url}/studies/{study}", tmp_path / "out"
    done = fullscale("predict", trained_run, url, "-o", out, "--format", "seg", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    done = fullscale("send", out, server.url)
    assert done.returncode == 0, done.stderr
    [seg] = segmentations(server, tmp_path / "got")
    same_as_predict(fullscale, trained_run, scan, seg, tmp_path / "direct")


@pytest.mark.parametrize("way", ["dicomweb", "c-move"])
def test_new_studies_of_the_pacs_are_each_done_once_whoever_dies(
    server: Orthanc, trained_run: Path, tmp_path: Path, way: str
) -> None:
    port = free_port()
    modalities = {"fullscale": ["FULLSCALE", "127.0.0.1", port]}
    server.kill()
    with orthanc(tmp_path / "second", **CLASSIC, DicomModalities=modalities) as pacs:
        for name in "abc":
            pacs.store(write_study(tmp_path / name, name))
        pacs.store(write_study(tmp_path / "old", "old", StudyDate="20200101"))
        pacs.store(write_study(tmp_path / "mr", "mr", Modality="MR"))
        source = pacs.url if way == "dicomweb" else f"ORTHANC@127.0.0.1:{pacs.dicom_port}"
        rules = write_rules(tmp_path / "rules.yaml", "pacs", look=LOOK, retry={"times": 40, "first_s": 0.3})
        words = ("--pacs", source, "--dicom-port", port)
        state, nth = tmp_path / "state", 1
        for pause in (4.0, 6.0):  # killed while it fetches, and while it works
            with exchanging(state, trained_run, rules, *words, nth=nth) as service:
                time.sleep(pause)
                service.stop(signal.SIGKILL)
            nth += 1
        with exchanging(state, trained_run, rules, *words, nth=nth) as service:
            pacs.kill()
            back = threading.Timer(3, pacs.start)
            back.start()
            found = until(service, lambda now: now["deliveries"].get("sent") == 3 and idle(now))
            assert found["letters"] == {}
            back.join()  # all may have been sent before it was away
            pacs.store(write_study(tmp_path / "d", "d"))
            until(service, lambda now: now["deliveries"].get("sent") == 4 and idle(now))
            assert service.client.get("/pacs").json()["problem"] is None
        segs = by_study(segmentations(pacs, tmp_path / "got"))
        assert sorted(map(len, segs.values())) == [1, 1, 1, 1]
        wanted = {str(pydicom.dcmread(tmp_path / name / "000.dcm").StudyInstanceUID) for name in "abcd"}
        assert set(segs) == wanted


def test_a_pacs_that_stays_away_is_a_letter_that_a_person_puts_back(
    fullscale: Command, server: Orthanc, trained_run: Path, tmp_path: Path
) -> None:
    rules, state = write_rules(tmp_path / "rules.yaml", "pacs", look=None), tmp_path / "state"
    scan = write_study(tmp_path / "scan", "a")
    study = str(pydicom.dcmread(scan / "000.dcm").StudyInstanceUID)
    server.kill()
    with exchanging(state, trained_run, rules, "--pacs", server.url) as service:
        store(Peer.parse(peer(service)), sorted(scan.iterdir()))
        until(service, lambda now: now["letters"] == {"delivery": 1})
        [letter] = letters(service)
        assert (letter["study"], letter["attempts"], letter["kind"]) == (study, QUICK["retry"]["times"], "delivery")
        assert "cannot be reached" in letter["why"]
        said = fullscale("letters", state)
        assert (said.returncode, len(said.stdout.splitlines())) == (0, 1)
        assert all(word in said.stdout for word in (study, "cannot be reached", "(attempts: 3)", "put back"))
        server.start()
        back = fullscale("letters", state, "--retry", letter["number"])
        assert (back.returncode, "no letters" in back.stderr) == (0, True)
        until(service, sent(1))
        assert service.client.post(f"/pacs/letters/{letter['number']}/retry").status_code == 404
        association_cut(service, scan)
        until(service, lambda now: now["letters"] == {"association": 1})
        number = letters(service)[0]["number"]
        assert service.client.post(f"/pacs/letters/{number}/retry").status_code == 409
        assert service.client.delete(f"/pacs/letters/{number}").status_code == 200
        assert letters(service) == []
    assert len(segmentations(server, tmp_path / "got")) == 1


def association_cut(service: Served, scan: Path) -> None:
    """Send half of a study, and break off."""
    from pynetdicom import AE

    entity = AE(ae_title="SENDER")
    entity.add_requested_context("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1")
    association = entity.associate("127.0.0.1", Peer.parse(peer(service)).port, ae_title="FULLSCALE")
    assert association.send_c_store(pydicom.dcmread(scan / "000.dcm")).Status == 0
    association.abort()


def fill(path: Path) -> None:
    """Write until nothing more goes onto the disk."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system is mounted by root")
def test_a_disk_that_is_full_refuses_and_loses_nothing(trained_run: Path, tmp_path: Path) -> None:
    disk, box = tmp_path / "disk", tmp_path / "box"
    disk.mkdir()
    box.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], check=False, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        rules = write_rules(tmp_path / "rules.yaml", box)
        with exchanging(disk / "state", trained_run, rules) as service:
            first, second = write_study(tmp_path / "a", "a"), write_study(tmp_path / "b", "b", 14)
            store(Peer.parse(peer(service)), sorted(first.iterdir()))
            until(service, sent(1))
            fill(disk / "filler")
            with pytest.raises(FullscaleError, match="A700"):
                store(Peer.parse(peer(service)), sorted(second.iterdir()))
            (disk / "filler").unlink()
            store(Peer.parse(peer(service)), sorted(second.iterdir()))
            until(service, sent(2))
        assert len(list(box.iterdir())) == 2
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (("--pacs", "http://127.0.0.1:1/dicom-web"), 2, "--pacs and --dicom-port need --rules"),
        (("--rules", "{rules}"), 2, "--rules needs a source"),
        (("--rules", "{rules}", "--pacs", "A@127.0.0.1:1"), 2, "give --dicom-port"),
        (("--rules", "{rules}", "--pacs", "nowhere"), 2, "expected one, AET@host:port, or https://HOST/dicom-web"),
        (("--rules", "{none}", "--dicom-port", "0"), 3, "cannot read rules"),
        (("--rules", "{rules}", "--dicom-port", "0", "--host", "0.0.0.0"), 2, "the rules must say who may"),
    ],
)
def test_options_that_cannot_work_are_one_line(
    fullscale: Command, trained_run: Path, tmp_path: Path, words: tuple[str, ...], code: int, line: str
) -> None:
    rules, token = write_rules(tmp_path / "rules.yaml", tmp_path), tmp_path / "token"
    token.write_text("0123456789abcdef0123")
    token.chmod(0o600)
    given = [word.format(rules=rules, none=tmp_path / "none.yaml") for word in words]
    done = fullscale("serve", f"tiny={trained_run}", "--port", 0, "--token-file", token, *given)
    assert (done.returncode, line in done.stderr) == (code, True), done.stderr
    assert len(done.stderr.splitlines()) == 1
    missing = fullscale("letters", tmp_path)
    assert (missing.returncode, "is no folder of a service" in missing.stderr) == (3, True)
