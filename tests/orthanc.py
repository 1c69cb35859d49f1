"""A real DICOMweb server on this machine: Orthanc with its plugin, in a process of its own, to be killed."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
PATIENCE_S = 60.0
"""For a busy machine."""


def require_orthanc() -> str:
    """Name the program; skip where it, its plugin or our client is not installed."""
    pytest.importorskip("dicomweb_client")
    program = shutil.which("Orthanc") or shutil.which("orthanc")
    if program is None or not PLUGIN.exists():
        pytest.skip("no Orthanc: install the Debian packages orthanc and orthanc-dicomweb")
    return program


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Orthanc:
    """A server whose studies lie in a folder, so that it can be started again."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.program = require_orthanc()
        self.folder = folder
        self.port, self.dicom_port = free_port(), free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.address}/dicom-web"
        folder.mkdir(parents=True)
        content = {
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "HttpPort": self.port,
            "DicomServerEnabled": False,
            "DicomPort": self.dicom_port,
            "RemoteAccessAllowed": False,
            "Plugins": [str(PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (folder / "orthanc.json").write_text(json.dumps(content | settings))
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with (self.folder / "log").open("ab") as log:
            command = [self.program, str(self.folder / "orthanc.json")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def store(self, folder: Path) -> None:
        """Take in every DICOM file of a folder."""
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            if file.read_bytes()[128:132] != b"DICM":
                continue
            request = urllib.request.Request(f"{self.address}/instances", file.read_bytes(), method="POST")
            with urllib.request.urlopen(request) as answer:
                assert answer.status == 200


@contextlib.contextmanager
def orthanc(folder: Path, **settings: Any) -> Iterator[Orthanc]:
    """Give a server with settings of its own."""
    server = Orthanc(folder, **settings)
    try:
        yield server
    finally:
        server.kill()
