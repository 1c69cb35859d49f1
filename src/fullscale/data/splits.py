"""Which cases train and which validate: seeded folds in which no patient stands on both sides."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from fullscale.data.case import Case
from fullscale.documents import read_json
from fullscale.errors import DataError, UsageError
from fullscale.runfolder import ALL
from fullscale.text import counted


class Split(TypedDict):
    """Case identifiers of one fold."""

    train: list[str]
    val: list[str]


def parse_folds(text: str) -> tuple[str, ...]:
    """Read which folds are meant: `0`, `0,2`, `0-4` or `all`, or several of these with commas between them.

    Raises:
        UsageError: it is of another form.
    """
    folds: list[str] = []
    for part in text.replace(" ", "").split(","):
        numbers = re.fullmatch(r"(\d{1,3})(?:-(\d{1,3}))?", part)
        first, last = (int(numbers[1]), int(numbers[2] or numbers[1])) if numbers else (1, 0)
        if part != ALL and first > last:
            raise UsageError(f"fold {part!r}: expected numbers such as 0, 0,2 or 0-4, or 'all' to train on every case")
        folds += [ALL] if part == ALL else [str(number) for number in range(first, last + 1)]
    return tuple(dict.fromkeys(folds))


def make_splits(cases: Sequence[Case], folds: int, seed: int) -> list[Split]:
    """Deal the patients out into folds, each validating once.

    Raises:
        DataError: fewer than two patients, so nothing can be held back.
    """
    groups = sorted({case.group for case in cases})
    if len(groups) < 2:
        raise DataError(
            f"{len(cases)} case of one patient cannot be split into training and validation; "
            "add cases, or train on all of them with --fold all"
        )
    order = np.random.default_rng(seed).permutation(len(groups))
    fold_of = {groups[g]: position % min(folds, len(groups)) for position, g in enumerate(order)}
    return [
        Split(
            train=[case.id for case in cases if fold_of[case.group] != fold],
            val=[case.id for case in cases if fold_of[case.group] == fold],
        )
        for fold in range(min(folds, len(groups)))
    ]


def fixed_split(cases: Sequence[Case], validation: Sequence[str]) -> Split:
    """Hold back the cases that are named; all others train.

    Args:
        cases: all of them.
        validation: names of cases; `?` stands for any character, `*` for any number, `[0-7]` for one of a range.

    Raises:
        UsageError: a name fits no case, all cases are held back, or a patient would stand on both sides.
    """
    for pattern in validation:
        if not any(fnmatchcase(case.id, pattern) for case in cases):
            raise UsageError(f"data.validation names {pattern!r}, which is no case of this data set")
    held = {case.id for case in cases if any(fnmatchcase(case.id, pattern) for pattern in validation)}
    split = Split(
        train=[case.id for case in cases if case.id not in held], val=[case.id for case in cases if case.id in held]
    )
    if not split["train"] or not split["val"]:
        left = counted(len(split["train"]), "case")
        raise UsageError(f"data.validation leaves {left} to train on and {len(held)} to validate")
    both = {case.group for case in cases if case.id in held} & {case.group for case in cases if case.id not in held}
    if both:
        raise UsageError(f"data.validation puts the patient {min(both)!r} on both sides; name all scans of a patient")
    return split


def with_copies_joined(cases: Sequence[Case], digests: Mapping[str, str]) -> tuple[list[Case], list[str]]:
    """Make one patient of cases that hold the same scan, and of patients whose names differ in upper and lower case.

    Args:
        cases: all of them.
        digests: content of each case's scan, by name.

    Returns:
        The cases with their patients, and a line for each that was joined.
    """
    names: dict[str, str] = {}
    first: dict[str, Case] = {}
    notes = []
    for case in cases:
        plain = case.group.casefold().strip()
        spelled = names.setdefault(plain, case.group)
        if spelled != case.group:
            notes.append(f"patients {spelled!r} and {case.group!r} are taken for one: no split separates them")
        same = first.setdefault(digests[case.id], case)
        if same is not case:
            notes.append(f"cases {same.id} and {case.id} hold the same scan: no split separates them")
    patient = _join([(case.id, [names[case.group.casefold().strip()], digests[case.id]]) for case in cases])
    return [replace(case, group=patient[case.id]) for case in cases], list(dict.fromkeys(notes))


def _join(marks: Sequence[tuple[str, Sequence[str]]]) -> dict[str, str]:
    """Give every case a patient such that cases with a mark in common, or through others, have the same one."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for _, (group, *others) in marks:
        for other in others:
            a, b = sorted((root(group), root(f"scan {other}")), key=lambda name: (name.startswith("scan "), name))
            parent[b] = a
    return {case: root(group) for case, (group, *_) in marks}


def require_no_leak(split: Split, cases: Sequence[Case], where: str) -> list[str]:
    """Hold a fold against its cases.

    Args:
        split: the fold.
        cases: all of them, as `with_copies_joined` returns them.
        where: what names the fold in a message.

    Returns:
        A line for each patient on both sides.

    Raises:
        DataError: a case is on both sides, or one side is empty.
    """
    both = sorted(set(split["train"]) & set(split["val"]))
    if both:
        raise DataError(f"{where} trains and validates on {both[0]!r}: take it out of one of the two")
    if not split["train"] or not split["val"]:
        left = counted(len(split["train"]), "case")
        raise DataError(f"{where} has {left} to train on and {len(split['val'])} to validate")
    patient = {case.id: case.group for case in cases}
    shared = sorted({patient[case] for case in split["train"]} & {patient[case] for case in split["val"]})
    return [f"{where} has scans of the patient {name!r}, or copies of them, on both sides" for name in shared]


def choose_split(splits: list[Split], fold: str) -> Split:
    """Return fold number `fold`.

    Raises:
        UsageError: there is no such fold.
    """
    if not fold.isdecimal() or int(fold) >= len(splits):
        raise UsageError(f"there is no fold {fold!r}: this data set has folds 0 to {len(splits) - 1}, or 'all'")
    return splits[int(fold)]


def read_splits(path: Path, cases: Sequence[Case]) -> list[Split]:
    """Read stored folds and hold them against the cases at hand.

    Raises:
        DataError: the file is not a list of folds, or names a case that the data set does not have.
    """
    content = read_json(path)
    if not isinstance(content, list) or not content or not all(map(_is_split, content)):
        raise DataError(f'{path} is not a list of {{"train": [...], "val": [...]}} with names of cases; repair it')
    splits = [Split(train=fold["train"], val=fold["val"]) for fold in content]
    known = {case.id for case in cases}
    strangers = sorted({name for split in splits for name in names_of(split)} - known)
    if strangers:
        named = counted(len(strangers), "case")
        raise DataError(f"{path}: names {named} that the data set lacks, such as {strangers[0]!r:.80}")
    return splits


def names_of(split: Split) -> list[str]:
    """Return the names on both sides of a fold."""
    return [*split["train"], *split["val"]]


def doubts_of(splits: Sequence[Split], cases: Sequence[Case], where: str) -> list[str]:
    """Hold folds that were read against the cases in use; return a line for each patient on both sides, and one more.

    That one says how many cases stand in no fold. Arguments and errors as of `require_no_leak`.
    """
    notes = [
        note for fold, split in enumerate(splits) for note in require_no_leak(split, cases, f"{where}: fold {fold}")
    ]
    unused = {case.id for case in cases}.difference(*map(names_of, splits))
    return [*notes, f"{where} leaves out {counted(len(unused), 'case')}, such as {min(unused)}"] if unused else notes


def require_same_folds(path: Path, splits: Sequence[Split], cases: Sequence[Case]) -> None:
    """Compare folds with those of a run, whatever the order of their cases.

    Raises:
        UsageError: they are others.
        DataError: the file of the run cannot be read.
    """
    stored = read_splits(path, cases)
    if list(map(_in_order, stored)) != list(map(_in_order, splits)):
        raise UsageError(
            f"{path.parent} was begun with other folds: leave out --splits, or choose another run folder with -o"
        )


def _in_order(split: Split) -> Split:
    return Split(train=sorted(split["train"]), val=sorted(split["val"]))


def _is_split(content: Any) -> bool:
    sides = [content.get("train"), content.get("val")] if isinstance(content, dict) else [None]
    return all(isinstance(side, list) and all(isinstance(name, str) for name in side) for side in sides)
