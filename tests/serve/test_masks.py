"""The masks of the service are those of the command, byte by byte, whatever way the scan came."""

import json
from pathlib import Path

import httpx
import numpy as np
import pytest

from fullscale.data.volume_files import read_volume
from tests.conftest import Command
from tests.dicom_slices import zipped
from tests.serve.served import Served, predicted

pytestmark = pytest.mark.whole


def test_a_case_and_its_upload_have_the_mask_that_predict_writes(
    service: Served, fullscale: Command, trained_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    scan = phantoms / "imagesTr" / "phantom_001.nii.gz"
    [expected] = predicted(fullscale, trained_run, scan, tmp_path).glob("*.nii.gz")
    for job in (service.ask("tiny", "phantom_001"), service.upload("tiny", scan)):
        assert service.ended(job)["failure"] is None
        answer = service.client.get(f"/jobs/{job}/mask")
        assert answer.content == expected.read_bytes()
        assert answer.headers["content-disposition"] == f'attachment; filename="{job}.nii.gz"'


def test_the_result_says_volumes_seconds_and_the_model(service: Served, tmp_path: Path) -> None:
    job = service.ask("tiny", "phantom_002")
    service.ended(job)
    (mask := tmp_path / "mask.nii.gz").write_bytes(service.client.get(f"/jobs/{job}/mask").content)
    volume = read_volume(mask)
    result = service.client.get(f"/jobs/{job}/result").json()
    assert result["labels"] == {"1": "liver", "2": "spleen"}
    for value, name in result["labels"].items():
        expected = np.count_nonzero(volume.array == int(value)) * volume.voxel_ml
        assert result["structures"][name] == pytest.approx(expected)
    assert result["elapsed_s"] >= sum(result["seconds"].values()) * 0.5
    [model] = service.client.get("/models").json()
    assert result["model_digest"] == model["digest"]


def test_a_study_in_a_zip_comes_back_as_a_volume_and_as_dicom_seg(
    service: Served, fullscale: Command, trained_run: Path, study: Path, tmp_path: Path
) -> None:
    [expected] = predicted(fullscale, trained_run, study, tmp_path / "nifti").glob("*.nii.gz")
    predicted(fullscale, trained_run, study, tmp_path / "seg", "--format", "seg")
    [from_command] = (tmp_path / "seg").glob("*.dcm")
    zip_file = zipped(study, tmp_path / "of Jane Doe.zip")
    for job in (service.upload("tiny", zip_file), service.upload("tiny", *sorted(study.iterdir()), series="venous")):
        ended = service.ended(job)
        assert ended["failure"] is None
        assert ended["dicom_seg"] is True
        assert service.client.get(f"/jobs/{job}/mask").content == expected.read_bytes()
        (tmp_path / "seg.dcm").write_bytes(service.client.get(f"/jobs/{job}/mask", params={"format": "seg"}).content)
        np.testing.assert_array_equal(frames(tmp_path / "seg.dcm"), frames(from_command))
    assert service.client.get(f"/jobs/{job}/mask", params={"format": "seg"}).headers["content-type"] == (
        "application/dicom"
    )


def frames(path: Path) -> np.ndarray:
    """Frames of a DICOM SEG, read by another library than wrote them."""
    import pydicom

    return np.asarray(pydicom.dcmread(path).pixel_array)


def test_events_tell_of_a_job_until_its_end(service: Served) -> None:
    job = service.ask("tiny", "phantom_003")
    states = []
    with service.client.stream("GET", f"/jobs/{job}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data: "):
                states.append(json.loads(line.removeprefix("data: "))["state"])
    assert states[-1] == "done"
    assert states == sorted(states, key=["queued", "running", "done"].index)


def test_what_cannot_be_segmented_fails_in_one_line_and_the_next_job_is_done(service: Served, tmp_path: Path) -> None:
    (broken := tmp_path / "secret name.nii.gz").write_bytes(b"no volume")
    job = service.upload("tiny", broken)
    ended = service.ended(job)
    assert ended["state"] == "failed"
    assert ended["failure"]
    assert "\n" not in ended["failure"]
    assert "/" not in ended["failure"].replace("0000.nii.gz", "")
    refused = service.client.get(f"/jobs/{job}/mask")
    assert refused.status_code == 409
    assert ended["failure"] in refused.json()["detail"]
    assert service.ended(service.ask("tiny", "phantom_000"))["state"] == "done"


def test_an_upload_of_two_scans_is_refused_with_their_number(service: Served, phantoms: Path) -> None:
    scans = sorted((phantoms / "imagesTr").glob("phantom_00[01].nii.gz"))
    answer = service.client.post(
        "/jobs", data={"model": "tiny"}, files=[("scan", (scan.name, scan.read_bytes())) for scan in scans]
    )
    assert answer.status_code == 422
    assert "has 2 files, expected one file called 'scan'" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("asked", "status", "line"),
    [
        ({"model": "tinny", "case": "phantom_000"}, 404, "no model 'tinny' here; did you mean 'tiny'?"),
        (
            {"model": "tiny", "case": "phantom_00"},
            404,
            "no case 'phantom_00' for the model tiny; did you mean ",
        ),
        ({"model": "tiny"}, 404, "no case None for the model tiny; name a case, or upload a scan"),
        ({"model": "tiny", "case": "phantom_000", "size": 3}, 422, "size"),
        ({"case": "phantom_000"}, 422, "model"),
        ("[", 400, "the body is no JSON"),
    ],
    ids=["model", "case", "no case", "unknown key", "no model", "no JSON"],
)
def test_a_wrong_request_is_answered_in_one_line(service: Served, asked: object, status: int, line: str) -> None:
    answer: httpx.Response
    if isinstance(asked, str):
        answer = service.client.post("/jobs", content=asked, headers={"content-type": "application/json"})
    else:
        answer = service.client.post("/jobs", json=asked)
    assert (answer.status_code, line in answer.json()["detail"]) == (status, True), answer.text
    assert "\n" not in answer.json()["detail"]


@pytest.mark.parametrize("job", ["0" * 16, "..%2f..%2fjobs", "%00"])
def test_a_job_that_is_not_there_is_not_found(service: Served, job: str) -> None:
    for path in (f"/jobs/{job}", f"/jobs/{job}/mask", f"/jobs/{job}/result", f"/jobs/{job}/events"):
        assert service.client.get(path).status_code in (404, 422)
