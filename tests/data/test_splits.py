"""Folds: every patient validates once, and none stands on both sides."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fullscale.data.case import Case
from fullscale.data.splits import (
    Split,
    choose_split,
    fixed_split,
    make_splits,
    parse_folds,
    read_splits,
    require_no_leak,
    with_copies_joined,
)
from fullscale.errors import DataError, UsageError
from fullscale.files import write_json


def cases_of(groups: list[int]) -> list[Case]:
    return [Case.of_image(f"case_{i}", Path("image"), Path("label"), f"patient_{g}") for i, g in enumerate(groups)]


@given(st.lists(st.integers(0, 12), min_size=2, max_size=40), st.integers(2, 7), st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_no_patient_stands_on_both_sides_and_each_case_validates_once(groups: list[int], folds: int, seed: int) -> None:
    cases = cases_of(groups)
    if len(set(groups)) < 2:
        with pytest.raises(DataError, match="--fold all"):
            make_splits(cases, folds, seed)
        return
    splits = make_splits(cases, folds, seed)
    patient = {case.id: case.group for case in cases}
    assert sorted(name for split in splits for name in split["val"]) == sorted(patient)
    for split in splits:
        assert split["train"]
        assert split["val"]
        assert not {patient[n] for n in split["train"]} & {patient[n] for n in split["val"]}
        assert len(split["train"]) + len(split["val"]) == len(cases)
    assert splits == make_splits(cases, folds, seed)


def test_another_seed_deals_otherwise() -> None:
    cases = cases_of(list(range(30)))
    assert make_splits(cases, 5, 0) != make_splits(cases, 5, 1)


@pytest.mark.parametrize(
    ("text", "folds"),
    [("0", "0"), ("0,2", "0 2"), ("0-4", "0 1 2 3 4"), ("all", "all"), ("3, 1-2,2,all", "3 1 2 all"), ("7-7", "7")],
)
def test_several_folds_in_one_word(text: str, folds: str) -> None:
    assert parse_folds(text) == tuple(folds.split())


@pytest.mark.parametrize("text", ["", "x", "1-", "-1", "4-2", "0;1", "0-9999", "1.0", "0,,1", "ALL"])
def test_words_that_are_no_folds_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected numbers such as 0, 0,2 or 0-4, or 'all'"):
        parse_folds(text)


@pytest.mark.parametrize("fold", ["5", "-1", "x", "1.0"])
def test_a_fold_that_does_not_exist_is_refused(fold: str) -> None:
    with pytest.raises(UsageError, match="folds 0 to 4, or 'all'"):
        choose_split(make_splits(cases_of(list(range(10))), 5, 0), fold)


def test_stored_folds_are_held_against_the_cases(tmp_path: Path) -> None:
    cases = cases_of(list(range(6)))
    path = tmp_path / "splits.json"
    splits = make_splits(cases, 3, 0)
    write_json(path, splits)
    assert read_splits(path, cases) == splits
    with pytest.raises(DataError, match=r"names 1 case that the data set lacks, such as 'case_5'"):
        read_splits(path, cases[:5])
    path.write_text('{"train": 1}')
    with pytest.raises(DataError, match=r"splits\.json is not a list"):
        read_splits(path, cases)


def test_copies_and_patients_in_other_letters_are_never_separated() -> None:
    groups = {"a": "A", "b": "a ", "c": "C", "d": "D", "e": "E", "f": "F"}
    cases = [Case.of_image(name, Path("image"), Path("label"), group) for name, group in groups.items()]
    digests = {"a": "1", "b": "2", "c": "2", "d": "4", "e": "5", "f": "4"}
    joined, notes = with_copies_joined(cases, digests)
    assert [case.group for case in joined] == ["A", "A", "A", "D", "E", "D"]
    assert notes == [
        "patients 'A' and 'a ' are taken for one: no split separates them",
        "cases b and c hold the same scan: no split separates them",
        "cases d and f hold the same scan: no split separates them",
    ]
    for split in make_splits(joined, 3, 0):
        for together in ({"a", "b", "c"}, {"d", "f"}):
            assert together <= set(split["train"]) or together <= set(split["val"])
    assert with_copies_joined(cases[2:5], digests) == (cases[2:5], [])


def test_an_edited_fold_with_a_case_on_both_sides_is_refused_and_a_patient_is_named() -> None:
    cases = cases_of([0, 0, 1, 2])
    with pytest.raises(DataError, match=r"fold 1 trains and validates on 'case_2'"):
        require_no_leak(Split(train=["case_0", "case_2"], val=["case_2"]), cases, "fold 1")
    with pytest.raises(DataError, match=r"fold 1 has 2 cases to train on and 0 to validate"):
        require_no_leak(Split(train=["case_0", "case_2"], val=[]), cases, "fold 1")
    notes = require_no_leak(Split(train=["case_0", "case_2"], val=["case_1", "case_3"]), cases, "fold 1")
    assert notes == ["fold 1 has scans of the patient 'patient_0', or copies of them, on both sides"]
    assert require_no_leak(Split(train=["case_0", "case_1"], val=["case_3"]), cases, "fold 1") == []


def test_named_cases_are_held_back_and_all_others_train() -> None:
    cases = [Case.of_image(f"volume-{n}", Path("i"), Path("l"), f"volume-{n}") for n in (0, 9, 10, 27, 28, 100, 130)]
    split = fixed_split(cases, ["volume-?", "volume-1?", "volume-2[0-7]"])
    assert split["val"] == ["volume-0", "volume-9", "volume-10", "volume-27"]
    assert split["train"] == ["volume-28", "volume-100", "volume-130"]
    with pytest.raises(UsageError, match="'volume-3', which is no case"):
        fixed_split(cases, ["volume-3"])
    with pytest.raises(UsageError, match="leaves 0 cases to train on"):
        fixed_split(cases, ["*"])
    same = [Case.of_image(name, Path("i"), Path("l"), "one patient") for name in ("a", "b")]
    with pytest.raises(UsageError, match="on both sides"):
        fixed_split(same, ["a"])
