"""A signal ends a command in one line, whatever it was doing, and nothing disturbs its end."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fullscale.cli import stop as stopping
from fullscale.cli.stop import ENDINGS, stopped_by_signals

BOTH = pytest.mark.parametrize("sent", list(ENDINGS), ids=lambda sent: sent.name)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put the handlers of this process back."""
    before = {number: signal.getsignal(number) for number in ENDINGS}
    for number in ENDINGS:
        signal.signal(number, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@BOTH
def test_what_follows_from_a_signal_is_not_told_as_an_error(
    sent: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        try:
            signal.raise_signal(sent)
        finally:
            raise RuntimeError("DataLoader worker is killed by signal: Terminated.")

    with pytest.raises(SystemExit) as ended, stopped_by_signals():
        work()
    code, word = ENDINGS[sent]
    assert (ended.value.code, capsys.readouterr().err) == (code, f"fullscale: {word}\n")


def test_a_signal_that_comes_twice_does_not_cut_the_cleaning_up_short(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaned = []

    def work(first: signal.Signals) -> None:
        try:
            signal.raise_signal(first)
        finally:
            signal.raise_signal(signal.SIGINT)
            cleaned.append("all")

    with pytest.raises(SystemExit), stopped_by_signals():
        work(signal.SIGTERM)
    assert (cleaned, capsys.readouterr().err) == (["all"], "fullscale: terminated\n")
    for number in ENDINGS:
        signal.signal(number, signal.default_int_handler)
    monkeypatch.setattr(stopping, "PATIENCE_S", 0.0)  # later it is the user who asks again
    with pytest.raises(SystemExit), stopped_by_signals():
        work(signal.SIGINT)
    assert cleaned == ["all"]


def test_without_a_signal_errors_are_left_alone_and_the_end_is_undisturbed() -> None:
    with pytest.raises(ValueError, match="no signal"), stopped_by_signals() as stop:
        raise ValueError("no signal")
    assert stop.told is None
    for number in ENDINGS:
        signal.raise_signal(number)  # nothing happens


def test_a_command_that_was_started_deaf_to_ctrl_c_stays_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stopped_by_signals() as stop:
        signal.raise_signal(signal.SIGINT)
    assert stop.told is None


@BOTH
def test_a_signal_that_comes_while_the_command_loads(sent: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "fullscale", "inspect", tmp_path],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while "State:\tZ" not in (status := Path(f"/proc/{process.pid}/status").read_text()):
        caught = int(status.partition("SigCgt:\t")[2].split()[0], 16)
        if caught >> (signal.SIGTERM - 1) & 1:
            break
        time.sleep(0.002)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    code, word = ENDINGS[sent]
    assert (process.returncode, errors) == (code, f"fullscale: {word}\n")


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGUSR1], ids=lambda sent: sent.name)
def test_while_the_end_is_postponed_a_signal_is_only_noted(
    sent: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    noted = []

    def work(stop: stopping.Stop) -> None:
        with stop.postponed():
            signal.raise_signal(sent)
            signal.raise_signal(signal.SIGTERM)  # again, from the process that started this one
            noted.append(stop.asked)

    with pytest.raises(SystemExit) as ended, stopped_by_signals() as stop:
        work(stop)
    code, word = ENDINGS[sent]
    assert (noted, ended.value.code, capsys.readouterr().err) == ([sent], code, f"fullscale: {word}\n")


def test_ctrl_c_is_not_postponed_and_neither_is_a_signal_that_comes_again_much_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = []

    def work(stop: stopping.Stop, *signals: signal.Signals) -> None:
        with stop.postponed():
            for sent in signals:
                signal.raise_signal(sent)
            done.append(signals)

    with pytest.raises(SystemExit) as ended, stopped_by_signals() as stop:
        work(stop, signal.SIGUSR1, signal.SIGINT)
    assert (done, ended.value.code) == ([], 130)
    for number in ENDINGS:
        signal.signal(number, signal.default_int_handler)
    monkeypatch.setattr(stopping, "POSTPONED_PATIENCE_S", 0.0)
    with pytest.raises(SystemExit) as ended, stopped_by_signals() as stop:
        work(stop, signal.SIGUSR1, signal.SIGTERM)
    assert (done, ended.value.code) == ([], 75)


def test_an_error_of_postponed_work_is_told_as_one_and_a_helper_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(stop: stopping.Stop) -> None:
        with stop.postponed():
            signal.raise_signal(signal.SIGTERM)
            raise ValueError("of its own")

    with pytest.raises(ValueError, match="of its own"), stopped_by_signals() as stop:
        fail(stop)
    for number in ENDINGS:
        signal.signal(number, signal.default_int_handler)

    def end_silently(stop: stopping.Stop) -> None:
        stop.silent = True
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit), stopped_by_signals() as stop:
        end_silently(stop)
    assert capsys.readouterr().err == ""
