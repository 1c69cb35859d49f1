"""Real studies through a service to a real PACS and back: the segmentation that Orthanc has is that of `predict`."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("pynetdicom")

from fullscale.data.dicom.identifiers import missing_identifiers, source_headers, write_with_identifiers
from fullscale.data.dicom.peers import Peer, store
from fullscale.data.dicom.seg import read_seg
from fullscale.data.dicom.series import DicomHeader, read_series
from tests.conftest import Command
from tests.orthanc import orthanc
from tests.serve.pacs.studies import exchanging, letters, peer, until, write_rules
from tests.serve.pacs.test_orthanc import CLASSIC, segmentations

pytestmark = [pytest.mark.whole, pytest.mark.slow, pytest.mark.long]


def with_identifiers(scan: Path, folder: Path) -> Path:
    """Return the scan, or a copy where the identifiers are blank, which no PACS would have."""
    header = read_series(scan).header
    assert isinstance(header, DicomHeader)
    if not missing_identifiers(source_headers(header)):
        return scan
    write_with_identifiers(header, folder)
    return folder


@pytest.mark.parametrize("source", ["chaos/CT/3/DICOM_anon", "totalsegmentator/example_ct_dicom"])
def test_a_real_study_comes_back_equal_voxel_by_voxel(
    fullscale: Command, shared_data: Path, trained_run: Path, tmp_path: Path, source: str
) -> None:
    scan = with_identifiers(shared_data / source, tmp_path / "scan")
    files = sorted(path for path in scan.iterdir() if path.is_file())
    done = fullscale("predict", trained_run, scan, "-o", tmp_path / "by command", "--format", "seg", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    [by_command] = (tmp_path / "by command").glob("*.dcm")
    grid = read_series(scan)
    wanted = read_seg(by_command, grid).array
    assert wanted.any()
    with orthanc(tmp_path / "orthanc", **CLASSIC) as server:
        server.store(scan)
        everything = {"name": "all", "model": "tiny", "to": ["pacs", f"ORTHANC@127.0.0.1:{server.dicom_port}"]}
        rules = write_rules(tmp_path / "rules.yaml", "pacs", look=None, rules=[everything])
        with exchanging(tmp_path / "state", trained_run, rules, "--pacs", server.url) as service:
            store(Peer.parse(peer(service)), files)
            until(service, lambda now: now["deliveries"].get("sent") == 2 or now["letters"])
            assert letters(service) == []
        segs = segmentations(server, tmp_path / "got")
        assert len(segs) == 2
        for seg in segs:
            assert np.array_equal(read_seg(seg, grid).array, wanted)
            assert pydicom.dcmread(seg).StudyInstanceUID == pydicom.dcmread(files[0]).StudyInstanceUID
