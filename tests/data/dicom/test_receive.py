"""The receiver of classic DICOM: what an association sends is kept as a whole or not at all, within bounds."""

import contextlib
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest

pytest.importorskip("pynetdicom")

from pynetdicom import AE

from fullscale.data.dicom.peers import Peer, echo, store
from fullscale.data.dicom.receive import Broken, ReceiveOptions, Receiver
from fullscale.errors import DataError, FullscaleError, UsageError
from tests.dicom_slices import SLICES, write_series

CT = "1.2.840.10008.5.1.4.1.1.2"


class Inbox:
    """A receiver, and all that it told."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.incoming, self.arrived, self.broken = folder / "incoming", folder / "arrived", list[Broken]()
        self.receiver = Receiver(ReceiveOptions(**options), self.incoming, self.arrived, self.broken.append)  # type: ignore[arg-type]
        self.port = self.receiver.start()

    def peer(self, title: str = "FULLSCALE") -> Peer:
        return Peer(title, "127.0.0.1", self.port)

    def is_empty(self) -> bool:
        return not list(self.incoming.iterdir()) and not list(self.arrived.iterdir())


@contextmanager
def receiving(folder: Path, **options: object) -> Iterator[Inbox]:
    box = Inbox(folder, **options)
    try:
        yield box
    finally:
        box.receiver.stop()


def wait(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    named = {"PatientID": "1", "PatientName": "Doe^Jane"}
    return sorted(write_series(tmp_path / "scan", **named).iterdir())


def test_what_is_sent_arrives_as_one_folder_with_the_same_content(tmp_path: Path, files: list[Path]) -> None:
    with receiving(tmp_path / "box") as box:
        echo(box.peer())
        assert box.is_empty()
        assert store(box.peer(), files) == ["as it is"] * SLICES
        wait(lambda: list(box.arrived.iterdir()))
        [folder] = box.arrived.iterdir()
        got = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
        assert [g.PixelData for g in got] == [pydicom.dcmread(path).PixelData for path in files]
        assert [g.PatientName for g in got] == ["Doe^Jane"] * SLICES
        assert (list(box.incoming.iterdir()), box.broken) == ([], [])


def test_the_program_of_others_sends_too(tmp_path: Path, files: list[Path]) -> None:
    program = shutil.which("storescu")
    if program is None:
        pytest.skip("no storescu: install the Debian package dcmtk")
    with receiving(tmp_path / "box") as box:
        words = [program, "-aec", "FULLSCALE", "127.0.0.1", str(box.port), *map(str, files)]
        subprocess.run(words, check=True, timeout=60)
        wait(lambda: list(box.arrived.iterdir()))
        [folder] = box.arrived.iterdir()
        assert len(list(folder.iterdir())) == SLICES


def test_an_association_that_breaks_off_leaves_nothing(tmp_path: Path, files: list[Path]) -> None:
    with receiving(tmp_path / "box") as box:
        entity = AE(ae_title="SENDER")
        entity.add_requested_context(CT, "1.2.840.10008.1.2.1")
        association = entity.associate("127.0.0.1", box.port, ae_title="FULLSCALE")
        for path in files[:3]:
            assert association.send_c_store(pydicom.dcmread(path)).Status == 0
        assert len(list(box.incoming.rglob("*.dcm"))) == 3
        association.abort()
        wait(lambda: box.broken)
        assert box.is_empty()
        [broken] = box.broken
        assert (broken.caller, broken.studies, broken.files) == ("SENDER", ("1.2.1",), 3)
        assert broken.why == "the connection broke off"


def test_who_is_not_known_or_calls_by_another_title_is_turned_away(tmp_path: Path, files: list[Path]) -> None:
    with receiving(tmp_path / "box", callers=("SENDER", "ELSEWHERE@192.0.2.1")) as box:
        with pytest.raises(UsageError, match="does not go by the AE title 'WRONG'"):
            store(box.peer("WRONG"), files, "SENDER")
        with pytest.raises(UsageError, match="does not know our AE title 'STRANGER'"):
            store(box.peer(), files, "STRANGER")
        with pytest.raises(FullscaleError):
            store(box.peer(), files, "ELSEWHERE")
        assert box.is_empty()
        assert store(box.peer(), files, "SENDER")


@pytest.mark.parametrize(
    ("bounds", "error", "why"),
    [
        ({"most_files": 3}, FullscaleError, "it had more than 3 files"),
        ({"largest": 2000}, FullscaleError, "or 2000 bytes"),
        ({"largest_file": 300}, FullscaleError, "had more than 300 bytes"),
    ],
)
def test_what_is_too_much_is_refused_and_leaves_nothing(
    tmp_path: Path, files: list[Path], bounds: dict[str, int], error: type[FullscaleError], why: str
) -> None:
    with receiving(tmp_path / "box", **bounds) as box:
        with pytest.raises(error):
            store(box.peer(), files)
        wait(lambda: box.broken)
        assert box.is_empty()
        assert why in box.broken[0].why


def test_a_file_without_identifiers_is_refused_and_nothing_of_its_association_kept(
    tmp_path: Path, files: list[Path]
) -> None:
    nameless = tmp_path / "nameless.dcm"
    dataset = pydicom.dcmread(files[0])
    del dataset.SeriesInstanceUID
    dataset.save_as(nameless)
    with receiving(tmp_path / "box") as box:
        with pytest.raises(DataError, match="C000"):
            store(box.peer(), [*files[1:], nameless])
        wait(lambda: box.broken)
        assert box.is_empty()
        assert "names no study, series and instance" in box.broken[0].why


def test_a_full_disk_is_said_to_the_sender(tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fullscale.data.dicom.receive.write_file_meta_info", full)
    with receiving(tmp_path / "box") as box:
        with pytest.raises(FullscaleError, match="has no room: it answers C-STORE with A700"):
            store(box.peer(), files)
        wait(lambda: box.broken)
        assert box.is_empty()
        assert "No space left on device" in box.broken[0].why


@pytest.mark.parametrize("head", [struct.pack(">BBL", 1, 0, 2**32 - 1), struct.pack(">BBL", 4, 0, 2**31)])
def test_a_peer_that_claims_gigabytes_is_left(tmp_path: Path, head: bytes) -> None:
    with receiving(tmp_path / "box") as box:
        with socket.create_connection(("127.0.0.1", box.port), 10) as stranger:
            stranger.sendall(head + b"\0" * 2000)
            stranger.settimeout(20)
            with contextlib.suppress(ConnectionError):
                while stranger.recv(4096):
                    pass
        echo(box.peer())  # the others are served


def test_a_peer_that_speaks_another_protocol_does_not_disturb_the_others(tmp_path: Path) -> None:
    with receiving(tmp_path / "box") as box, socket.create_connection(("127.0.0.1", box.port), 10) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        echo(box.peer())
        assert box.is_empty()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with receiving(tmp_path / "box") as box, pytest.raises(UsageError, match="choose another with --dicom-port"):
        Inbox(tmp_path / "other", port=box.port)
