"""Scores of groups of cases: by spacing, by the true volume of a structure, and by columns of the list of cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fullscale.data.distribution import ACROSS, IN_PLANE, distribution_of
from fullscale.geometry.units import LENGTH, SIZE
from fullscale.reporting.model_card.facts import Facts
from fullscale.scoring.statistics import FEWEST_CASES, bootstrap_interval
from fullscale.scoring.summary import CaseScores

TOO_FEW = "too few cases"
MOST_GROUPS = 3
"""Into which cases are parted by a number."""


@dataclass(frozen=True)
class Group:
    """Cases that are alike in something.

    Attributes:
        name: of the group, such as "0.7 to 0.8".
        structure: whose Dice it is.
        cases: that score it.
        dice: mean over them; None where there is none.
        interval: of the mean, in words.
    """

    name: str
    structure: str
    cases: int
    dice: float | None
    interval: str


@dataclass(frozen=True)
class Grouping:
    """All groups by one thing.

    Attributes:
        by: what it is, such as "scanner".
        groups: with their scores; none where `note` says why.
        note: why the cases are not parted.
    """

    by: str
    groups: list[Group]
    note: str = ""


def groupings(facts: Facts) -> Iterator[Grouping]:
    """Part the scored cases by whatever is known of them."""
    length, size = LENGTH[facts.summary.unit], SIZE[facts.summary.unit]
    cases = {case.case: case for case in facts.summary.cases}
    measures = {"mm": {"spacing within slices": IN_PLANE, "distance between slices": ACROSS}}
    measures |= {"mm2": {"size of a pixel": IN_PLANE}, "px": {}}
    for what, measure in measures[facts.summary.unit].items():
        yield _by_number(facts, f"{what} in {length}", _spacings(facts, measure))
    for label, structure in facts.summary.labels.items():
        volumes = {
            name: float(case.metrics[label]["reference_volume_ml"] or 0)
            for name, case in cases.items()
            if case.metrics[label]["n_ref"] and label not in case.unknown
        }
        what = "volume" if facts.summary.unit == "mm" else "size"
        yield _by_number(facts, f"true {what} of {structure} in {size}", volumes, label)
    for column in sorted({name for said in facts.data.subgroups.values() for name in said}):
        said = {case: facts.data.subgroups.get(case, {}).get(column, "not stated") for case in cases}
        yield Grouping(column, list(_scores(facts, said)))


def _spacings(facts: Facts, measure: str) -> dict[str, float]:
    """Return the largest spacing of each scored case."""
    found = {}
    for one in facts.data.facts:
        spans = distribution_of([one.model_dump()], facts.card.scheme, [one.case])
        if spans is not None:
            found[one.case] = spans.spans[measure].high
    return {case.case: found[case.case] for case in facts.summary.cases if case.case in found}


def _by_number(facts: Facts, by: str, values: Mapping[str, float], label: int | None = None) -> Grouping:
    """Part cases into groups of about equal size, each of as many cases as an interval takes, or say why not."""
    rounded = {case: float(f"{value:.3g}") for case, value in values.items()}
    if not rounded:
        return Grouping(by, [], "not known of any case")
    low, high = min(rounded.values()), max(rounded.values())
    if low == high:
        return Grouping(by, [], f"{low:g} in all {len(rounded)} cases")
    parts = min(MOST_GROUPS, len(rounded) // FEWEST_CASES)
    if parts < 2:
        return Grouping(by, [], f"{low:g} to {high:g}; {len(rounded)} cases are too few to part them")
    ordered = sorted(rounded.values())
    ends = sorted({ordered[len(ordered) * part // parts - 1] for part in range(1, parts + 1)})
    names: dict[float, str] = {}
    start = low
    for end in ends:
        inside = [value for value in ordered if start <= value <= end]
        names |= {
            value: f"{min(inside):g}" if min(inside) == end else f"{min(inside):g} to {end:g}" for value in inside
        }
        start = next((value for value in ordered if value > end), end)
    return Grouping(by, list(_scores(facts, {case: names[value] for case, value in rounded.items()}, label)))


def _scores(facts: Facts, group_of: Mapping[str, str], label: int | None = None) -> Iterator[Group]:
    """Score each group, in the order in which the groups come when their cases are sorted by them."""
    chosen = {k: name for k, name in facts.summary.labels.items() if label in (None, k)}
    for group in _ordered(set(group_of.values())):
        cases = [case for case in facts.summary.cases if group_of.get(case.case) == group]
        for number, structure in chosen.items():
            yield _score(group, structure, cases, number)


def _ordered(names: set[str]) -> list[str]:
    """Sort names of groups; those that begin with a number by that number."""

    def key(name: str) -> tuple[float, str]:
        try:
            return float(name.split(" to ")[0]), name
        except ValueError:
            return float("inf"), name

    return sorted(names, key=key)


def _score(group: str, structure: str, cases: list[CaseScores], label: int) -> Group:
    dice = [value for case in cases if (value := case.metrics[label]["Dice"]) is not None]
    interval = bootstrap_interval(dice)
    text = TOO_FEW if interval is None else f"{interval.low:.4f} to {interval.high:.4f}"
    return Group(group, structure, len(dice), sum(dice) / len(dice) if dice else None, text)
