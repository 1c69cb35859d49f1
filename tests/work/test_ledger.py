"""The ledger: many writers, none of which waits for another, and one answer."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fullscale.errors import OutputError
from fullscale.work.ledger import FOLDER, Ledger, Row, write_row
from fullscale.work.shard import Shard

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TEXT, TEXT, st.integers(1, 99), st.dictionaries(TEXT, TEXT))
def test_a_row_is_read_as_it_was_written(case: str, line: str, turn: int, content: dict[str, str]) -> None:
    row = Row(case, "failed", turn, 2, "abc", 1.25, 1000.5, line, content)
    packed = row.packed()
    assert b"\n" not in packed
    assert Row.unpacked(packed) == row


def test_the_newest_row_is_told_by_its_turn_not_by_clocks_nor_by_the_order_of_journals(tmp_path: Path) -> None:
    rows = [
        Row("a", "begun", 1, at=900),
        Row("a", "done", 1, at=10),  # the clock jumped back
        Row("b", "done", 1, at=5),
        Row("b", "begun", 2, at=1),
        Row("c", "failed", 3, line="no"),
        Row("c", "begun", 2),
    ]
    for k, row in enumerate(reversed(rows)):
        (tmp_path / FOLDER).mkdir(exist_ok=True)
        (tmp_path / FOLDER / f"{k}.log").write_bytes(b"\n" + row.packed() + b"\n")
    ledger = Ledger(tmp_path)
    assert {row.case: row.state for row in ledger} == {"a": "done", "b": "begun", "c": "failed"}
    assert ledger.counts() == {"begun": 1, "stopped": 0, "failed": 1, "done": 1}
    assert [row.line for row in ledger.of_state("failed")] == ["no"]
    assert ledger.get("b") == rows[3]
    assert ledger.get("d") is None
    assert len(ledger) == 3


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 400), st.binary(max_size=5))
def test_a_torn_line_does_not_count_and_hurts_no_other(cut: int, rubbish: bytes) -> None:
    whole, torn = Row("a", "done").packed(), Row("b", "done").packed()
    torn, row = torn[: min(cut, len(torn) - 1)] + rubbish, torn
    assume(row not in torn.split(b"\n"))  # the brace that was torn off may come back
    ledger = Ledger(Path("nowhere"))
    ledger._add(b"\n" + torn + b"\n" + whole + b"\n")
    assert [row.case for row in ledger] == ["a"]


WRITER = """
import sys
from pathlib import Path
from fullscale.work.ledger import Row, write_row
for k in range(50):
    write_row(Path(sys.argv[1]), Row(f"{sys.argv[2]} {k}", "done", line="x" * 5000))
"""


def test_processes_write_side_by_side(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, str(n)]) for n in range(3)]
    assert [writer.wait(300) for writer in writers] == [0, 0, 0]
    assert {row.case for row in Ledger(tmp_path)} == {f"{n} {k}" for n in range(3) for k in range(50)}
    assert len(list((tmp_path / FOLDER).iterdir())) == 3


def test_the_ledger_of_a_share_says_the_same_of_its_cases_and_knows_no_others(tmp_path: Path) -> None:
    for k in range(40):
        write_row(tmp_path, Row(f"case {k}", "begun", turn=1))
        write_row(tmp_path, Row(f"case {k}", "done", turn=1))
    whole = {row.case: row for row in Ledger(tmp_path)}
    shares = [Ledger(tmp_path, wanted=Shard(k, 3).holds) for k in (1, 2, 3)]
    assert sum(map(len, shares)) == len(whole) == 40
    assert {row.case: row for share in shares for row in share} == whole


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / FOLDER).touch()
    with pytest.raises(OutputError, match="cannot write"):
        write_row(tmp_path, Row("a", "begun"))


def test_a_forecast_is_worked_out_by_hand(tmp_path: Path) -> None:
    """Four cases of 10 s in two processes with three threads each: 20 s in all."""
    content = {"device": "cpu", "threads": 3}
    for k, end in enumerate((110.0, 110.0, 120.0, 120.0)):
        write_row(tmp_path, Row(f"{k}", "done", seconds=10, at=end, content=content))
    forecast = Ledger(tmp_path).forecast(720)
    assert forecast is not None
    assert (forecast.seconds_each, forecast.at_once, forecast.devices, forecast.unit) == (10, 2, 3, "core")
    assert forecast.describe() == "720 cases are left, 10 s each: 6 core hours, 1 hours with 2 at once"
    assert Ledger(tmp_path / "other").forecast(3) is None


@pytest.mark.parametrize(
    ("offsets", "at_once"),
    [
        ((0, 0, 0, 0), 4),
        ((0, 0, -7200, 9e8), 1.5),  # half the cases say 2, and those of two machines whose clocks are off say 1
        ((0, 0, 0, -7200), 3),
    ],
)
def test_a_clock_that_is_off_changes_what_its_own_cases_say_of_how_many_are_at_work(
    offsets: tuple[float, ...], at_once: float, tmp_path: Path
) -> None:
    for process, offset in enumerate(offsets):
        for k in range(20):
            write_row(tmp_path, Row(f"{process} {k}", "done", seconds=10, at=1e6 + 10 * k + offset + process))
    forecast = Ledger(tmp_path).forecast(720)
    assert forecast is not None
    assert forecast.at_once == at_once


def test_a_clock_that_steps_back_between_cases_makes_no_second_worker(tmp_path: Path) -> None:
    for k in range(40):
        write_row(tmp_path, Row(f"{k}", "done", seconds=10, at=1e6 + 10 * k - (3600 if k > 20 else 0)))
    forecast = Ledger(tmp_path).forecast(720)
    assert forecast is not None
    assert forecast.at_once == 1


@pytest.mark.long
@pytest.mark.slow
def test_a_million_rows_are_read_in_seconds(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    content = {"seen": "0" * 32, "scan": "0" * 32, "files": {"case.nii.gz": [1, 2]}, "device": "cpu", "threads": 1}
    for part in range(100):
        rows = (Row(f"case {part} {k}", "done", seconds=1, content=content).packed() for k in range(10_000))
        (tmp_path / FOLDER / f"{part}.log").write_bytes(b"\n".join(rows))
    began = time.process_time()
    ledger = Ledger(tmp_path)
    counts, forecast = ledger.counts(), ledger.forecast(7)
    took_s = time.process_time() - began
    assert counts["done"] == 1_000_000
    assert forecast is not None
    assert took_s < 60, took_s  # 7 s were measured; a machine may be much slower
