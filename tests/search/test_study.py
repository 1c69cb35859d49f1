"""Trials that are kept, suggested again after a kill, and pruned: objective functions stand in for trainings."""

import shutil
from pathlib import Path

import pytest

from fullscale.errors import OutputError
from fullscale.search.space import Range, Values
from fullscale.search.study import GRID, JOURNAL, LEADING, Pruned, Study

SPACE = [Range("optimizer.learning_rate", 1e-4, 1.0, log=True), Values("data.patch_size", ([32, 32], [48, 48]))]


def quality(settings: dict[str, object]) -> float:
    """Best at the rate 0.01 and the smaller patch."""
    rate, patch = settings["optimizer.learning_rate"], settings["data.patch_size"]
    assert isinstance(rate, float)
    return 1 - abs(rate - 0.01) ** 0.5 - 0.1 * (patch == [48, 48])


def work(study: Study, number: int) -> dict[str, object]:
    trial = study.take(number, prune=False)
    assert trial is not None
    study.end(number, quality(trial.settings))
    return trial.settings


def test_trials_suggest_the_same_again_after_a_kill_at_any_point(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    study = Study(tmp_path / "one", SPACE, seed=3)
    whole = [work(study, number) for number in study.enqueue(12)]
    assert len({str(settings) for settings in whole}) == 12
    content = (tmp_path / "one" / JOURNAL).read_bytes()
    ends = [k + 1 for k, byte in enumerate(content) if byte == ord("\n")]
    for place in (ends[2] + 5, ends[15], ends[len(ends) // 2] + 1, ends[-2] + 3):
        cut = tmp_path / "cut"
        shutil.rmtree(cut, ignore_errors=True)
        cut.mkdir()
        (cut / JOURNAL).write_bytes(content[:place])  # killed within a line
        (cut / f"{JOURNAL}.lock").symlink_to(cut / JOURNAL)  # and with the lock
        Study.mend(cut)
        again = Study(cut, SPACE, seed=3)
        for number in again.enqueue(12):
            work(again, number)
        assert [record.settings for record in again.records()] == whole
        assert {record.state for record in again.records()} == {"complete"}


def test_the_search_finds_what_is_better_than_chance(tmp_path: Path) -> None:
    study = Study(tmp_path, SPACE, seed=0)
    found = [quality(work(study, number)) for number in study.enqueue(30)]
    assert sum(found[20:]) / 10 > 0.82  # of random trials it is 0.72
    importance = study.importance()
    assert importance is not None
    assert sum(importance.values()) == pytest.approx(1)


def test_a_trial_behind_the_median_at_the_same_share_of_the_budget_is_pruned(tmp_path: Path) -> None:
    study = Study(tmp_path, SPACE, seed=0)
    [*leading, good, bad, early] = study.enqueue(LEADING + 3)
    for number in leading:
        trial = study.take(number, prune=True)
        assert trial is not None
        for spent in (0.1, 0.42, 0.77, 1.0):  # validations fall where they fall
            trial.validated(spent, spent)
        study.end(number, 1.0)
    for number, share in ((good, 1.2), (bad, 0.8)):
        trial = study.take(number, prune=True)
        assert trial is not None
        trial.validated(0.2, 0.2 * share)
        if number == bad:
            with pytest.raises(Pruned):
                trial.validated(0.61, 0.61 * share)
            study.end(number)
        else:
            trial.validated(0.61, 0.61 * share)
            study.end(number, 1.0)
    record = study.records()[bad]
    assert record.state == "pruned"
    assert record.curve == pytest.approx({step: 0.8 * step / GRID for step in range(4, 13)})
    spared = study.take(early, prune=True)
    assert spared is not None
    spared.validated(0.2, 0.0)  # not before a quarter of the budget


def test_a_journal_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).mkdir()
    with pytest.raises(OutputError, match=rf"cannot write .*{JOURNAL}: Is a directory"):
        Study(tmp_path, SPACE, seed=0).enqueue(1)
