"""The page on reliability shows the counts of the last long run, and nothing went wrong in it."""

import json

import pytest

from tests.faults.scale import COUNTS
from tests.faults.table import PAGE, parts, with_tables

pytestmark = pytest.mark.faults


def test_the_page_shows_the_counts_that_were_kept() -> None:
    text = PAGE.read_text()
    assert with_tables(text, json.loads(COUNTS.read_text())) == text


def test_no_fault_and_no_litter_stand_in_the_counts() -> None:
    counts = json.loads(COUNTS.read_text())
    for kind in ("kill", "network", "locks", "clock", "full disk", "read-only", "64 files", "file"):
        for what, part in parts(counts, kind).items():
            assert part.get("litter", 0) == part.get("faults", 0) == 0, what
    for what, part in parts(counts, "network").items():
        assert part["same result"] + part.get("refused", 0) == part["copied"] + part["gap"] + part["lost"], what
    for what, part in parts(counts, "kill").items():
        assert part["same result"] == part["killed"] + part.get("terminated", 0), what
