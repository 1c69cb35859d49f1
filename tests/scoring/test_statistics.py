"""Intervals and comparisons against hand-made cases, enumeration and simulation."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fullscale.errors import DataError, UsageError
from fullscale.scoring.paired import paired_dice
from fullscale.scoring.statistics import (
    bootstrap_interval,
    compare_paired,
    holm,
    least_p,
    smallest_difference,
    steady_scores,
)
from fullscale.scoring.summary import CaseScores, Summary

SCORES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=12)


def summary(dice: dict[str, tuple[float | None, ...]], labels: tuple[int, ...] = (1, 2)) -> Summary:
    cases = [
        CaseScores(case, {label: {"Dice": d} for label, d in zip(labels, row, strict=True)}, Path("p"), Path("t"))
        for case, row in dice.items()
    ]
    return Summary({label: f"structure {label}" for label in labels}, dict.fromkeys(labels, 1.0), cases)


def test_an_interval_holds_the_true_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    intervals = [bootstrap_interval(1 - generator.exponential(0.1, 30)) for _ in range(200)]
    held = np.mean([i is not None and i.low <= 0.9 <= i.high for i in intervals])
    assert 0.88 <= held <= 0.98  # 0.95, less what thirty values of a skewed distribution cost


def test_an_interval_of_many_cases_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(1).normal(0.9, 0.03, 2000)
    interval = bootstrap_interval(values)
    assert interval == pytest.approx(stats.norm.interval(0.95, values.mean(), stats.sem(values)), abs=2e-4)


def test_three_cases_have_no_interval_and_equal_cases_have_an_empty_one() -> None:
    assert bootstrap_interval([0.9]) is None
    assert bootstrap_interval([0.5, 0.7, 0.8]) is None
    assert bootstrap_interval([0.9, 0.9, 0.9, 0.9]) == (0.9, 0.9)
    low, high = bootstrap_interval([0.5, 0.6, 0.7, 0.8]) or (0, 0)
    assert 0.5 < low < 0.65 < high < 0.8


@pytest.mark.parametrize(
    "steps",
    [(5, -1, 2, 3, 4, 6), (2, 2, -2, 1, 3, 3), (0, 4, -4, 0, 1, 2, 2, 2), (-1, 1), (0, 3), (0, 0)],
    ids=["no ties", "ties", "ties and equal pairs", "one each way", "one sign", "all pairs equal"],
)
def test_the_signed_rank_test_counts_all_ways_to_give_signs(steps: tuple[int, ...]) -> None:
    differences = np.array(steps) / 64  # exact, so that ties are ties
    signed = differences[differences != 0]
    ranks = stats.rankdata(np.abs(signed))
    seen = abs((ranks * np.sign(signed)).sum())
    everything = [abs((ranks * signs).sum()) for signs in product((-1, 1), repeat=len(signed))]
    compared = compare_paired(0.5 + differences, np.full(len(steps), 0.5))
    assert compared.p_value == pytest.approx(np.mean([sum_ >= seen - 1e-9 for sum_ in everything]))
    assert compared.effect_size == pytest.approx((ranks * np.sign(signed)).sum() / max(1, ranks.sum()))
    assert compared.difference == pytest.approx(differences.mean())


def test_all_ranks_but_the_lowest_in_favour() -> None:
    differences = np.array([0.05, -0.01, 0.02, 0.03, 0.04, 0.06])
    assert compare_paired(0.5 + differences, np.full(6, 0.5)).effect_size == pytest.approx((21 - 2) / 21)


@pytest.mark.parametrize("cases", [30, 50, 51, 400])
def test_the_signed_rank_test_of_many_cases_is_that_of_scipy(cases: int) -> None:
    differences = np.random.default_rng(cases).normal(0.005, 0.03, cases)
    expected = stats.wilcoxon(differences, method="exact" if cases <= 50 else "asymptotic").pvalue
    assert compare_paired(differences, np.zeros(cases)).p_value == pytest.approx(expected, rel=1e-9)


@settings(deadline=None)
@given(SCORES)
def test_the_other_way_round_the_signs_change_and_nothing_else(pairs: list[tuple[float, float]]) -> None:
    first, second = np.array(pairs).T
    there, back = compare_paired(first, second), compare_paired(second, first)
    assert there.p_value == pytest.approx(back.p_value)
    assert there.effect_size == pytest.approx(-back.effect_size)
    assert there.difference == pytest.approx(-back.difference)
    assert -1 <= there.effect_size <= 1
    assert there.shown == back.shown


def test_too_few_cases_say_so() -> None:
    compared = compare_paired([0.9, 0.8, 0.9, 0.85, 0.95], [0.1, 0.2, 0.3, 0.25, 0.4])
    assert compared.p_value == pytest.approx(least_p(5)) == 1 / 16
    assert compared.verdict == "no difference shown (5 cases are too few to show any)"
    assert compare_paired([0.9] * 3, [0.9] * 3).verdict.startswith("no difference shown")
    values = np.random.default_rng(2).uniform(0.5, 0.6, 8)
    assert compare_paired(values + 0.1, values).verdict == "higher"
    assert compare_paired(values - 0.1, values).verdict == "lower"
    with pytest.raises(DataError, match="2 and 3 scores cannot be paired"):
        compare_paired([0.1, 0.2], [0.1, 0.2, 0.3])


def test_holm_on_an_example_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


def test_the_smallest_difference_is_found_four_times_in_five() -> None:
    generator = np.random.default_rng(3)
    pattern = generator.normal(0, 0.02, 20)
    pattern = (pattern - pattern.mean()) / pattern.std(ddof=1) * 0.02
    wanted = smallest_difference(pattern)
    assert wanted is not None
    samples = generator.normal(wanted, 0.02, (4000, 20))
    found = np.mean(stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05)
    assert found == pytest.approx(0.8, abs=0.03)
    assert smallest_difference([0.1]) is None


def test_a_case_that_only_one_of_two_scores_compares_as_one_and_nothing() -> None:
    ours = summary({"a": (0.9, None), "b": (0.8, 0.6), "c": (None, None), "d": (1.0, 1.0)})
    theirs = summary({"a": (0.7, 0.0), "b": (0.6, 0.6), "c": (None, None)})
    cases, first, second = paired_dice(ours, theirs)
    assert cases == ["a", "b"]
    np.testing.assert_allclose(first, [0.95, 0.7])
    np.testing.assert_allclose(second, [0.35, 0.6])
    cases, first, second = paired_dice(ours, theirs, label=2)
    np.testing.assert_allclose([first, second], [[1, 0.6], [0, 0.6]])
    with pytest.raises(UsageError, match="1=structure 1, 2=structure 2 and 1=structure 1"):
        paired_dice(ours, summary({"a": (0.7,)}, (1,)))
    with pytest.raises(DataError, match="no scored case in common"):
        paired_dice(ours, summary({"e": (0.7, 0.7)}))


def test_one_lucky_epoch_is_not_the_best() -> None:
    scores = [0.80, 0.86, 0.91, 0.88, 0.89, 0.90, 0.90]
    steady = steady_scores(scores)
    assert steady == pytest.approx([0.80, 0.83, 0.8566667, 0.8833333, 0.8933333, 0.89, 0.8966667])
    assert steady.index(max(steady)) == 6
    assert steady_scores([0.1] * 4) == [0.1] * 4
    assert steady_scores([]) == []
