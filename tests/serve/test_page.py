"""The page's files and the news that it listens to, without a browser."""

import gzip
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from fullscale.serve.page import ABSENT, PageFile
from fullscale.serve.service import Service
from tests.serve.in_process import opened

TOKEN = "c0ffee00c0ffee00c0ffee00"


@pytest.fixture
def desk(trained_run: Path, tmp_path: Path) -> Iterator[tuple[TestClient, Service]]:
    with opened(tmp_path / "state", trained_run, None, TOKEN) as found:
        yield found


def test_the_page_needs_no_token_and_loads_nothing_from_elsewhere(desk: tuple[TestClient, Service]) -> None:
    client, _ = desk
    client.app.state.page = {  # type: ignore[attr-defined]
        "index.html": PageFile(b"<p>", gzip.compress(b"<p>"), "text/html; charset=utf-8"),
        "page.js": PageFile(b"1", gzip.compress(b"1"), "text/javascript; charset=utf-8"),
    }
    for path, content in (("/", b"<p>"), ("/page/page.js", b"1")):
        for encoding in ("identity", "gzip"):
            answer = client.get(path, headers={"Accept-Encoding": encoding})
            assert (answer.status_code, answer.content) == (200, content)
            assert answer.headers.get("content-encoding", "identity") == encoding
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "http" not in policy
        assert "unsafe" not in policy
    for path in ("/page/other.js", "/page/..%2f..%2fapp.py", "/page/%2e%2e/jobs"):
        assert client.get(path).status_code == 404
    for path in ("/jobs", "/cases/details", "/events", "/page"):
        assert client.get(path).status_code == 401


def test_a_checkout_without_the_page_says_which_target_builds_it(desk: tuple[TestClient, Service]) -> None:
    client, _ = desk
    client.app.state.page = {}  # type: ignore[attr-defined]
    answer = client.get("/")
    assert (answer.status_code, answer.text) == (503, ABSENT)
    assert "make page" in answer.text
    assert len(answer.text.splitlines()) == 1


def test_news_tell_every_job_once_and_then_what_changes(desk: tuple[TestClient, Service]) -> None:
    client, service = desk
    looks = count()
    names = [f"{k:016x}" for k in range(2)]
    for name in names:
        assert service.store.add(name, "tiny", None, {}, 10)

    def ending() -> bool:
        look = next(looks)
        if look == 2:
            service.store.cancel(names[1])
        return look == 4

    service.ending = ending
    answer = client.get("/events", headers={"Authorization": f"Bearer {TOKEN}"})
    events = [dict(line.split(": ", 1) for line in one.splitlines()) for one in answer.text.strip().split("\n\n")]
    assert [event["event"] for event in events] == ["jobs", "jobs", "ending"]
    first, second = (json.loads(event["data"]) for event in events[:2])
    assert [(job["id"], job["state"]) for job in first] == [(name, "queued") for name in names]
    assert [(job["id"], job["state"]) for job in second] == [(names[1], "cancelled")]
