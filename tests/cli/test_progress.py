"""Long work on a log: never silent for longer than agreed, and no more talkative than that."""

import io
import re
import sys
import time

import pytest

from fullscale.cli import progress as shown
from fullscale.cli.show import print_status


@pytest.fixture(autouse=True)
def every_tenth_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "EVERY_S", 0.2)


def test_a_log_gets_a_line_in_time_even_within_one_case(capsys: pytest.CaptureFixture[str]) -> None:
    with shown.progress_bar("scoring") as progress:
        time.sleep(0.5)
        progress(1, 3, "case_[1]")
        time.sleep(0.5)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 5
    assert re.fullmatch(r"scoring: \d+ s", lines[0])
    assert re.fullmatch(r"scoring: 1 of 3 done, last case_\[1\], \d+ s", lines[-1])


def test_work_that_speaks_for_itself_is_not_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    with shown.progress_bar("training"):
        for epoch in range(8):
            print_status(f"epoch {epoch}")
            time.sleep(0.05)
    assert capsys.readouterr().err.splitlines() == [f"epoch {epoch}" for epoch in range(8)]


def test_quick_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with shown.progress_bar("scoring") as progress:
        progress(1, 1, "a")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["[red]x[/red]", "case[1]", "[/]", "a [bold"])
def test_a_bar_shows_a_name_as_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    with shown.progress_bar("scoring") as progress:
        progress(1, 2, name)
        print_status(f"note: {name}")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert f"scoring {name}" in plain
    assert f"note: {name}" in plain
    assert "1/2" in plain
