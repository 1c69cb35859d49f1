"""The trials of a search as Optuna keeps them, in a journal that each process appends to. Home of optuna."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fullscale.errors import DataError, OutputError
from fullscale.extras import needs
from fullscale.search.space import Dimension, Range, Values

JOURNAL = "optuna.journal"
"""File in the folder of a search; optuna-dashboard shows it."""
GRID = 20
"""Shares of the budget at which trials are compared: each twentieth."""
RANDOM = 8
"""Trials that are drawn at random before what they found leads the next."""
LEADING = 4
"""Finished trials before one may be pruned."""
SPARED = GRID // 4
"""Share of the budget before which no trial is pruned."""
WEIGHED = 10
"""Finished trials that it takes to say how much each setting matters."""
_NAME = "fullscale"
_POINTS = "validations"
"""What a trial keeps of each validation: the share of the budget, and Dice."""

State = Literal["waiting", "running", "complete", "pruned", "failed"]
_STATES: dict[str, State] = {"FAIL": "failed"}


@dataclass(frozen=True)
class Record:
    """One trial.

    Attributes:
        number: from 0.
        state: how far it is.
        settings: its own, by dotted key.
        dice: mean of the held-back cases, where it is complete.
        curve: validation Dice by twentieths of the budget.
        error: why it failed.
    """

    number: int
    state: State
    settings: dict[str, Any]
    dice: float | None
    curve: dict[int, float]
    error: str | None


class Pruned(Exception):
    """A trial lies behind what most others had at the same cost."""


@contextmanager
def _written(journal: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {journal}: {error.strerror or error}") from error


class Study:
    """Trials, and who suggests the next.

    Args:
        folder: of the search.
        space: what is searched.
        seed: trial K is drawn with a seed of its own, made of this and K: what was stopped suggests the same again.
    """

    def __init__(self, folder: Path, space: Sequence[Dimension], seed: int) -> None:
        from optuna import Study as OptunaStudy
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
        from optuna.study import StudyDirection

        self.journal, self.space, self.seed = folder / JOURNAL, list(space), seed
        with _written(self.journal):
            try:
                self.storage = JournalStorage(JournalFileBackend(str(self.journal)))
                if not self.storage.get_all_studies():
                    self.storage.create_new_study([StudyDirection.MAXIMIZE], _NAME)
                self.optuna = OptunaStudy(_NAME, self.storage)
            except (ValueError, KeyError) as error:
                raise DataError(f"{self.journal} is damaged ({error}); choose another folder with -o") from error

    @staticmethod
    def require_installed() -> None:
        """Refuse a search where Optuna is not installed.

        Raises:
            UsageError: it is not.
        """
        with needs("search", "searches"):
            import optuna  # noqa: F401

    @staticmethod
    def mend(folder: Path) -> None:
        """Remove what a killed command left: half of a last line, and a lock that nobody holds.

        Only who alone works in the folder may do that.
        """
        journal = folder / JOURNAL
        with _written(journal):
            with suppress(FileNotFoundError):
                (folder / f"{JOURNAL}.lock").unlink()
            if journal.is_file() and (content := journal.read_bytes()) and not content.endswith(b"\n"):
                with journal.open("r+b") as file:
                    file.truncate(content.rfind(b"\n") + 1)

    def enqueue(self, trials: int) -> list[int]:
        """Make so many trials in all, and return the numbers of those that are not ended."""
        from optuna.trial import TrialState, create_trial

        with _written(self.journal):
            for _ in range(len(self._trials()), trials):
                waiting = create_trial(state=TrialState.WAITING)
                self.storage.create_new_trial(self.optuna._study_id, template_trial=waiting)
            return [trial.number for trial in self._trials()[:trials] if not trial.state.is_finished()]

    def take(self, number: int, prune: bool) -> Trial | None:
        """Begin a trial, or go on with it; None where it has ended."""
        from optuna import Study as OptunaStudy
        from optuna.pruners import MedianPruner, NopPruner
        from optuna.samplers import TPESampler
        from optuna.trial import Trial as OptunaTrial
        from optuna.trial import TrialState

        kept = self._trials()[number]
        if kept.state.is_finished():
            return None
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        pruner = MedianPruner(LEADING, SPARED) if prune else NopPruner()
        with _written(self.journal):
            if kept.state == TrialState.WAITING:
                self.storage.set_trial_state_values(kept._trial_id, TrialState.RUNNING)
            # Samplers look at the trials that a study has in its cache, and only its own loop empties that.
            optuna = OptunaStudy(_NAME, self.storage, TPESampler(seed=seed, n_startup_trials=RANDOM), pruner)
            trial = OptunaTrial(optuna, kept._trial_id)
            settings = {dimension.key: _suggest(trial, dimension) for dimension in self.space}
        return Trial(self, trial, settings, kept.user_attrs.get(_POINTS, []), max(kept.intermediate_values, default=-1))

    def end(self, number: int, dice: float | None = None, error: str | None = None) -> None:
        """Write down how a trial ended: with the Dice of its cases, by an error, or pruned. What has ended stays."""
        from optuna.trial import TrialState

        kept = self._trials()[number]
        if kept.state.is_finished():
            return
        with _written(self.journal):
            if error is not None:
                self.storage.set_trial_user_attr(kept._trial_id, "error", error)
            state = TrialState.FAIL if error is not None else TrialState.PRUNED
            self.storage.set_trial_state_values(
                kept._trial_id, state if dice is None else TrialState.COMPLETE, None if dice is None else [dice]
            )

    def records(self) -> list[Record]:
        """Return every trial."""
        by_key = {dimension.key: dimension for dimension in self.space}
        return [
            Record(
                trial.number,
                _STATES.get(trial.state.name) or trial.state.name.lower(),
                {key: _value(by_key[key], value) for key, value in trial.params.items()},
                trial.value if trial.state.name == "COMPLETE" else None,
                dict(trial.intermediate_values),
                trial.user_attrs.get("error"),
            )
            for trial in self._trials()
        ]

    def importance(self) -> dict[str, float] | None:
        """Say how much of what differs between trials each setting explains; None where too few are complete."""
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

        values = {record.dice for record in self.records() if record.dice is not None}
        if len(values) < WEIGHED:
            return None
        return dict(get_param_importances(self.optuna, evaluator=PedAnovaImportanceEvaluator()))

    def _trials(self) -> list[Any]:
        trials: list[Any] = self.storage.get_all_trials(self.optuna._study_id, deepcopy=False)
        return trials


class Trial:
    """A trial that runs.

    Args:
        study: it is one of.
        trial: Optuna's.
        settings: its own.
        points: its validations so far, each the share of the budget and Dice.
        reported: the last twentieth of the budget that Optuna knows of, or -1.
    """

    def __init__(
        self, study: Study, trial: Any, settings: dict[str, Any], points: list[list[float]], reported: int
    ) -> None:
        self.study = study
        self.trial = trial
        self.settings = settings
        self.points = list(points)
        self.reported = reported

    def validated(self, spent: float, dice: float) -> None:
        """Take note of a validation; between two of them the curve is a line.

        Raises:
            Pruned: the trial lies behind.
        """
        self.points.append([spent, dice])
        shares, scores = zip(*self.points, strict=True)
        with _written(self.study.journal):
            self.trial.set_user_attr(_POINTS, self.points)
            for step in range(self.reported + 1, int(spent * GRID + 1e-9) + 1):
                if step / GRID >= shares[0]:  # of the time before the first validation nothing is known
                    self.trial.report(float(np.interp(step / GRID, shares, scores)), step)
                    self.reported = step
            if spent < 1 and self.reported >= 0 and self.trial.should_prune():
                raise Pruned


def _suggest(trial: Any, dimension: Dimension) -> Any:
    if isinstance(dimension, Values):
        return _value(dimension, trial.suggest_categorical(dimension.key, dimension.labels))
    whole = all(isinstance(number, int) for number in (dimension.low, dimension.high, dimension.step or 1))
    if whole:
        return trial.suggest_int(
            dimension.key, dimension.low, dimension.high, step=dimension.step or 1, log=dimension.log
        )
    return trial.suggest_float(dimension.key, dimension.low, dimension.high, step=dimension.step, log=dimension.log)


def _value(dimension: Dimension, kept: Any) -> Any:
    if isinstance(dimension, Range):
        return kept
    return dimension.values[dimension.labels.index(kept)]
