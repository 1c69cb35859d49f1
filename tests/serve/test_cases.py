"""Cases as a viewer asks for them: scans and masks as NIfTI, masks that people save, and their scores."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from starlette.testclient import TestClient

from fullscale.serve.service import Service
from fullscale.serve.shown import ShownFiles
from fullscale.serve.worker import packed_scan
from tests.serve.in_process import finished_job, opened

CASE, UNLABELLED = "phantom_001", "phantom_006"


@pytest.fixture
def desk(trained_run: Path, phantoms: Path, tmp_path: Path) -> Iterator[tuple[TestClient, Service]]:
    with opened(tmp_path / "state", trained_run, phantoms) as found:
        yield found


@pytest.fixture
def client(desk: tuple[TestClient, Service]) -> TestClient:
    return desk[0]


def nifti(content: bytes) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(content)


def voxels(content: bytes) -> np.ndarray:
    return np.asarray(nifti(content).dataobj)


def save(client: TestClient, path: Path, case: str = UNLABELLED, **fields: str) -> Any:
    return client.post(
        "/cases/annotations", params={"case": case}, data=fields, files={"mask": (path.name, path.read_bytes())}
    )


@pytest.fixture
def drawn(phantoms: Path, tmp_path: Path) -> Path:
    scan = nib.load(phantoms / "imagesTs" / f"{UNLABELLED}.nii.gz")
    array = np.zeros(scan.shape, np.uint8)
    array[3:9, 4:8, 2:5], array[12:14, 12:15, 3] = 1, 2
    nib.save(nib.Nifti1Image(array, scan.affine), tmp_path / "drawn.nii.gz")
    return tmp_path / "drawn.nii.gz"


def test_a_scan_and_its_truth_are_sent_voxel_by_voxel_on_a_plain_header(client: TestClient, phantoms: Path) -> None:
    about = client.get("/cases/details", params={"case": CASE}).json()
    assert (about["channels"], about["labelled"], about["picture"]) == (["image"], True, False)
    assert about["structures"] == {"tiny": {"1": "liver", "2": "spleen"}}
    for route, folder in (("scan", "imagesTr"), ("truth", "labelsTr")):
        answer = client.get(f"/cases/{route}", params={"case": CASE})
        assert answer.status_code == 200, answer.text
        expected = nib.load(phantoms / folder / f"{CASE}.nii.gz")
        np.testing.assert_array_equal(voxels(answer.content), np.asarray(expected.dataobj))
        np.testing.assert_allclose(nifti(answer.content).affine, expected.affine, atol=1e-5)
        assert nifti(answer.content).header["sform_code"] == 1
    assert voxels(answer.content).dtype == np.uint8
    assert answer.headers["x-source"] == "data set"


def test_two_people_who_correct_one_case_are_told_and_both_masks_are_kept(
    client: TestClient, drawn: Path, phantoms: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in phantoms.rglob("*")}
    first = save(client, drawn, who="Anna", based_on="0")
    assert first.status_code == 201, first.text
    later = save(client, drawn, who="Ben", based_on="0")
    assert later.status_code == 409
    assert "version 1 was saved by Anna since you opened no saved mask: both are kept" in later.json()["detail"]
    assert later.json()["saved"]["version"] == 2
    assert save(client, drawn, who="Ben", based_on="2").status_code == 201
    listed = client.get("/cases/annotations", params={"case": UNLABELLED}).json()
    assert [(one["version"], one["who"]) for one in listed] == [(3, "Ben"), (2, "Ben"), (1, "Anna")]
    assert listed[0]["labels"] == {"1": "liver", "2": "spleen"}
    for version in (1, 2, 3):
        kept = client.get("/cases/annotations/mask", params={"case": UNLABELLED, "version": version})
        np.testing.assert_array_equal(voxels(kept.content), np.asarray(nib.load(drawn).dataobj))
    assert {path: path.stat().st_mtime_ns for path in phantoms.rglob("*")} == before


@pytest.mark.parametrize(
    ("fields", "cut", "line"),
    [
        ({"labels": json.dumps({1: "heart", 2: "spleen"})}, 0, "no model knows the structure 'heart'"),
        ({"labels": json.dumps({1: "liver"})}, 0, "the mask holds the value 2, which stands for no structure here"),
        ({"labels": "[1]"}, 0, "labels is no JSON object of names by value"),
        ({"based_on": "-1"}, 0, "based_on '-1' is no version"),
        ({}, 1, "scan and mask lie on different grids: shapes differ"),
        ({"model": "large"}, 0, "no model 'large' here"),
    ],
    ids=["structure", "value", "labels", "version", "grid", "model"],
)
def test_a_mask_that_does_not_fit_is_refused_in_one_line(
    client: TestClient, drawn: Path, tmp_path: Path, fields: dict[str, str], cut: int, line: str
) -> None:
    image = nib.load(drawn)
    array = np.asarray(image.dataobj)[:, :, cut:]
    nib.save(nib.Nifti1Image(array, image.affine), drawn)
    answer = save(client, drawn, **fields)
    assert answer.status_code == (404 if "model" in fields else 422)
    assert line in answer.json()["detail"]
    assert str(tmp_path) not in answer.text
    assert client.get("/cases/annotations", params={"case": UNLABELLED}).json() == []
    assert not list((tmp_path / "state" / "jobs").iterdir())


def test_masks_are_scored_against_the_data_set_or_else_the_newest_finished_mask(
    desk: tuple[TestClient, Service], drawn: Path, phantoms: Path
) -> None:
    client, service = desk
    truth = phantoms / "labelsTr" / f"{CASE}.nii.gz"
    [channel] = service.cases
    request = {"dicom": {}, "case": packed_scan(service.cases[channel][CASE])}
    job = finished_job(service, CASE, truth, request)
    scores = client.get("/cases/scores", params={"case": CASE, "job": job}).json()
    assert scores["truth"] == "data set"
    assert [scores["structures"][name]["Dice"] for name in ("liver", "spleen")] == [1, 1]
    for name, path in (("scan", phantoms / "imagesTr" / f"{CASE}.nii.gz"), ("mask.nii", truth)):
        sent = client.get(f"/jobs/{job}/{name}").content
        np.testing.assert_array_equal(voxels(sent), np.asarray(nib.load(path).dataobj))
    other = client.get("/cases/scores", params={"case": UNLABELLED, "job": job})
    assert (other.status_code, "another case" in other.json()["detail"]) == (422, True)

    save(client, drawn)
    alone = client.get("/cases/scores", params={"case": UNLABELLED})
    assert (alone.status_code, "has no truth" in alone.json()["detail"]) == (404, True)
    image = nib.load(drawn)
    half = np.asarray(image.dataobj).copy()
    half[3:6] = 0  # half of the liver
    nib.save(nib.Nifti1Image(half, image.affine), drawn)
    save(client, drawn)
    scores = client.get("/cases/scores", params={"case": UNLABELLED, "version": 1}).json()
    assert scores["truth"] == "saved mask, version 2"
    assert scores["structures"]["liver"]["Dice"] == pytest.approx(2 / 3)
    assert scores["structures"]["liver"]["volume_error_percent"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("scan", {"case": "phantom_01"}),
        ("scan", {"case": "../../etc/passwd"}),
        ("scan", {"case": CASE, "channel": "flair"}),
        ("truth", {"case": UNLABELLED}),
        ("annotations/mask", {"case": CASE, "version": 3}),
        ("scores", {"case": CASE, "job": "0000000000000000"}),
    ],
)
def test_what_is_not_there_is_answered_with_404_in_one_line(client: TestClient, path: str, params: Any) -> None:
    answer = client.get(f"/cases/{path}", params=params)
    assert answer.status_code == 404
    assert len(answer.json()["detail"].splitlines()) == 1


def test_a_case_goes_with_the_model_that_was_chosen_since(desk: tuple[TestClient, Service]) -> None:
    client, service = desk
    assert client.get("/cases/details", params={"case": CASE}).json()["modality"] == "CT"
    given = service.settings.models["tiny"]
    card = given.card.model_copy(update={"modality": "MR"})
    service.settings.models["tiny"] = replace(given, card=card)
    assert client.get("/cases/details", params={"case": CASE}).json()["modality"] == "MR"


def test_the_oldest_files_for_viewers_make_room(tmp_path: Path, phantoms: Path) -> None:
    from fullscale.data.volume_files import read_volume

    volume = read_volume(phantoms / "imagesTr" / f"{CASE}.nii.gz")
    shown = ShownFiles(tmp_path / "shown", most_bytes=3 * (volume.array.nbytes + 352))
    files = [shown.file((k,), lambda: volume) for k in range(5)]
    assert [file.is_file() for file in files] == [False, False, True, True, True]
    assert shown.file((3,), lambda: pytest.fail("it is there already")) == files[3]
