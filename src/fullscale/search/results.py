"""What a search found, in `search.json` and `best.yaml`, and how far its figures can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fullscale.config.load import dump_yaml
from fullscale.config.schema import Config
from fullscale.data.checks import inspect_dataset
from fullscale.data.identity import CaseDigest, DigestIndex, case_digest, digest_of
from fullscale.data.label_choice import LabelChoice
from fullscale.data.layouts.find import find_dataset
from fullscale.documents import read_json, validated
from fullscale.errors import DataError, UsageError
from fullscale.files import write_json, write_text
from fullscale.inference.scored import ModelTest, predict_and_score
from fullscale.search.run import Found, Job
from fullscale.search.study import GRID
from fullscale.text import counted
from fullscale.training.prepare import RunInputs

RESULTS, BEST = "search.json", "best.yaml"
TESTED = "held_out"
"""Folder of the masks of cases that were kept apart."""


class HeldOut(BaseModel):
    """The winner of a search, scored on cases that were kept apart.

    Attributes:
        trial: the winner.
        cases: their number.
        digest: of their scans and masks.
        dice: mean over structures.
    """

    trial: int
    cases: int
    digest: str
    dice: float | None


class _Record(BaseModel):
    held_out: list[HeldOut] = []


@dataclass(frozen=True)
class Apart:
    """Cases that are kept apart from a search.

    Attributes:
        digests: what each holds, by name.
    """

    digests: dict[str, CaseDigest]

    @classmethod
    def of(cls, data: Path, config: Config, cache: Path) -> Apart:
        """Look at the cases before the search, not after it.

        Raises:
            DataError: there are none with labels, or one cannot be scored.
        """
        dataset = find_dataset(data)
        if not dataset.cases:
            raise DataError(f"--test {data}: no labelled cases, expected scans with masks that no trial has seen")
        errors = inspect_dataset(dataset, choice=LabelChoice.of(config.data)).errors
        if errors:
            raise DataError(f"--test {data}: {errors[0].case}: {errors[0].message}")
        index = DigestIndex(cache)
        return cls({case.id: case_digest(case, index) for case in dataset.cases})

    @property
    def digest(self) -> str:
        """Of all of them."""
        return digest_of(*sorted(digest.whole for digest in self.digests.values()))

    def require_unseen(self, inputs: RunInputs) -> None:
        """Refuse a scan that trials learn from, or are judged by.

        Raises:
            UsageError: one is; it is named.
        """
        known = {digest.image: name for name, digest in inputs.digests.items()}
        for name, digest in self.digests.items():
            if digest.image in known:
                raise UsageError(f"--test: the scan of {name} is that of {known[digest.image]}, which is searched on")


def read_held_out(output: Path) -> list[HeldOut]:
    """Return what cases that were kept apart have been used for so far."""
    file = output / RESULTS
    return validated(_Record, read_json(file), str(file)).held_out if file.is_file() else []


def score_held_out(test: ModelTest, apart: Apart, trial: int, earlier: list[HeldOut]) -> list[HeldOut]:
    """Score the winner on cases that were kept apart, once: what was scored before is not scored again."""
    if any(one.trial == trial and one.digest == apart.digest for one in earlier):
        return earlier
    dice = predict_and_score(test).foreground_mean()["Dice"]
    return [*earlier, HeldOut(trial=trial, cases=len(apart.digests), digest=apart.digest, dice=dice)]


def write_results(job: Job, found: Found, held_out: Sequence[HeldOut]) -> dict[str, Any]:
    """Write what was found, and the best settings as `fullscale train --config` takes them; return the former."""
    content = as_dict(job, found, held_out)
    write_json(job.output / RESULTS, content)
    if found.best is not None:
        write_text(job.output / BEST, dump_yaml(job.search.config(found.best.settings)))
    return content


def as_dict(job: Job, found: Found, held_out: Sequence[HeldOut]) -> dict[str, Any]:
    """Return plain values for JSON."""
    best = found.best
    trials = [
        asdict(record) | {"curve": {f"{step / GRID:g}": dice for step, dice in sorted(record.curve.items())}}
        for record in found.records
    ]
    return {
        "dataset": found.inputs.plan.dataset,
        "budget": job.search.budget,
        "fold": job.search.fold,
        "space": job.search.space,
        "trials": trials,
        "best": None if best is None else {"trial": best.number, "settings": best.settings, "dice": best.dice},
        "importance": found.importance,
        "chosen_by": {"cases": found.held_back, "times": judged(found)},
        "notes": notes(job, found, held_out),
        "held_out": [one.model_dump() for one in held_out],
    }


def judged(found: Found) -> int:
    """Count the trials that the held-back cases have judged, wholly or until they were pruned."""
    return sum(bool(record.curve) or record.dice is not None for record in found.records)


def notes(job: Job, found: Found, held_out: Sequence[HeldOut]) -> list[str]:
    """Say how far the figure of the best trial can be trusted, and how to get one that can."""
    best = found.best
    if best is None:
        return []
    cases = counted(found.held_back, "validation case")
    lines = [
        f"{cases} judged {counted(judged(found), 'trial')}: the best was also lucky with these cases, so its Dice of "
        f"{best.dice:.4f} is higher than new cases will give; an honest figure comes of these:"
    ]
    others, winner = _other_folds(job), job.run(best.number).path.name
    if others:
        lines.append(f"fullscale train DATA -o RUN --config OUT/{BEST} --fold {others}: folds that judged nothing")
    if not held_out:
        lines.append(f"fullscale test OUT/{winner} CASES -o TESTED: once, on cases kept apart; search --test does so")
    for one in held_out:
        dice = "no Dice" if one.dice is None else f"Dice {one.dice:.4f}"
        lines.append(f"trial {one.trial} on {counted(one.cases, 'case')} kept apart: {dice}")
    if len({one.digest for one in held_out}) < len(held_out):
        times = len(held_out)
        lines.append(f"cases kept apart were used {times} times: the last figure is no longer that of unused cases")
    return lines


def _other_folds(job: Job) -> str:
    """Name the folds that judged no trial, as `--fold` takes them."""
    data = job.search.config().data
    if data.validation is not None:
        return ""
    return ",".join(str(fold) for fold in range(data.folds) if fold != job.search.fold)
