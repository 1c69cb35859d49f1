"""What the service refuses to start with: one line, and the exit code of a wrong request."""

import socket
from pathlib import Path

import pytest

from tests.conftest import Command


def refused(fullscale: Command, *words: object) -> str:
    done = fullscale("serve", *words)
    assert done.returncode in (2, 3), done.stderr
    [line] = done.stderr.splitlines()
    return str(line)


def test_a_wrong_model_is_named(fullscale: Command, trained_run: Path, tmp_path: Path) -> None:
    state = ("--state", tmp_path / "state", "--port", 0)
    assert "does not exist; give a run folder" in refused(fullscale, tmp_path / "nothing", *state)
    assert "holds no model" in refused(fullscale, tmp_path, *state)
    assert "two models are called 'tiny'" in refused(
        fullscale, f"tiny={trained_run}", f"tiny={trained_run / 'fold_0'}", *state
    )
    assert "a model cannot be called 'my model'" in refused(fullscale, f"my model={trained_run}", *state)
    assert not (tmp_path / "state").exists()


def test_other_addresses_need_a_token(fullscale: Command, trained_run: Path, tmp_path: Path) -> None:
    words = (trained_run, "--state", tmp_path / "state", "--port", 0)
    for host in ("0.0.0.0", "::", "192.168.1.4", "example.org"):
        line = refused(fullscale, *words, "--host", host)
        assert line == (
            f"fullscale: --host {host} is reached from other machines: give --token-file too, or use 127.0.0.1"
        )


@pytest.mark.parametrize(
    ("content", "mode", "line"),
    [
        ("", 0o600, "has 0 characters"),
        ("short", 0o600, "has 5 characters"),
        ("two words are no token", 0o600, "expected one word"),
        ("c0ffee00c0ffee00", 0o644, "every user of this machine can read the token"),
        (None, 0o600, "cannot read the token"),
    ],
)
def test_a_bad_token_file_is_refused(
    fullscale: Command, trained_run: Path, tmp_path: Path, content: str | None, mode: int, line: str
) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_text(content)
        token.chmod(mode)
    said = refused(fullscale, trained_run, "--state", tmp_path / "state", "--token-file", token, "--port", 0)
    assert line in said
    assert content is None or len(content) < 10 or content not in said


def test_a_port_in_use_is_named(fullscale: Command, trained_run: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(fullscale, trained_run, "--state", tmp_path / "state", "--port", port)
    assert line == f"fullscale: port {port} of 127.0.0.1 is in use: choose another with --port, or 0 for any"


@pytest.mark.parametrize("text", ["7", "d", "-1d", "7 weeks", "0h", "nan"])
def test_a_time_that_is_none_is_refused(fullscale: Command, trained_run: Path, tmp_path: Path, text: str) -> None:
    line = refused(fullscale, trained_run, "--state", tmp_path / "state", "--keep", text)
    assert "is not of the form 90s, 30m, 12h or 7d" in line


def test_a_folder_without_cases_is_named(fullscale: Command, trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    words = ("--state", tmp_path / "state", "--port", 0, "--data", tmp_path / "empty")
    assert "holds no scan" in refused(fullscale, trained_run, *words)
