"""What a comparison found: a line for each row, with intervals over cases and paired tests against the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel

from fullscale.compare.comparison import Comparison
from fullscale.compare.run import Outcome
from fullscale.documents import read_model
from fullscale.errors import DataError
from fullscale.geometry.units import Unit
from fullscale.networks import create_network
from fullscale.networks.kernels.forms import set_form
from fullscale.networks.parameters import count_macs, count_parameters
from fullscale.reporting.source import Source, find_source, read_curves
from fullscale.runfolder import RunFolder
from fullscale.scoring.paired import paired_dice
from fullscale.scoring.statistics import LEVEL, Interval, PairedComparison, bootstrap_interval, compare_paired, holm
from fullscale.scoring.summary import Summary
from fullscale.training.choices import untrained

RESULTS_FILE = "results.json"
"""Holds all that is said of a comparison."""


@dataclass(frozen=True)
class Score:
    """A mean over cases.

    Attributes:
        mean: None where no case is scored.
        interval: of the mean, bootstrapped over cases; None for fewer than `FEWEST_CASES`.
        cases: that the mean stands on.
    """

    mean: float | None
    interval: Interval | None
    cases: int


@dataclass(frozen=True)
class Line:
    """What is said of one row.

    Attributes:
        name: of the row.
        crop: sides of the crops that the plan of its view has.
        parameters: of its network.
        macs: multiply-accumulates of its inference on one crop of the plan's size, as the paper draws the network.
        step_s: seconds of a training step, median over epochs and folds; None where none was timed.
        steps: trained in each fold.
        dice: of each structure, and of `mean`, the mean over the structures of each case.
        nsd: surface Dice, likewise.
        hd95_mm: likewise.
        by_case: mean Dice of each case.
        against_reference: the paired comparison of `by_case`; None for the reference itself, or without scores.
        failures: folds without scores, and why.
    """

    name: str
    crop: tuple[int, ...]
    parameters: int
    macs: int
    step_s: float | None
    steps: list[int]
    dice: dict[str, Score]
    nsd: dict[str, Score]
    hd95_mm: dict[str, Score]
    by_case: dict[str, float]
    against_reference: PairedComparison | None
    failures: dict[int, str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        compared = self.against_reference
        return asdict(self) | {"against_reference": None if compared is None else compared.as_dict()}


@dataclass(frozen=True)
class Results:
    """All lines, and what they share.

    Attributes:
        dataset: its name.
        reference: name of the row that the others are tested against.
        budget: of each row and fold, in words.
        folds: trained of each row.
        lines: in the order of the rows.
        unit: what lengths are counted in.
    """

    dataset: str
    reference: str
    budget: str
    folds: int
    lines: list[Line]
    unit: Unit = "mm"

    @property
    def failed(self) -> list[Line]:
        """The rows that lack the scores of a fold."""
        return [line for line in self.lines if line.failures]

    @property
    def crops(self) -> str:
        """The sides of the crops for which operations are counted, such as "192x192" or "192x192 or 32x48x32"."""
        return " or ".join(dict.fromkeys("x".join(map(str, line.crop)) for line in self.lines))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, as `read_found` reads them."""
        shared = {key: value for key, value in vars(self).items() if key != "lines"}
        return shared | {"level": LEVEL, "rows": [line.as_dict() for line in self.lines]}


class FoundRow(BaseModel):
    """A row of `results.json`: its name, and Dice of each structure and of their mean."""

    name: str
    dice: dict[str, Score]


class Found(BaseModel):
    """What `results.json` says of Dice."""

    dataset: str
    budget: str
    rows: list[FoundRow]


def read_found(folder: Path) -> Found:
    """Read Dice from the folder of a comparison, or from its `results.json`.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    return read_model(folder / RESULTS_FILE if folder.is_dir() else folder, Found, "the results of a comparison")


def gather(comparison: Comparison, outcomes: Sequence[Outcome]) -> Results:
    """Read the scores of every row, count its costs, and test it against the reference.

    P-values are adjusted for the number of rows that are tested (Holm).

    Raises:
        DataError: no row has any scores.
    """
    sources = [_source(outcome) for outcome in outcomes]
    if not any(sources):
        first = outcomes[0]
        raise DataError(f"no row could be trained; the first, {first.row.name}: {next(iter(first.failures.values()))}")
    by_name = {outcome.row.name: source for outcome, source in zip(outcomes, sources, strict=True)}
    reference = by_name[comparison.reference]
    lines = [_line(outcome, source) for outcome, source in zip(outcomes, sources, strict=True)]
    tested = {
        name: compare_paired(*paired_dice(source.summary, reference.summary)[1:])
        for name, source in by_name.items()
        if source and reference and source is not reference
    }
    adjusted = dict(zip(tested, holm([c.p_value for c in tested.values()]), strict=True))
    compared = {name: replace(c, adjusted_p=adjusted[name]) for name, c in tested.items()}
    return Results(
        dataset=outcomes[0].inputs.plan.dataset,
        reference=comparison.reference,
        budget=comparison.budget,
        folds=comparison.folds,
        lines=[replace(line, against_reference=compared.get(line.name)) for line in lines],
        unit=outcomes[0].inputs.plan.recipe.unit,
    )


def _source(outcome: Outcome) -> Source | None:
    return find_source(outcome.run) if RunFolder(outcome.run).scored() else None


def _line(outcome: Outcome, source: Source | None) -> Line:
    parameters, macs = _cost(outcome)
    curves = [rows for rows in map(read_curves, source.folds.values()) if rows] if source else []
    seconds = [row["step_s"] for rows in curves for row in rows if np.isfinite(row.get("step_s", np.nan))]
    summary = source.summary if source else Summary({}, {})
    return Line(
        name=outcome.row.name,
        crop=outcome.inputs.plan.patch_size.value,
        parameters=parameters,
        macs=macs,
        step_s=float(np.median(seconds)) if seconds else None,
        steps=[int(rows[-1]["step"]) for rows in curves],
        dice=_scores(summary, "Dice"),
        nsd=_scores(summary, "NSD"),
        hd95_mm=_scores(summary, "HD95"),
        by_case=_by_case(summary, "Dice"),
        against_reference=None,
        failures=outcome.failures,
    )


def _cost(outcome: Outcome) -> tuple[int, int]:
    """Count parameters, and operations of one crop of the plan's size, without weights or memory."""
    plan = outcome.inputs.plan
    options = untrained(outcome.config.network.options)
    channels = plan.recipe.in_channels
    with torch.device("meta"):
        network = create_network(outcome.config.network.name, channels, plan.classes, **options).eval()
        image = torch.empty(1, channels, *plan.patch_size.value)
    set_form(network, "direct")
    return count_parameters(network), count_macs(lambda: network.segment(image))


def _scores(summary: Summary, metric: str) -> dict[str, Score]:
    by_structure = {
        structure: [case.metrics[label][metric] for case in summary.cases]
        for label, structure in summary.labels.items()
    }
    scores = {structure: _score([v for v in values if v is not None]) for structure, values in by_structure.items()}
    return scores | ({"mean": _score(list(_by_case(summary, metric).values()))} if summary.labels else {})


def _score(values: list[float]) -> Score:
    return Score(float(np.mean(values)) if values else None, bootstrap_interval(values), len(values))


def _by_case(summary: Summary, metric: str) -> dict[str, float]:
    """Average the structures of each case in which at least one is scored."""
    means = {case.case: case.mean(metric) for case in summary.cases}
    return {case: mean for case, mean in means.items() if mean is not None}
