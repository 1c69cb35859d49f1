"""What a report is about: the scores of a run or of an evaluation, and the records of its training."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from fullscale.bundle.card import CARD, SHORT, read_card
from fullscale.data.case import Case
from fullscale.data.labels import LabelScheme
from fullscale.data.plan import read_plan
from fullscale.data.read import read_label, read_shown
from fullscale.data.truth import truth_of
from fullscale.documents import read_json, read_text, read_yaml, validated
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume
from fullscale.runfolder import ALL, SUMMARY, FoldFolder, RunFolder
from fullscale.scoring.record import AgainstRecord
from fullscale.scoring.summary import CaseScores, Summary, read_summary
from fullscale.text import one_line

_LARGEST = 1e30
"""No loss, score or time of an epoch is beyond it."""


@dataclass(frozen=True)
class FoldRecord:
    """The scores of a fold, and the model they speak of.

    Attributes:
        fold: the folder.
        summary: its scores.
        model: provenance of the fold's model, from its card; empty where it has none.
        digest: of the fold's model; None where it has none.
        problem: why the scores are not pooled with those of other folds; None where nothing speaks against it.
    """

    fold: FoldFolder
    summary: Summary
    model: dict[str, Any] = field(default_factory=dict)
    digest: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Source:
    """Scores, and where they come from.

    Attributes:
        path: the run folder, or the summary.json of an evaluation.
        summary: the scores; of a run with several folds, those of all folds together.
        folds: each fold whose scores are in, by its name; none for an evaluation.
        records: every fold that has scores, those that are left out of `folds` too.
        scheme: what the values in the masks stand for.
        against: the comparison with other masks as `evaluate --against` wrote it; empty where there is none.
    """

    path: Path
    summary: Summary
    folds: dict[str, FoldFolder] = field(default_factory=dict)
    records: list[FoldRecord] = field(default_factory=list)
    scheme: LabelScheme = field(default_factory=lambda: LabelScheme({}))
    against: dict[str, Any] = field(default_factory=dict)

    @property
    def is_run(self) -> bool:
        """Whether it is a run, with the records of its training."""
        return bool(self.folds)


def find_source(path: Path) -> Source:
    """Find the scores at a path: a run folder, a folder with summary.json, or that file.

    Raises:
        DataError: there are none, or they cannot be read.
    """
    if path.is_file():
        return _evaluation(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give a run folder, or what fullscale evaluate wrote")
    run = RunFolder(path)
    records = [read_fold(fold) for fold in run.scored()]
    if records:
        return _run(run, records)
    if run.is_run:
        raise DataError(f"{path}: the run has no scores yet; repeat its fullscale train command to finish it")
    if run.summary.is_file():
        return _evaluation(run.summary)
    raise DataError(f"{path}: holds neither a run nor {SUMMARY}; fullscale evaluate MASKS TRUTH writes one")


def read_fold(fold: FoldFolder) -> FoldRecord:
    """Read the scores of a fold, and find out whether its own model made them.

    Raises:
        DataError: the scores cannot be read.
    """
    summary = read_summary(fold.summary)
    if not fold.bundle.is_dir():
        lost = "fullscale 0.1 wrote them, which did not record the model" if summary.model is None else "it is gone"
        return FoldRecord(fold, summary, problem=f"the model that made its scores is not here: {lost}")
    try:
        card = read_card(fold.bundle / CARD)
    except DataError as error:
        return FoldRecord(fold, summary, problem=str(error))
    problem = None
    if summary.model is None or summary.model.digest != card.digest:
        scored_by = "an unknown model" if summary.model is None else f"model {summary.model.digest[:SHORT]}"
        problem = (
            f"its scores were made by {scored_by}, its model is {card.digest[:SHORT]}; repeat its fullscale train "
            f"command with --fold {fold.name} to score it"
        )
    return FoldRecord(fold, summary, card.provenance, card.digest, problem)


def finished_folds(run: RunFolder) -> list[FoldFolder]:
    """List the folds that have a model and the scores that this very model made.

    Raises:
        DataError: the scores of a fold cannot be read.
    """
    return [record.fold for record in map(read_fold, run.scored()) if record.problem is None]


def pool_folds(parts: Sequence[Summary]) -> Summary:
    """Put the scores of several folds together; those of one fold stay as they are.

    Raises:
        DataError: the folds were scored on different labels.
    """
    if len(parts) == 1:
        return parts[0]
    if any((part.labels, part.regions) != (parts[0].labels, parts[0].regions) for part in parts):
        raise DataError("the folds were scored on different labels; repeat fullscale train for each fold")
    return Summary(
        labels=parts[0].labels,
        tolerance_mm=parts[0].tolerance_mm,
        cases=sorted((case for part in parts for case in part.cases), key=lambda case: case.case),
        failures=[failure for part in parts for failure in part.failures],
        guidance=[scores for part in parts for scores in part.guidance],
        data=parts[0].data,
        anonymous=parts[0].anonymous,
        regions=parts[0].regions,
        ignore=parts[0].ignore,
        unit=parts[0].unit,
    )


def _evaluation(file: Path) -> Source:
    summary = read_summary(file)
    return Source(file, summary, scheme=summary.scheme, against=_against(file, summary))


def _against(file: Path, summary: Summary) -> dict[str, Any]:
    """Read the comparison with other masks from a summary.json; empty where there is none."""
    content = read_record(file).get("against")
    if content is None:
        return {}
    record = validated(AgainstRecord, content, f"{file}: against")
    strange = record.classes.keys() - summary.labels.keys()
    if strange:
        raise DataError(f"{file}: against compares label {min(strange)}, which is not scored; score the masks again")
    return record.model_dump(mode="json")


def _run(run: RunFolder, records: list[FoldRecord]) -> Source:
    own = [record for record in records if record.problem is None] or records
    pooled = [record for record in own if record.fold.name != ALL] or own
    together = pool_folds([record.summary for record in pooled])
    folds = {record.fold.name: record.fold for record in pooled}
    scheme = read_plan(run.plan).scheme if run.plan.is_file() else together.scheme
    return Source(run.path, together, folds, records, scheme)


class CaseVolumes(NamedTuple):
    """What a picture of a case shows; `ignored` are the voxels of which the truth says nothing, or None."""

    scan: Volume | list[Volume]
    mask: Volume
    truth: Volume
    ignored: Volume | None


def read_case(source: Source, case: CaseScores) -> CaseVolumes:
    """Read scan, mask and truth of a case, with the structures that were scored.

    Raises:
        DataError: a file is not there any more, or cannot be read.
    """
    if case.image_file is None:
        raise DataError("the scan is not known: the truth was given as label maps alone")
    beside = [fold.validation for fold in source.folds.values()] or [source.path.parent]
    masks = [case.prediction_file, *(folder / case.prediction_file.name for folder in beside)]
    mask = next((file for file in masks if file.exists()), None)
    for what, file in (("scan", case.image_file), ("truth", case.reference_file), ("mask", mask)):
        if file is None or not file.exists():
            raise DataError(f"the {what} is no longer at {file or case.prediction_file}")
    assert mask is not None
    found = read_label(mask, case.image_file, source.scheme)
    files = Case.of_image(case.case, case.image_file, case.reference_file)
    files = replace(files, masks=case.mask_files, colours=case.colours, ignore=case.ignore_file)
    files = replace(files, structures=case.structures, empty=case.empty, by_name=case.by_name)
    truth = truth_of(files, source.scheme)
    ignored = None if truth.ignored is None else truth.labels.with_array(truth.ignored)
    keep = source.scheme.keep
    return CaseVolumes(read_shown(case.image_file), keep(found), keep(truth.labels), ignored)


def read_curves(fold: FoldFolder) -> list[dict[str, float]]:
    """Read the metrics of a fold, one row an epoch; gaps are left out. No file, no rows.

    Raises:
        DataError: it cannot be read, or is no such table.
    """
    file = fold.metrics
    if not file.is_file():
        return []
    lines = read_text(file).splitlines()
    remedy = "delete it to do without the curves"
    try:
        rows = [{name: float(value) for name, value in row.items() if name and value} for row in csv.DictReader(lines)]
    except (ValueError, TypeError, csv.Error) as error:
        raise DataError(f"{file}: holds what is no number ({one_line(error)}); {remedy}") from error
    numbers = [{name: value for name, value in row.items() if not math.isnan(value)} for row in rows]
    for number, row in enumerate(numbers, start=2):
        if not {"epoch", "step"} <= row.keys() or max(map(abs, row.values())) > _LARGEST:
            raise DataError(f"{file}: line {number} lacks epoch or step, or holds an impossible number; {remedy}")
    return numbers


def read_record(file: Path) -> dict[str, Any]:
    """Read a record of a run, YAML or JSON; empty where it is not there.

    Raises:
        DataError: it cannot be read.
    """
    if not file.is_file():
        return {}
    content = read_json(file) if file.suffix == ".json" else read_yaml(file)
    if not isinstance(content, dict):
        raise DataError(f"{file}: holds {type(content).__name__}, expected names and values")
    return content
