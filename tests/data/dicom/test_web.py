"""What URLs ask of a DICOMweb server, and how it is asked: page by page, patiently, without a word of passwords."""

import shutil
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullscale.data.dicom import web
from fullscale.data.dicom.series import no_scan, read_series
from fullscale.data.dicom.web import Query, RemoteSeries
from fullscale.errors import DataError, FullscaleError, UsageError
from tests.dicom_slices import write_series
from tests.orthanc import Orthanc, orthanc, require_orthanc

ROOT = "https://pacs.example:8443/dicom-web"
uids = st.from_regex(r"[0-9](\.[0-9]{1,5}){2,8}", fullmatch=True)


@pytest.mark.parametrize(
    ("url", "study", "series", "of_series", "filters"),
    [
        ("", None, None, False, {}),
        ("/", None, None, False, {}),
        ("/studies", None, None, False, {}),
        ("/studies?ModalitiesInStudy=CT&StudyDate=20200101-", None, None, False, None),
        ("/studies/1.2", "1.2", None, False, {}),
        ("/studies/1.2/series", "1.2", None, True, {}),
        ("/studies/1.2/series/1.3", "1.2", "1.3", True, {}),
        ("/series?Modality=CT", None, None, True, {"Modality": "CT"}),
    ],
)
def test_urls_are_read(url: str, study: str | None, series: str | None, of_series: bool, filters: Any) -> None:
    query = Query.parse(ROOT + url)
    expected = {"ModalitiesInStudy": "CT", "StudyDate": "20200101-"} if filters is None else filters
    assert query == Query(ROOT, study, series, of_series, expected)


@given(study=uids, series=uids, named=st.integers(0, 2), value=st.text(max_size=8))
def test_a_query_is_said_as_the_url_that_it_is_read_from(study: str, series: str, named: int, value: str) -> None:
    query = Query(ROOT, *(study, series)[:named], of_series=named == 2, filters={} if named else {"PatientID": value})
    assert Query.parse(str(query)) == query


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://alice:secret@pacs/dicom-web", "the URL of pacs holds a password"),
        (ROOT + "/studies/not-a-uid", "expected https://HOST/dicom-web"),
        (ROOT + "/studies/1.2/instances", "expected https://HOST/dicom-web"),
        (ROOT + "/series/1.2", "names a series without its study"),
        (ROOT + "/studies/1.2/series/1.3?Modality=CT", "cannot be filtered"),
        (ROOT + "/studies?limit=many", "limit=many is no number"),
        ("https://[::1", "is no URL"),
    ],
)
def test_what_is_no_query_is_refused(url: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        Query.parse(url)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def search_of(answers: list[str], most: int, changes: Callable[[], None] = lambda: None) -> Callable[..., Any]:
    """Answer a search with pages of at most so many, whatever is asked for."""

    def search(limit: int, offset: int, additional_params: dict[str, str]) -> list[dict[str, Any]]:
        del additional_params
        page = [{web._STUDY: {"Value": [uid]}} for uid in answers[offset : offset + min(limit, most)]]
        changes()
        return page

    return search


@given(count=st.integers(0, 30), most=st.integers(1, 12), wanted=st.none() | st.integers(1, 40))
def test_pages_hold_each_answer_once_whatever_the_server_sends_at_a_time(
    count: int, most: int, wanted: int | None
) -> None:
    answers = [f"1.{k}" for k in range(count)]
    asked = {} if wanted is None else {"limit": str(wanted)}
    found = [web._text(one, web._STUDY) for one in web._pages("here", search_of(answers, most), asked)]
    assert found == answers[: count if wanted is None else wanted]


def test_a_server_that_knows_no_pages_is_not_asked_for_ever() -> None:
    def search(**_: Any) -> list[dict[str, Any]]:
        return [{web._STUDY: {"Value": [f"1.{k}"]}} for k in range(5)]

    assert len(list(web._pages("here", search, {}))) == 5


def test_answers_that_come_in_while_pages_are_read_are_given_once() -> None:
    answers = [f"1.{k}" for k in range(10)]
    search = search_of(answers, 4, lambda: answers.insert(0, f"2.{len(answers)}") if len(answers) < 13 else None)
    found = [web._text(one, web._STUDY) for one in web._pages("here", search, {})]
    assert len(found) == len(set(found))
    assert set(found) >= {f"1.{k}" for k in range(10)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    folder = tmp_path_factory.mktemp("server")
    for k in range(3):
        uids = {"StudyInstanceUID": f"1.2.{k}", "SeriesInstanceUID": f"1.2.{k}.1"}
        write_series(folder / "studies" / str(k), SeriesDescription=f"series {k}", **uids)
    with orthanc(folder / "orthanc") as started:
        started.store(folder / "studies")
        yield started


def fetched(series: RemoteSeries, folder: Path) -> Path:
    folder.mkdir()
    series.fetch(folder)
    return folder


def test_series_are_found_page_by_page_and_fetched(
    server: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "PAGE", 2)
    found = list(Query.parse(server.url).find())
    assert sorted(one.series for one in found) == ["1.2.0.1", "1.2.1.1", "1.2.2.1"]
    assert {(one.modality, one.instances) for one in found} == {("CT", 5)}
    for url, names in (
        ("/studies/1.2.1", ["1.2.1.1"]),
        ("/studies/1.2.1/series/1.2.1.1", ["1.2.1.1"]),
        ("/studies?StudyInstanceUID=1.2.0", ["1.2.0.1"]),
        ("/studies?ModalitiesInStudy=MR", []),
        ("/studies/9.9", []),
    ):
        assert [one.series for one in Query.parse(server.url + url).find()] == names
    assert [one.series for one in Query.parse(server.url).find("series 2")] == ["1.2.2.1"]
    [series] = Query.parse(server.url + "/studies/1.2.1").find()
    content = series.content({})
    assert series.content({}) == content
    assert read_series(fetched(series, tmp_path / "series")).array.shape == (4, 3, 5)
    with pytest.raises(DataError, match=r"studies/1\.2/series/1\.3: is not on the server"):
        RemoteSeries(server.url, "1.2", "1.3").content({})


class Cutting(socketserver.ThreadingTCPServer):
    """Hands on to a server, and cuts the first connections in the middle of an answer of files."""

    allow_reuse_address, daemon_threads = True, True

    def __init__(self, port: int, cuts: int) -> None:
        super().__init__(("127.0.0.1", 0), Handing)
        self.port, self.cuts = port, cuts


class Handing(socketserver.BaseRequestHandler):
    server: Cutting

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.port)) as other:
            threading.Thread(target=self.send_on, args=(other,), daemon=True).start()
            while answer := other.recv(4096):
                if b"multipart/related" in answer and self.server.cuts:
                    self.server.cuts -= 1
                    self.request.sendall(answer[: len(answer) // 2])
                    return
                self.request.sendall(answer)

    def send_on(self, other: socket.socket) -> None:
        try:
            while asked := self.request.recv(4096):
                other.sendall(asked)
        except OSError:
            pass


@contextmanager
def cutting(port: int, cuts: int) -> Iterator[Cutting]:
    with Cutting(port, cuts) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy
        proxy.shutdown()


def test_a_series_whose_connection_is_cut_is_fetched_again_and_whole(server: Orthanc, tmp_path: Path) -> None:
    with cutting(server.port, cuts=2) as proxy:
        url = f"http://127.0.0.1:{proxy.server_address[1]}/dicom-web/studies/1.2.1"
        [series] = Query.parse(url).find()
        folder = fetched(series, tmp_path / "cut")
        assert proxy.cuts == 0
    [direct] = Query.parse(server.url + "/studies/1.2.1").find()
    whole = fetched(direct, tmp_path / "whole")
    assert (read_series(folder).array == read_series(whole).array).all()
    assert len(list(folder.iterdir())) == 5


def test_a_server_that_is_not_there_or_is_none_is_said_in_a_line(
    server: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "FIRST_S", 0.1)
    monkeypatch.setattr(web, "PATIENCE_S", 0.1)
    with pytest.raises(FullscaleError, match="cannot be reached, or broke off; look after it, and repeat"):
        next(Query.parse("http://127.0.0.1:1/dicom-web").find())
    with pytest.raises(DataError, match="answers 404"):
        next(Query.parse(server.address + "/none").find())
    monkeypatch.setattr(web, "LARGEST_BYTES", 1000)
    [series] = Query.parse(server.url + "/studies/1.2.1").find()
    with pytest.raises(DataError, match="is larger than"):
        fetched(series, Path(server.folder / "large"))


def test_credentials_come_from_the_environment_or_netrc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    require_orthanc()
    caplog.set_level("DEBUG", "fullscale")
    users = {"AuthenticationEnabled": True, "RegisteredUsers": {"alice": "secret"}}
    monkeypatch.setenv("HOME", str(tmp_path))
    with orthanc(tmp_path / "closed", **users) as closed:
        query = Query.parse(closed.url)
        with pytest.raises(UsageError, match=r"refuses access \(401\): give FULLSCALE_DICOMWEB_USER"):
            list(query.find())
        monkeypatch.setenv(web.USER, "alice")
        monkeypatch.setenv(web.PASSWORD, "wrong")
        with pytest.raises(UsageError, match="refuses access"):
            list(query.find())
        monkeypatch.setenv(web.PASSWORD, "secret")
        assert list(query.find()) == []
        for name in (web.USER, web.PASSWORD):
            monkeypatch.delenv(name)
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login alice password secret")
        (tmp_path / ".netrc").chmod(0o600)
        assert list(query.find()) == []
        monkeypatch.setenv(web.TOKEN, "a-token")  # it counts more than netrc, and this server knows none
        with pytest.raises(UsageError, match="refuses access"):
            list(query.find())
    assert "secret" not in caplog.text
    assert "a-token" not in caplog.text


def test_real_slices_come_as_they_are_in_their_files(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "dcmqi" / "ct-3slice"
    with orthanc(tmp_path / "orthanc") as started:
        started.store(source)
        [series] = Query.parse(started.url).find()
        folder = fetched(series, tmp_path / "fetched")
    local, remote = read_series(source), read_series(folder)
    assert (local.array == remote.array).all()
    assert np.array_equal(local.affine, remote.affine)
    assert no_scan(folder) is None
    shutil.rmtree(folder)
