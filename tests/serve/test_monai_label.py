"""Exchanges as the plugins of 3D Slicer and OHIF have them, byte by byte as their clients send them."""

import hashlib
import json
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import httpx
import nibabel as nib
import numpy as np
import pytest

from tests.conftest import Command
from tests.serve.served import Served, predicted, served

pytestmark = pytest.mark.whole

LIMIT = "----------lImIt_of_THE_fIle_eW_$"
CASE, SCAN = "phantom_006", "imagesTs/phantom_006.nii.gz"
"""The one case of the phantoms without labels."""


def slicer(
    service: Served, method: str, path: str, params: dict[str, object], **files: bytes
) -> tuple[httpx.Response, dict[str, bytes]]:
    """Send what the plugin of 3D Slicer sends, and take the answer apart as it does."""
    body = f'--{LIMIT}\r\nContent-Disposition: form-data; name="params"\r\n\r\n{json.dumps(params)}\r\n'.encode()
    for name, content in files.items():
        body += (
            f'--{LIMIT}\r\nContent-Disposition: form-data; name="{name}"; filename="/tmp/Slicer/{name}.nii.gz"\r\n'
            "Content-Type: application/gzip\r\n\r\n"
        ).encode() + content
        body += b"\r\n"
    body += f"--{LIMIT}--\r\n\r\n".encode()
    kind = {"content-type": f"multipart/form-data; boundary={LIMIT}"}
    answer = service.client.request(method, path, content=body, headers=kind)
    parts = {}
    if answer.headers["content-type"].startswith("multipart/"):
        head = b"Content-Type: " + answer.headers["content-type"].encode() + b"\n\n"
        message = message_from_bytes(head + answer.content)
        for part in message.walk():
            if not part.is_multipart():
                key = part.get_filename() or part.get_param("name", header="content-disposition")
                parts[str(key)] = part.get_payload(decode=True)
    return answer, parts


@pytest.fixture(scope="module")
def annotated(trained_run: Path, phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service whose masks a test may save."""
    state = tmp_path_factory.mktemp("annotated") / "state"
    with served(state, f"tiny={trained_run}", "--data", phantoms) as running:
        yield running


def drawn(phantoms: Path, path: Path, cut: int = 0) -> tuple[bytes, np.ndarray]:
    """A mask as 3D Slicer exports it: segments are numbered as they stand in its list."""
    scan = nib.load(phantoms / SCAN)
    array = np.zeros((*scan.shape[:2], scan.shape[2] - cut), np.uint8)
    array[2:5, 2:5, 2:5], array[10:12, 10:12, 3] = 1, 2
    nib.save(nib.Nifti1Image(array, scan.affine), path)
    return path.read_bytes(), array


def test_info_offers_the_models_and_counts_the_data(service: Served) -> None:
    info = service.client.get("/info/").json()
    assert info["models"]["tiny"] | {"description": ""} == {
        "type": "segmentation",
        "labels": {"liver": 1, "spleen": 2},
        "dimension": 3,
        "description": "",
        "config": {},
    }
    assert info["labels"] == ["liver", "spleen"]
    assert list(info["trainers"]) == ["tiny"]
    assert list(info["strategies"]) == ["random", "first", "doubt"]
    assert info["datastore"] == service.client.get("/datastore/").json()
    assert (info["datastore"]["total"], info["datastore"]["completed"]) == (7, 6)


def test_the_next_sample_is_downloaded_and_segmented(
    service: Served, fullscale: Command, trained_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    sample = service.client.post("/activelearning/random", json={"client_id": "me"}).json()
    assert (sample["id"], sample["name"]) == (CASE, f"{CASE}.nii.gz")
    image = service.client.get("/datastore/image", params={"image": sample["id"]})
    assert image.content == (phantoms / SCAN).read_bytes()
    assert sample["checksum"] == f"SHA256:{hashlib.sha256(image.content).hexdigest()}"
    [expected] = predicted(fullscale, trained_run, phantoms / SCAN, tmp_path).glob("*.nii.gz")
    answer, parts = slicer(service, "POST", f"/infer/tiny?image={CASE}", {"client_id": "me"})
    assert answer.status_code == 200
    assert parts["mask.nii.gz"] == expected.read_bytes()
    assert json.loads(parts["params"])["label_names"] == {"liver": 1, "spleen": 2}


def test_a_session_and_a_file_are_segmented_like_the_case(service: Served, phantoms: Path) -> None:
    scan = (phantoms / SCAN).read_bytes()
    _, expected = slicer(service, "POST", f"/infer/tiny?image={CASE}", {})
    opened = service.client.put("/session/", data={"client_id": "me"}, files=[("files", ("a.nii.gz", scan))]).json()
    session = opened["session_id"]
    assert service.client.get(f"/session/{session}").json()["expiry"] == 3600
    assert service.client.get(f"/session/{session}", params={"image": "true"}).content == scan
    _, parts = slicer(service, "POST", f"/infer/tiny?image=a&session_id={session}", {})
    assert parts["mask.nii.gz"] == expected["mask.nii.gz"]
    _, parts = slicer(service, "POST", "/infer/tiny?image=a", {}, file=scan)
    assert parts["mask.nii.gz"] == expected["mask.nii.gz"]
    assert service.client.delete(f"/session/{session}").status_code == 200
    for path in (f"/session/{session}", "/session/..%2f..", "/session/x"):
        assert service.client.get(path).status_code == 404


def test_masks_are_saved_beside_the_data_with_the_values_of_the_models(
    annotated: Served, phantoms: Path, tmp_path: Path
) -> None:
    content, array = drawn(phantoms, tmp_path / "drawn.nii.gz")
    segments = [{"name": "spleen", "idx": 1}, {"name": "liver", "idx": 2}]
    before = sorted(path.name for path in phantoms.rglob("*"))
    for version in (1, 2):  # the later of two people is told, and both are kept
        answer, _ = slicer(
            annotated, "PUT", f"/datastore/label?image={CASE}&tag=final", {"label_info": segments}, label=content
        )
        assert answer.status_code == 200, answer.text
        assert (answer.json()["version"], answer.json()["earlier"]) == (version, version - 1)
    assert sorted(path.name for path in phantoms.rglob("*")) == before
    kept = annotated.client.get("/datastore/label", params={"label": CASE, "tag": "final"})
    (tmp_path / "kept.nii.gz").write_bytes(kept.content)
    found = np.asarray(nib.load(tmp_path / "kept.nii.gz").dataobj)
    np.testing.assert_array_equal(found == 2, array == 1)
    np.testing.assert_array_equal(found == 1, array == 2)
    state = annotated.log.with_suffix("")
    assert len(list((state / "annotations" / CASE / "final").glob("000*"))) == 2
    objects = annotated.client.get("/datastore/", params={"output": "all"}).json()["objects"]
    assert objects[CASE]["labels"]["final"]["info"]["params"]["label_names"] == {"liver": 1, "spleen": 2}
    assert annotated.client.post("/activelearning/first", json={}).json() == {}
    assert annotated.client.head("/datastore/label", params={"image": CASE, "tag": "final"}).status_code == 200
    assert annotated.client.delete("/datastore/label", params={"id": CASE, "tag": "final"}).status_code == 200
    assert annotated.client.head("/datastore/label", params={"image": CASE, "tag": "final"}).status_code == 404
    assert len(list((state / "annotations" / CASE).rglob("mask.nii.gz"))) == 2
    assert not list(state.glob("jobs/*"))


@pytest.mark.parametrize(
    ("params", "cut", "line"),
    [
        ({"label_info": [{"name": "heart", "idx": 1}]}, 0, "no model knows the structure 'heart'"),
        ({"label_info": [{"name": "liver", "idx": 1}]}, 0, "the mask holds the value 2, which stands for no structure"),
        ({"label_info": 3}, 0, "label_info is no list"),
        ({}, 1, "scan and mask lie on different grids: shapes differ"),
    ],
    ids=["structure", "value", "form", "grid"],
)
def test_a_mask_that_does_not_fit_is_refused(
    service: Served, phantoms: Path, tmp_path: Path, params: dict[str, object], cut: int, line: str
) -> None:
    content, _ = drawn(phantoms, tmp_path / "drawn.nii.gz", cut)
    answer, _ = slicer(service, "PUT", f"/datastore/label?image={CASE}", params, label=content)
    assert answer.status_code == 422
    assert line in answer.json()["detail"]
    assert not (service.log.with_suffix("") / "annotations").exists()


def test_the_name_of_a_tag_leads_nowhere(annotated: Served, phantoms: Path, tmp_path: Path) -> None:
    content, _ = drawn(phantoms, tmp_path / "drawn.nii.gz")
    slicer(annotated, "PUT", f"/datastore/label?image={CASE}&tag=../../../out", {}, label=content)
    state = annotated.log.with_suffix("")
    [folder] = [path for path in (state / "annotations" / CASE).iterdir() if "out" in path.name]
    assert folder.name.startswith("_")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/train/tiny", 422),
        ("GET", "/train/?check_if_running=true", 404),
        ("DELETE", "/train/", 404),
        ("POST", "/activelearning/epistemic", 404),
        ("PUT", "/datastore/?image=new", 403),
        ("DELETE", f"/datastore/image?id={CASE}", 403),
        ("POST", "/infer/tiny?image=nothing", 404),
        ("POST", f"/infer/large?image={CASE}", 404),
        ("POST", "/infer/tiny", 422),
        ("GET", "/datastore/label?label=phantom_000&tag=final", 404),
        ("GET", "/datastore/image?image=..%2f..%2fetc%2fpasswd", 404),
    ],
)
def test_what_is_not_offered_is_refused_in_one_line(service: Served, method: str, path: str, status: int) -> None:
    answer = service.client.request(method, path, json={} if method == "POST" else None)
    assert answer.status_code == status, answer.text
    assert len(answer.json()["detail"].splitlines()) == 1


def test_scribbles_are_refused(service: Served, phantoms: Path, tmp_path: Path) -> None:
    content, _ = drawn(phantoms, tmp_path / "drawn.nii.gz")
    answer, _ = slicer(service, "POST", f"/infer/tiny?image={CASE}", {}, label=content)
    assert answer.status_code == 422
    assert "take no scribbles" in answer.json()["detail"]


def test_logs_are_lines_of_text(service: Served) -> None:
    service.client.get("/models")
    answer = service.client.get("/logs/", params={"lines": 1})
    assert answer.headers["content-type"].startswith("text/plain")
    [line] = answer.text.splitlines()
    assert "GET /models 200" in line


def test_ohif_asks_by_the_uid_of_the_series_and_takes_nrrd(
    trained_run: Path, study: Path, fullscale: Command, tmp_path: Path
) -> None:
    import SimpleITK

    [expected] = predicted(fullscale, trained_run, study, tmp_path / "predicted").glob("*.nii.gz")
    with served(tmp_path / "state", f"tiny={trained_run}", "--data", study) as service:
        asked = {"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False}
        answer = service.client.post("/infer/tiny?image=1.2.3&output=image", json=asked)
        assert answer.status_code == 200, answer.text
        (tmp_path / "mask.nrrd").write_bytes(answer.content)
        mask = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(tmp_path / "mask.nrrd"))
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask.T, np.asarray(nib.load(expected).dataobj))
        wide = service.client.post("/infer/tiny?image=1.2.3&output=image", json=asked | {"result_dtype": "uint16"})
        (tmp_path / "wide.nrrd").write_bytes(wide.content)
        header, _, voxels = wide.content.partition(b"\n\n")
        assert b"encoding: raw" in header
        assert voxels == mask.astype("<u2").tobytes()
        of_two_bytes = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(tmp_path / "wide.nrrd"))
        assert of_two_bytes.dtype == np.uint16
        np.testing.assert_array_equal(of_two_bytes, mask)
        refused = service.client.post("/infer/tiny?image=1.2.3&output=image", json=asked | {"result_dtype": "float8"})
        assert refused.status_code == 422
        assert "expected one of uint8, uint16" in refused.json()["detail"]
        both = service.client.post("/infer/tiny?image=1.2.3&output=all", json=asked).content
        said = json.loads(both.split(b"\r\n\r\n")[1].split(b"\r\n")[0])
        centre = np.rint(np.argwhere(mask.T == 1).mean(axis=0)).astype(int).tolist()
        assert said["centroids"]["liver"] == [1, *centre]
        seg = service.client.post("/infer/tiny?image=1.2.3&output=dicom_seg")
        assert seg.headers["content-type"] == "application/dicom"
        assert seg.content[128:132] == b"DICM"
        assert service.client.post("/infer/tiny?image=1.2.3&output=json").json()["label_names"]["liver"] == 1


def test_the_token_is_given_as_a_password(trained_run: Path, phantoms: Path, tmp_path: Path) -> None:
    (secret := tmp_path / "token").write_text("c0ffee00c0ffee00c0ffee00")
    secret.chmod(0o600)
    words = (f"tiny={trained_run}", "--data", phantoms, "--token-file", secret)
    with served(tmp_path / "state", *words) as service:
        assert service.client.get("/auth/").json() == {"enabled": True}
        assert service.client.get("/info/").status_code == 401
        assert service.client.get("/auth/token/valid").status_code == 401
        form = {"username": "me", "password": "wrong", "grant_type": "password"}
        assert service.client.post("/auth/token", data=form).status_code == 401
        given = service.client.post("/auth/token", data=form | {"password": secret.read_text()}).json()
        header = {"Authorization": f"{given['token_type']} {given['access_token']}"}
        assert service.client.get("/info/", headers=header).status_code == 200
        assert service.client.get("/auth/token/valid", headers=header).status_code == 200
