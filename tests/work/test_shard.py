"""Shares of a job array: together everything, and nothing twice."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fullscale.errors import UsageError
from fullscale.work.shard import Shard


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.text(), max_size=30), st.integers(1, 9))
def test_each_case_belongs_to_one_share_whatever_others_there_are(cases: list[str], count: int) -> None:
    shards = [Shard(k, count) for k in range(1, count + 1)]
    for case in cases:
        assert [shard.holds(case) for shard in shards].count(True) == 1
        assert Shard(1, 1).holds(case)


def test_shares_are_about_equal_and_the_same_tomorrow() -> None:
    held = [sum(Shard(k, 4).holds(f"case {n}") for n in range(4000)) for k in range(1, 5)]
    assert sum(held) == 4000
    assert all(900 < one < 1100 for one in held)
    # An array that is submitted again, by a later version too, shares the cases as before.
    assert [next(k for k in range(1, 4) if Shard(k, 3).holds(name)) for name in ("a", "b", "c", "é")] == [3, 3, 1, 1]


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", "1/3/5"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not of the form I/N"):
        Shard.parse(text)
    assert Shard.parse("2/3") == Shard(2, 3)
