"""DICOM files sent to a PACS: each receiver gets the form that it takes, and a refusal is one line."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from fullscale.data.dicom.binary_seg import as_binary
from fullscale.data.dicom.destination import Destination, write_binary
from fullscale.data.dicom.peers import Peer, echo, find_series
from fullscale.data.dicom.seg import read_seg, write_seg
from fullscale.data.volume_files import write_volume
from fullscale.errors import DataError, UsageError
from fullscale.geometry.volume import Volume
from tests.conftest import Command
from tests.data.dicom.test_seg import ALGORITHM, STRUCTURES, complaints, write_labels, write_scan
from tests.orthanc import PATIENCE_S, Orthanc, free_port, orthanc

CLASSIC = {"DicomServerEnabled": True, "DicomAet": "ORTHANC", "DicomCheckCalledAet": True, "DicomAlwaysAllowFind": True}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    pytest.importorskip("pynetdicom")
    with orthanc(tmp_path_factory.mktemp("pacs") / "orthanc", **CLASSIC) as started:
        yield started


@pytest.fixture
def scan(tmp_path: Path) -> Volume:
    return write_scan(tmp_path / "scan")


def stored(server: Orthanc, uid: str, folder: Path) -> Path:
    """Fetch an instance as Orthanc has it, by its own interface."""
    query = json.dumps({"Level": "Instance", "Query": {"SOPInstanceUID": uid}}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{server.address}/tools/find", query)) as answer:
        [name] = json.load(answer)
    path = folder / f"{name}.dcm"
    with urllib.request.urlopen(f"{server.address}/instances/{name}/file") as answer:
        path.write_bytes(answer.read())
    return path


@pytest.mark.parametrize("empty", [False, True], ids=["", "empty"])
def test_a_label_map_as_binary_is_valid_and_holds_the_same_voxels(tmp_path: Path, scan: Volume, empty: bool) -> None:
    labels = write_labels(tmp_path / "map.dcm", scan)
    if empty:
        labels = scan.with_array(np.zeros(scan.shape, np.uint8))
        write_seg(tmp_path / "map.dcm", labels, STRUCTURES, ALGORITHM)
    assert write_binary(tmp_path / "map.dcm", tmp_path / "binary.dcm")
    assert np.array_equal(read_seg(tmp_path / "binary.dcm", scan).array, labels.array)
    assert complaints(tmp_path / "binary.dcm") == []
    written = pydicom.dcmread(tmp_path / "binary.dcm")
    write_seg(tmp_path / "direct.dcm", labels, STRUCTURES, ALGORITHM, "binary")
    direct = pydicom.dcmread(tmp_path / "direct.dcm")
    assert (written.SOPClassUID, written.SegmentationType) == (direct.SOPClassUID, "BINARY")
    assert empty or written.PixelData == direct.PixelData
    assert [s.SegmentLabel for s in written.SegmentSequence] == ["liver", "kidney_left"]
    again = as_binary(pydicom.dcmread(tmp_path / "map.dcm"))
    assert again.SOPInstanceUID == written.SOPInstanceUID != pydicom.dcmread(tmp_path / "map.dcm").SOPInstanceUID
    assert not write_binary(tmp_path / "binary.dcm", tmp_path / "no.dcm")


def test_segments_whose_values_leave_gaps_are_numbered_from_one(tmp_path: Path, scan: Volume) -> None:
    array = np.zeros(scan.shape, np.uint8)
    array[1, 2, 3], array[2, 3, 1] = 7, 4
    write_seg(tmp_path / "map.dcm", scan.with_array(array), {4: "spleen", 7: "liver"}, ALGORITHM)
    write_binary(tmp_path / "map.dcm", tmp_path / "binary.dcm")
    found = read_seg(tmp_path / "binary.dcm", scan).array
    assert (found[2, 3, 1], found[1, 2, 3], np.count_nonzero(found)) == (1, 2, 2)


@pytest.mark.parametrize("seg_type", ["labelmap", "binary"])
def test_both_ways_bring_a_segmentation_into_the_study(
    server: Orthanc, tmp_path: Path, fullscale: Command, seg_type: str
) -> None:
    study = f"1.2.77.{len(seg_type)}"
    scan = write_scan(tmp_path / "scan", StudyInstanceUID=study, SeriesInstanceUID=f"{study}.1", PatientID="P1")
    labels = write_labels(tmp_path / "seg.dcm", scan, seg_type)
    to_peer = f"ORTHANC@127.0.0.1:{server.dicom_port}"
    sent = fullscale("send", tmp_path / "scan", tmp_path / "seg.dcm", to_peer, "--json")
    assert sent.returncode == 0, sent.stderr
    words = list(json.loads(sent.stdout)["sent"].values())
    assert words == ["as it is"] * scan.shape[2] + [{"labelmap": "binary", "binary": "as it is"}[seg_type]]
    uid = pydicom.dcmread(tmp_path / "seg.dcm").SOPInstanceUID
    if seg_type == "labelmap":
        uid = as_binary(pydicom.dcmread(tmp_path / "seg.dcm")).SOPInstanceUID
    assert np.array_equal(read_seg(stored(server, uid, tmp_path), scan).array, labels.array)
    listed = find_series(Peer.parse(to_peer), {"StudyInstanceUID": study})
    assert sorted((one.modality, one.instances) for one in listed) == [("CT", scan.shape[2]), ("SEG", 1)]
    by_web = fullscale("send", tmp_path / "seg.dcm", server.url)
    assert by_web.returncode == 0, by_web.stderr
    assert "(as it is)" in by_web.stdout
    original = pydicom.dcmread(tmp_path / "seg.dcm").SOPInstanceUID
    assert np.array_equal(read_seg(stored(server, original, tmp_path), scan).array, labels.array)


def test_a_mask_is_sent_as_a_segmentation_of_its_scan(
    fullscale: Command, scan: Volume, tmp_path: Path, phantoms: Path
) -> None:
    labels = write_labels(tmp_path / "unused.dcm", scan)
    mask, box = tmp_path / "mask.nii.gz", tmp_path / "box"
    write_volume(mask, Volume(labels.array, labels.affine))
    box.mkdir()
    unnamed = fullscale("send", mask, box, "--scan", tmp_path / "scan")
    assert (unnamed.returncode, "give --labels 1=liver,2=spleen" in unnamed.stderr) == (2, True)
    alone = fullscale("send", mask, box, "--labels", "1=liver,2=kidney_left")
    assert (alone.returncode, "--scan" in alone.stderr) == (2, True)
    other = phantoms / "labelsTr" / "phantom_000.nii.gz"
    strange = fullscale("send", other, box, "--scan", tmp_path / "scan", "--labels", "1=liver,2=kidney_left")
    assert (strange.returncode, "lie on different grids" in strange.stderr) == (3, True)
    assert list(box.iterdir()) == []
    for _ in range(2):
        done = fullscale("send", tmp_path / "unused.dcm", box)
        assert done.returncode == 0, done.stderr
    done = fullscale("send", mask, box, "--scan", tmp_path / "scan", "--labels", "1=liver,2=kidney_left")
    assert done.stdout.endswith(f"sent to {box} (DICOM SEG)\n")
    assert len(list(box.iterdir())) == 2  # the first, sent twice, is there once
    assert all(np.array_equal(read_seg(file, scan).array, labels.array) for file in box.iterdir())


def test_an_older_program_gets_a_label_map_as_binary_segments(tmp_path: Path, scan: Volume) -> None:
    """Debian's storescp knows no label maps, and no RLE unless it is told."""
    program = shutil.which("storescp")
    if program is None:
        pytest.skip("no storescp: install the Debian package dcmtk")
    labels = write_labels(tmp_path / "seg.dcm", scan)
    (tmp_path / "got").mkdir()
    port = free_port()
    receiver = subprocess.Popen([program, "-od", tmp_path / "got", str(port)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE_S
    try:
        while True:
            with socket.socket() as listening:
                if listening.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < deadline
        assert Destination(f"ANY@127.0.0.1:{port}").send([tmp_path / "seg.dcm"]) == ["binary"]
    finally:
        receiver.kill()
        receiver.wait()
    [file] = (tmp_path / "got").iterdir()
    assert np.array_equal(read_seg(file, scan).array, labels.array)


@pytest.mark.parametrize("other", [False, True], ids=["", "and anything else"])
def test_a_dicomweb_server_that_refuses_label_maps_gets_binary_segments(
    tmp_path: Path, scan: Volume, monkeypatch: pytest.MonkeyPatch, other: bool
) -> None:
    """Such a server answers 202, and names in its answer what it did not store (PS3.18, 10.5.3)."""
    write_labels(tmp_path / "seg.dcm", scan)
    got: list[str] = []

    class Client:
        def store_instances(self, datasets: list[pydicom.Dataset]) -> pydicom.Dataset:
            got.append(datasets[0].SegmentationType)
            answer, failed = pydicom.Dataset(), pydicom.Dataset()
            failed.FailureReason = 0x0122
            if got[-1] == "LABELMAP" or other:
                answer.FailedSOPSequence = [failed]
            return answer

    monkeypatch.setattr("fullscale.data.dicom.web_store.client_of", lambda _: Client())
    if other:
        with pytest.raises(DataError, match=r"seg.dcm: https://x/y does not store it \(failure 0122\)"):
            Destination("https://x/y").send([tmp_path / "seg.dcm"])
    else:
        assert Destination("https://x/y").send([tmp_path / "seg.dcm"]) == ["binary"]
    assert got == ["LABELMAP", "BINARY"]


@pytest.mark.parametrize(
    ("destination", "code", "line"),
    [
        ("ORTHANC@127.0.0.1:1", 1, "ORTHANC@127.0.0.1:1 cannot be reached (Connection refused): check host and port"),
        ("ORTHANC@no.such.host.invalid:104", 1, "cannot be reached ("),
        ("WRONG@127.0.0.1:{port}", 2, "does not go by the AE title 'WRONG'"),
        ("ORTHANC@127.0.0.1:{http}", 3, "is it a DICOM peer"),
        ("ORTHANC:{port}", 2, "is no folder that is there; expected one, AET@host:port, or https://HOST/dicom-web"),
        ("@host:104", 2, "expected AET@host:port"),
        ("A_TITLE_THAT_IS_LONG@host:104", 2, "expected AET@host:port"),
        ("{address}/none", 3, "answers 404"),
        ("{url}/studies/1.2.3", 2, "expected the DICOMweb service itself"),
        ("http://user:word@127.0.0.1/dicom-web", 2, "holds a password"),
        ("http://127.0.0.1:1/dicom-web", 1, "cannot be reached, or broke off; send again later"),
    ],
)
def test_a_receiver_that_is_not_there_or_refuses_is_one_line(
    server: Orthanc, tmp_path: Path, scan: Volume, fullscale: Command, destination: str, code: int, line: str
) -> None:
    write_labels(tmp_path / "seg.dcm", scan)
    places: dict[str, Any] = {"port": server.dicom_port, "http": server.port}
    said = destination.format(**places, url=server.url, address=server.address)
    done = fullscale("send", tmp_path / "seg.dcm", said)
    assert (done.returncode, line in done.stderr) == (code, True), done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_is_no_dicom_is_not_sent_and_an_echo_is_answered(
    server: Orthanc, tmp_path: Path, fullscale: Command
) -> None:
    to_peer = f"ORTHANC@127.0.0.1:{server.dicom_port}"
    echo(Peer.parse(to_peer))
    with pytest.raises(UsageError, match="'OTHER'"):
        echo(Peer("OTHER", "127.0.0.1", server.dicom_port))
    missing = fullscale("send", tmp_path / "none.dcm", to_peer)
    assert (missing.returncode, "no such file or folder" in missing.stderr) == (3, True)
    (tmp_path / "empty").mkdir()
    empty = fullscale("send", tmp_path / "empty", to_peer)
    assert (empty.returncode, "holds no DICOM file" in empty.stderr) == (3, True)
