"""What is known of a model, and where it stands: its cards, its scores and the records of its run, from disk alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fullscale.bundle.card import CARD, MODEL_CARD, Card, ModelCard, read_card
from fullscale.bundle.store import member_folders
from fullscale.data.distribution import FactsRecord
from fullscale.documents import read_json, validated
from fullscale.errors import DataError
from fullscale.reporting.source import pool_folds, read_curves, read_fold, read_record
from fullscale.runfolder import ALL, TOGETHER, FoldFolder, RunFolder
from fullscale.scoring.summary import Summary


@dataclass(frozen=True)
class Places:
    """Where everything lies that a model card is made of.

    Attributes:
        bundle: the model.
        run: whose records hold.
        scored: folds whose validation cases give the scores.
        trained: folds that were trained for the model.
        kept: which view of the data, or both together, where several were trained; else None.
    """

    bundle: Path
    run: RunFolder
    scored: list[FoldFolder]
    trained: list[FoldFolder]
    kept: str | None = None

    @property
    def card(self) -> Path:
        """The model card."""
        return self.bundle / MODEL_CARD


class DigestRecord(BaseModel):
    """What a case held when it was trained on."""

    image: str
    label: str | None = None


class ProblemRecord(BaseModel):
    """What was wrong with a case."""

    case: str
    message: str
    severity: str


class DataRecord(BaseModel):
    """What `dataset.json` of a run says, as far as a model card shows it."""

    name: str = ""
    layout: str = ""
    modality: str | None = None
    channels: list[str] = []
    licence: str | None = None
    used: list[str] = []
    digests: dict[str, DigestRecord] = {}
    facts: list[FactsRecord] = []
    subgroups: dict[str, dict[str, str]] = {}
    problems: list[ProblemRecord] = []
    unlabelled: list[str] = []

    @property
    def has_licence(self) -> bool:
        """Whether it was recorded what the data set says of its licence, be that nothing."""
        return "licence" in self.model_fields_set

    @property
    def digest(self) -> str:
        """SHA-256 of what all used cases hold, whatever they are called."""
        lines = sorted(f"{one.image} {one.label}\n" for one in self.digests.values())
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def left_out(self) -> list[ProblemRecord]:
        """Why cases were not used."""
        return [problem for problem in self.problems if problem.severity == "error"]


@dataclass(frozen=True)
class Cost:
    """What the training of a fold has cost.

    Attributes:
        name: of the fold, with its view where there are several.
        steps: of the optimiser.
        epochs: that were finished.
        processor_s: of processor time; None where an older version did not count it.
        elapsed_s: by the clock on the wall.
    """

    name: str
    steps: int
    epochs: int
    processor_s: float | None
    elapsed_s: float


@dataclass(frozen=True)
class Facts:
    """What a model card is made of.

    Attributes:
        places: where it is from.
        card: of the model.
        members: cards of its members; of a single model, its own.
        summary: scores of the cases that were held back, each by a member that had not seen it.
        reservations: what must be known before the scores are believed.
        data: what was trained on.
        splits: names of the cases that train and validate in each fold, by the fold's name.
        environment: versions, machine and seed.
        costs: of each fold.
    """

    places: Places
    card: Card
    members: list[ModelCard]
    summary: Summary
    reservations: list[str]
    data: DataRecord
    splits: dict[str, tuple[list[str], list[str]]]
    environment: Mapping[str, Any]
    costs: list[Cost]

    @property
    def structures(self) -> list[str]:
        """Names of what it segments."""
        return list(self.card.structures.values())

    @property
    def held_back(self) -> bool:
        """Whether the scored cases were held back from training."""
        return all(fold.name != ALL for fold in self.places.scored)


def find_places(path: Path) -> Places:
    """Find the model of a run, or of one of its folds.

    Raises:
        DataError: it is neither, or has no scores.
    """
    run, fold = RunFolder(path), FoldFolder(path)
    if not path.is_dir():
        raise DataError(f"{path}: {'is a file' if path.exists() else 'no such folder'}, expected a run folder")
    if run.views.is_file():
        return _of_views(run)
    above = RunFolder(path.resolve().parent)
    if not run.is_run and above.is_run and path.resolve() in [one.path for one in above.folds()]:
        _require_scores(path, [fold] if fold.has_scores else [])
        return Places(fold.bundle, RunFolder(path.parent), [fold], [fold])
    if not run.is_run:
        raise DataError(f"{path}: holds no run that fullscale train wrote; give a run folder")
    scored = [one for one in run.scored() if one.name != ALL] or run.scored()
    _require_scores(path, scored)
    return Places(run.bundle, run, scored, scored)


def read_facts(places: Places) -> Facts:
    """Read what is known of a model.

    Raises:
        DataError: a file is missing that every run has, or cannot be read.
    """
    records = [read_fold(fold) for fold in places.scored]
    good = [record for record in records if record.problem is None] or records
    reservations = [f"Fold {record.fold.name}: {record.problem}." for record in records if record.problem]
    data = validated(DataRecord, read_record(places.run.dataset), str(places.run.dataset))
    return Facts(
        places=places,
        card=read_card(places.bundle / CARD),
        members=list(member_cards(places.bundle).values()),
        summary=pool_folds([record.summary for record in good]),
        reservations=reservations,
        data=data,
        splits=_splits(places, data),
        environment=read_record(places.run.environment),
        costs=[_cost(places, fold) for fold in places.trained],
    )


def member_cards(bundle: Path) -> dict[str, ModelCard]:
    """Read the card of each member of a model, by its folder's way from there; weights need not be there.

    Raises:
        DataError: one cannot be read, or is that of an ensemble.
    """
    found: dict[str, ModelCard] = {}
    for folder in member_folders(bundle).values():
        card = read_card(folder / CARD)
        if not isinstance(card, ModelCard):
            raise DataError(f"{folder / CARD}: is the card of an ensemble, expected that of one model")
        found[folder.relative_to(bundle).as_posix()] = card
    return found


def _require_scores(path: Path, scored: list[FoldFolder]) -> None:
    if not scored:
        raise DataError(f"{path}: the run has no scores yet; repeat its fullscale train command to finish it")


def _of_views(run: RunFolder) -> Places:
    """Find the model of a run of several views of the data: one of them, or all together."""
    said = read_json(run.views)
    try:
        kept, folds, views = str(said["kept"]), [str(fold) for fold in said["folds"]], list(said["dice"])
    except (LookupError, TypeError) as error:
        raise DataError(f"{run.views}: says not which view was kept; repeat the run's fullscale train") from error
    parts = [view for view in views if view != TOGETHER] if kept == TOGETHER else [kept]
    trained = [run.view(view).fold(fold) for view in parts for fold in folds]
    return Places(run.bundle, run.view(parts[0]), [run.view(kept).fold(fold) for fold in folds], trained, kept)


def _splits(places: Places, data: DataRecord) -> dict[str, tuple[list[str], list[str]]]:
    if not places.run.splits.is_file():
        return {fold.name: (data.used, []) for fold in places.scored}
    splits = read_json(places.run.splits)
    try:
        return {
            fold.name: (data.used, [])
            if fold.name == ALL
            else (list(splits[int(fold.name)]["train"]), list(splits[int(fold.name)]["val"]))
            for fold in places.scored
        }
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(f"{places.run.splits}: {json.dumps(splits):.80} lacks a fold that was trained") from error


def _cost(places: Places, fold: FoldFolder) -> Cost:
    rows = read_curves(fold)
    last = rows[-1] if rows else {"step": 0, "epoch": -1}
    name = f"{fold.path.parent.name} {fold.name}" if places.kept == TOGETHER else fold.name
    return Cost(
        name, int(last["step"]), int(last["epoch"]) + 1, last.get("processor_s"), float(last.get("elapsed_s", 0))
    )
