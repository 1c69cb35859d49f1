"""What is sent to the service by whom: tokens, pages of the web, and bodies that are too large, too slow or half."""

import json
import re
import socket
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serve.served import Served, served

pytestmark = pytest.mark.whole

TOKEN = "c0ffee00c0ffee00c0ffee00"
FORM = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'


def part(name: bytes, content: bytes, file: bytes | None = None) -> bytes:
    return FORM % (name, b'; filename="%s"' % file if file is not None else b"", content)


def sent(service: Served, body: bytes, length: int | None = None, close: bool = False) -> bytes:
    """Send a request by hand, and return the answer; with another length than the body has, where it is given."""
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = (
            f"POST /jobs HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            f"Content-Length: {len(body) if length is None else length}\r\nConnection: close\r\n\r\n"
        )
        connection.sendall(head.encode() + body)
        if close:
            return b""
        answer = b""
        while chunk := connection.recv(1 << 16):
            answer += chunk
        return answer


def left(service: Served) -> int:
    """Number of folders of jobs."""
    return len(list(service.log.with_suffix("").glob("jobs/*")))


def stands(service: Served) -> bool:
    return service.client.get("/health").json()["status"] == "ok"


@pytest.fixture(autouse=True)
def leaves_nothing(service: Served) -> Iterator[None]:
    """Whatever is refused leaves no file, and the service stands."""
    before = left(service)
    yield
    assert stands(service)
    for _ in range(50):
        if left(service) == before:
            return
        time.sleep(0.1)
    assert left(service) == before


def test_half_a_body_is_told_apart_from_a_whole_one(service: Served) -> None:
    whole = part(b"model", b"tiny") + part(b"scan", b"x" * 1000, b"a.nii.gz") + b"--b--\r\n"
    answer = sent(service, whole[:-300])
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"the body ends before its last boundary" in answer


def test_a_client_that_goes_away_in_the_middle_leaves_nothing(service: Served) -> None:
    sent(service, part(b"scan", b"x" * 1000, b"a.nii.gz"), length=100_000, close=True)


def test_a_client_that_falls_silent_is_let_go(service: Served) -> None:
    began = time.monotonic()
    answer = sent(service, part(b"scan", b"x" * 1000, b"a.nii.gz"), length=100_000)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"the upload took too long: 2 s in all" in answer
    assert time.monotonic() - began < 10


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_read(service: Served) -> None:
    assert sent(service, b"", length=1 << 40).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_does_not_say_its_size_is_cut_off_where_it_is_too_large(service: Served) -> None:
    def body() -> Iterator[bytes]:
        yield part(b"scan", b"", b"a.nii.gz")[:-2]
        for _ in range(100):
            yield bytes(1 << 16)

    kind = {"content-type": "multipart/form-data; boundary=b"}
    try:
        answer = service.client.post("/jobs", content=body(), headers=kind)
    except httpx.TransportError:  # it closed the connection while this was still sending
        return
    assert answer.status_code == 413
    assert "larger than 1 MiB" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"nothing of the kind", 400),
        (part(b"model", b"tiny") + part(b"scan", b"x", b"run.sh") + b"--b--\r\n", 415),
        (part(b"model", b"tiny") + part(b"scan", b"x", b"scan.mhd") + b"--b--\r\n", 415),
        (part(b"model", b"tiny") + b"--b--\r\n", 422),
        (part(b"model", b"other") + part(b"scan", b"x", b"a.nii") + b"--b--\r\n", 404),
        (part(b"model", b"tiny") + part(b"other", b"x", b"a.nii") + b"--b--\r\n", 422),
        (part(b"model", b"x" * 70_000) + b"--b--\r\n", 413),
        (b"".join(part(b"f%d" % k, b"") for k in range(80)) + b"--b--\r\n", 413),
        (part(b"model", b"tiny") + part(b"case", b"phantom_000") + part(b"scan", b"x", b"a.nii") + b"--b--\r\n", 422),
    ],
    ids=["no form", "kind", "pair", "no file", "model", "name", "long", "many", "case too"],
)
def test_an_upload_that_cannot_become_a_job_is_refused(service: Served, body: bytes, status: int) -> None:
    answer = sent(service, body)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert len(json.loads(answer.partition(b"\r\n\r\n")[2])["detail"].splitlines()) == 1


def test_the_name_of_a_file_leads_nowhere(service: Served) -> None:
    """One without a suffix is taken for DICOM, under a name of the service."""
    body = part(b"model", b"tiny") + part(b"scan", b"x", b"../../etc/passwd") + b"--b--\r\n"
    job = json.loads(sent(service, body).partition(b"\r\n\r\n")[2])["id"]
    assert service.ended(job)["state"] == "failed"
    folder = service.log.with_suffix("") / "jobs" / job
    assert [path.name for path in (folder / "input").iterdir()] == ["0000.dcm"]
    service.client.delete(f"/jobs/{job}")


@pytest.mark.parametrize(
    ("inside", "line"),
    [({"../../out.dcm": b"x"}, "leads out of it"), ({"zeros.dcm": bytes(3 << 20)}, ""), ({}, "is damaged")],
    ids=["path", "zeros", "damaged"],
)
def test_a_zip_is_looked_into_before_it_becomes_a_job(
    service: Served, tmp_path: Path, inside: dict[str, bytes], line: str
) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in inside.items():
            archive.writestr(name, content)
    content = path.read_bytes() if inside else b"PK\x03\x04 no zip"
    answer = service.client.post("/jobs", data={"model": "tiny"}, files={"scan": ("a.zip", content)})
    if line:
        assert answer.status_code == 422
        assert line in answer.json()["detail"]
    else:  # within the bounds, and no DICOM
        job = answer.json()["id"]
        assert service.ended(job)["state"] == "failed"
        service.client.delete(f"/jobs/{job}")


def test_a_zip_bomb_is_refused(service: Served, tmp_path: Path) -> None:
    """A directory that claims five gigabytes of zeros in a member of a few bytes."""
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.dcm", bytes(1 << 20))
    content = path.read_bytes()
    at = content.index(b"PK\x01\x02")
    content = content[: at + 24] + (0xF0000000).to_bytes(4, "little") + content[at + 28 :]
    answer = service.client.post("/jobs", data={"model": "tiny"}, files={"scan": ("a.zip", content)})
    assert answer.status_code == 422
    assert "is no scan, it is not read" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example:80"}, 403),
        ({"Host": "localhost:9"}, 200),
        ({"Host": "[::1]:9"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost:9", "Origin": "http://localhost:9"}, 200),
        ({"Host": "localhost:9", "Origin": "http://localhost:10"}, 403),
    ],
)
def test_a_page_of_the_web_does_not_reach_a_service_on_loopback(
    service: Served, headers: dict[str, str], status: int
) -> None:
    answer = service.client.get("/cases", headers=headers)
    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers


def test_the_list_of_routes_asks_for_nothing_from_elsewhere(service: Served) -> None:
    page = service.client.get("/docs")
    assert not re.search(r"(src|href|url|action)\s*[=(]\s*['\"]?(https?:|//)", page.text)
    assert "<script" not in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    routes = service.client.get("/openapi.json").json()["paths"]
    assert {"/jobs", "/jobs/{id}", "/jobs/{id}/events", "/jobs/{id}/mask", "/models", "/cases"} <= routes.keys()
    assert all(f"<code>{route}</code>" in page.text for route in routes)
    assert "/redoc" not in routes
    assert service.client.get("/redoc").status_code == 404


def test_counts_are_those_of_what_was_done(service: Served) -> None:
    def count(name: str) -> float:
        text = service.client.get("/metrics").text
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    ended = 'fullscale_jobs_ended_total{model="tiny",state="done"}'
    none = 'fullscale_requests_total{method="(none)",route="(none)",status="404"}'
    before = count(ended), count(none)
    job = service.ask("tiny", "phantom_000")
    service.ended(job)
    service.client.request("HURZ", "/no/such/route")
    assert (count(ended), count(none)) == (before[0] + 1, before[1] + 1)
    assert count('fullscale_jobs{state="done"}') >= 1
    service.client.delete(f"/jobs/{job}")


def test_with_a_token_nothing_but_health_is_open_and_nothing_secret_is_logged(
    trained_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    (secret := tmp_path / "token").write_text(TOKEN + "\n")
    secret.chmod(0o600)
    words = (f"tiny={trained_run}", "--data", phantoms, "--token-file", secret, "--host", "0.0.0.0")
    with served(tmp_path / "state", *words, "--allow-origin", "https://viewer.example") as guarded:
        wrong = {
            "": "needed",
            TOKEN: "needed",
            f"Bearer {TOKEN}x": "is wrong",
            "Bearer é": "wrong",
        }
        for given, line in wrong.items():
            answer = httpx.get(f"{guarded.url}/cases", headers=[("Authorization", given.encode())])
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert line in answer.json()["detail"]
        assert httpx.get(f"{guarded.url}/health").status_code == 200
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert httpx.get(f"{guarded.url}/cases?secret=phantom_000", headers=right).status_code == 200
        with httpx.Client(base_url=guarded.url, headers=right) as client:
            guarded.client = client
            guarded.ended(guarded.ask("tiny", "phantom_001"))
            guarded.ended(guarded.upload("tiny", phantoms / "imagesTr" / "phantom_002.nii.gz"))
            page = {"Origin": "https://viewer.example"}
            assert client.get("/models", headers=page).headers["access-control-allow-origin"] == page["Origin"]
            asks = page | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
            assert httpx.options(f"{guarded.url}/jobs", headers=asks).status_code == 200
            other = {"Origin": "https://evil.example"}
            assert "access-control-allow-origin" not in client.get("/models", headers=other).headers
        log = guarded.log.read_text()
    assert "(none) 401" in log
    assert "POST /jobs 201" in log
    for secret_word in (TOKEN, "phantom_0", "secret=", ".nii"):
        assert secret_word not in log
