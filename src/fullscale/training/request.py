"""What to train: everything that `fullscale train` is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fullscale.config.schema import Config
from fullscale.data.cache import default_cache
from fullscale.ending import UNASKED, Ending
from fullscale.progress import Progress, ignore
from fullscale.training.group import ALONE, Group

Validated = Callable[[float, float], None]
"""Told of the share of the budget that is spent, from 0 to 1, and of the validation Dice; what it raises ends it."""


def go_on(spent: float, dice: float) -> None:
    """Take note of nothing."""


@dataclass(frozen=True)
class TrainRequest:
    """What to train.

    Attributes:
        data: folder or list of labelled scans.
        run: the run folder; repeating a request goes on where it was.
        folds: the folds to train, one after the other: numbers as text, or `all`, which trains on every case.
        config: settings; those left at None come from the plan.
        plan: an edited plan to use instead of one made from the data.
        splits: a file of folds to use instead of folds dealt out by `config`.
        cache: folder of prepared cases.
        drop_bad_cases: train without the cases that cannot be used, instead of refusing.
        verify: read every file again, even where size and times say that it has not changed.
        anonymise: a key of case names; everything that is written calls the cases by its numbers.
        progress: told of each step of an epoch.
        validated: told of each validation, when its checkpoint is written.
        group: the processes that train together, of which this is one.
        ending: who may ask to end early, with a checkpoint.
    """

    data: Path
    run: Path
    folds: tuple[str, ...] = ("0",)
    config: Config = field(default_factory=Config)
    plan: Path | None = None
    splits: Path | None = None
    cache: Path = field(default_factory=default_cache)
    drop_bad_cases: bool = False
    verify: bool = False
    anonymise: Path | None = None
    progress: Progress = ignore
    validated: Validated = go_on
    group: Group = ALONE
    ending: Ending = UNASKED
