"""Scores of a set of cases, in the form of nnU-Net's summary.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fullscale.data.anonymise import NameKey
from fullscale.data.labels import LabelScheme
from fullscale.data.places import find_place, place_of, remember_place
from fullscale.documents import read_json, validated
from fullscale.errors import DataError
from fullscale.files import write_json
from fullscale.geometry.units import Unit
from fullscale.metrics.overlap import POLICY, Scores
from fullscale.metrics.presence import GuidedScores, guidance_summary
from fullscale.metrics.slices import SLICES
from fullscale.scoring.record import CaseRecord, SummaryRecord
from fullscale.text import without_folders

METRICS = (
    *("Dice", "IoU", "Precision", "Recall", "HD95", "ASSD", "NSD"),
    *("TP", "FP", "FN", "TN", "n_pred", "n_ref"),
    *(
        "volume_ml",
        "reference_volume_ml",
        "volume_error_ml",
        "absolute_volume_error_ml",
        "volume_error_percent",
    ),
)
"""What is scored: HD95 and ASSD in mm, volumes in ml, TP to n_ref in voxels, the others from 0 to 1.

Of images, lengths are mm or pixels, and what is called a volume is an area in mm² or pixels: see `Summary.unit`."""

_COUNTED = (
    *("cases", "cases_with_structure", "true_negative_cases", "missed_cases", "false_positive_cases"),
    "unknown_cases",
)

_WITH_INTERVAL = ("Dice", "IoU", "Precision", "Recall", "HD95", "ASSD", "NSD")
_SPREAD = ("Dice", "NSD", "HD95")
_QUANTILES = {"lowest": 0, "quarter": 25, "median": 50, "three_quarters": 75, "highest": 100}


@dataclass(frozen=True)
class CaseScores:
    """Scores of one case.

    Attributes:
        case: its name.
        metrics: scores of each label.
        prediction_file: what was scored.
        reference_file: against what.
        image_file: the scan, where it is known; pictures need it.
        resampled: whether the prediction was brought onto the truth's grid first.
        unknown: labels that were not drawn in this case; their scores are None, and no mean counts them.
        ignored_voxels: voxels of which the truth says nothing, and which no score counts.
        ignore_file: the mask that says which, such as a field of view, where there is one.
        mask_files: further masks of the truth, where it is several images.
        colours: what the colours of the truth stand for, where it is an image; see `Case.colours`.
        structures: file of each structure of the truth, where a list names them one by one.
        empty: whether there is no mask because nothing is drawn in the case.
        by_name: whether segments of the truth are told by their names; see `Case.by_name`.
    """

    case: str
    metrics: dict[int, Scores]
    prediction_file: Path
    reference_file: Path
    image_file: Path | None = None
    resampled: bool = False
    unknown: tuple[int, ...] = ()
    ignored_voxels: int = 0
    ignore_file: Path | None = None
    mask_files: tuple[Path, ...] = ()
    colours: Mapping[str, int] | None = None
    structures: Mapping[str, Path] = field(default_factory=dict)
    empty: bool = False
    by_name: bool = False

    def mean(self, metric: str) -> float | None:
        """Average a metric over the labels that are scored in this case; None where none is."""
        return _mean(scores[metric] for scores in self.metrics.values())


@dataclass(frozen=True)
class Failure:
    """A case that could not be scored, and why, in one line."""

    case: str
    message: str


@dataclass(frozen=True)
class ScoredModel:
    """The model whose masks were scored.

    Attributes:
        name: such as "fullscale unet3+".
        digest: of its card, which names its weights.
        trained_on: names of the scored cases whose scans it was trained on, under whatever name.
    """

    name: str
    digest: str
    trained_on: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Summary:
    """Scores of a set of predictions.

    Attributes:
        labels: name of each scored label.
        tolerance_mm: of the surface Dice, for each label.
        cases: the scored cases, by name; each holds every label.
        failures: the cases that could not be scored, by name.
        guidance: what the gate changed in each case, where a network with guidance made the predictions.
        model: what made the masks, where that is known.
        postprocess: rules that validation chose for the model of a run, with their figures, as plain values. They are
            beside the scores: none of these are of masks that the rules went over.
        data: the data set or the folder that the truth is from, where there is one.
        anonymous: whether cases are called by numbers, so that files of the data must not be named either.
        regions: values of each structure, by its name, where structures overlap.
        ignore: value of the voxels of which the truth says nothing, or None.
        unit: what lengths and sizes are counted in.
    """

    labels: dict[int, str]
    tolerance_mm: dict[int, float]
    cases: list[CaseScores] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    guidance: list[GuidedScores] = field(default_factory=list)
    model: ScoredModel | None = None
    postprocess: dict[str, Any] | None = None
    data: Path | None = None
    anonymous: bool = False
    unit: Unit = "mm"
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    ignore: int | None = None

    @property
    def scheme(self) -> LabelScheme:
        """What the values in the masks stand for."""
        written = {name: label for label, name in self.labels.items()}
        return LabelScheme(self.labels, self.regions, tuple(written[name] for name in self.regions), self.ignore)

    def renamed(self, key: NameKey) -> Summary:
        """Return the scores under the numbers of a key in place of the cases' names."""
        if self.anonymous:
            return self
        name = key.numbers.__getitem__
        model = self.model and replace(self.model, trained_on=[name(case) for case in self.model.trained_on])
        return replace(
            self,
            cases=[replace(case, case=name(case.case)) for case in self.cases],
            failures=[Failure(name(f.case), key.hide(f.message)) for f in self.failures],
            guidance=[replace(scores, case=name(scores.case)) for scores in self.guidance],
            model=model,
            anonymous=True,
        )

    @property
    def names(self) -> list[str]:
        """Names of all cases, scored or not."""
        return [*(case.case for case in self.cases), *(failure.case for failure in self.failures)]

    @property
    def masks(self) -> Path | None:
        """The folder of the predictions, where they are in one and it is known."""
        folders = {case.prediction_file.parent for case in self.cases if case.prediction_file.is_absolute()}
        return folders.pop() if len(folders) == 1 else None

    def _of_masks(self, case: CaseScores) -> str:
        name = case.prediction_file.name
        return name if not self.anonymous or name.startswith(case.case) else case.case

    def _in_data(self, case: CaseScores, file: Path) -> str:
        """Name a file by its way from the data set where it lies in it, else by its name alone."""
        if self.anonymous:
            return case.case
        if self.data is None:
            return file.name
        folder = _folder_of(self.data)
        return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.name

    def mean(self, label: int) -> Scores:
        """Means over the scored cases of one label, and how many cases they stand on.

        A case is scored where truth or prediction holds the structure (`cases`); recall and the relative volume error
        are means over `cases_with_structure`. `true_negative_cases` are left out. Of the scored cases,
        `missed_cases` have an empty prediction and `false_positive_cases` an empty truth. The counts of
        `SLICES` are sums over all cases. Cases in which the structure was not drawn (`unknown_cases`) count nowhere.
        """
        rows = self._known(label)
        scored = [row for row in rows if row["Dice"] is not None]
        held = [(bool(row["n_ref"]), bool(row["n_pred"])) for row in rows]
        counts = (
            *(len(scored), sum(reference for reference, _ in held), len(rows) - len(scored)),
            *(held.count((True, False)), held.count((False, True)), len(self.cases) - len(rows)),
        )
        means = {name: _mean(row[name] for row in scored) for name in METRICS}
        sums: Scores = {name: sum(row[name] or 0 for row in rows) for name in SLICES}
        return means | dict(zip(_COUNTED, counts, strict=True)) | sums

    def interval(self, label: int) -> dict[str, list[float] | None]:
        """Intervals (95 %, bootstrapped over cases) of the means of one label; None for fewer than four cases."""
        rows = [case.metrics[label] for case in self.cases]
        return {name: _interval(row[name] for row in rows if row["Dice"] is not None) for name in _WITH_INTERVAL}

    def _known(self, label: int) -> list[Scores]:
        """Return the scores of a label in the cases in which it was drawn."""
        return [case.metrics[label] for case in self.cases if label not in case.unknown]

    def foreground_interval(self) -> dict[str, list[float] | None]:
        """Intervals of the means over the classes, where every case scores every class; None elsewhere.

        Only there is the mean of the classes' means also a mean over cases.
        """
        cases = [list(case.metrics.values()) for case in self.cases]
        return {
            name: None
            if any(row[name] is None for rows in cases for row in rows)
            else _interval(_mean(row[name] for row in rows) for rows in cases)
            for name in _WITH_INTERVAL
        }

    def spread(self, label: int) -> dict[str, Scores]:
        """Lowest, quartiles and highest of Dice, NSD and HD95 over the scored cases of one label."""
        spread: dict[str, Scores] = {}
        for name in _SPREAD:
            values = [case.metrics[label][name] for case in self.cases]
            scored = [value for value in values if value is not None]
            found = np.percentile(scored, list(_QUANTILES.values())).tolist() if scored else [None] * len(_QUANTILES)
            spread[name] = dict(zip(_QUANTILES, found, strict=True))
        return spread

    def foreground_mean(self) -> Scores:
        """Means of the classes' means, as in nnU-Net, over the `classes` that were scored in at least one case.

        `cases` counts the cases with at least one scored class; the other counts add up those of the classes.
        """
        means = [self.mean(label) for label in self.labels]
        scored = [mean for mean in means if mean["cases"]]
        content: Scores = {name: _mean(mean[name] for mean in scored) for name in METRICS}
        content |= {name: sum(mean[name] or 0 for mean in means) for name in (*_COUNTED, *SLICES)}
        content["cases"] = sum(any(s["Dice"] is not None for s in case.metrics.values()) for case in self.cases)
        return content | {"classes": len(scored)}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for strict JSON, in the form of nnU-Net's summary.json; what is not defined is None.

        Files are named as they are called in their data set, which is named by a digest: no path leaves this machine.
        """
        content = {
            "foreground_mean": self.foreground_mean(),
            "mean": {str(label): self.mean(label) for label in self.labels},
            "interval": {str(label): self.interval(label) for label in self.labels},
            "foreground_interval": self.foreground_interval(),
            "spread": {str(label): self.spread(label) for label in self.labels},
            "metric_per_case": [
                {
                    "case": case.case,
                    "metrics": {str(label): scores for label, scores in case.metrics.items()},
                    "prediction_file": self._of_masks(case),
                    "reference_file": self._in_data(case, case.reference_file),
                    "image_file": None if case.image_file is None else self._in_data(case, case.image_file),
                    "resampled": case.resampled,
                    "unknown": list(case.unknown),
                    "ignored_voxels": case.ignored_voxels,
                    "ignore_file": None if case.ignore_file is None else self._in_data(case, case.ignore_file),
                    "mask_files": [self._in_data(case, file) for file in case.mask_files],
                    "colours": case.colours,
                    "structures": {name: self._in_data(case, file) for name, file in case.structures.items()},
                    "empty": case.empty,
                    "by_name": case.by_name,
                }
                for case in self.cases
            ],
            "labels": {str(label): name for label, name in self.labels.items()},
            "regions": {name: list(values) for name, values in self.regions.items()},
            "ignore": self.ignore,
            "tolerance_mm": {str(label): tolerance for label, tolerance in self.tolerance_mm.items()},
            "policy": POLICY,
            "failures": [
                {"case": failure.case, "message": without_folders(failure.message)} for failure in self.failures
            ],
            "data": None if self.data is None else place_of(self.data),
            "masks": None if self.masks is None else place_of(self.masks),
            "anonymous": self.anonymous,
            "unit": self.unit,
            "model": None if self.model is None else vars(self.model),
        }
        content |= {} if self.postprocess is None else {"postprocess": self.postprocess}
        return content | ({"guidance": guidance_summary(self.guidance, self.labels)} if self.guidance else {})


def write_summary(summary: Summary, path: str | Path, further: Mapping[str, Any] | None = None) -> None:
    """Write a summary as strict JSON, whole or not at all; where its files lie, this machine's cache remembers.

    Args:
        summary: to be written.
        path: of the file.
        further: what it is to hold besides.

    Raises:
        FullscaleError: the file cannot be written.
    """
    write_json(Path(path), summary.as_dict() | dict(further or {}))
    for place in (summary.data, summary.masks):
        if place is not None:
            remember_place(place)


def read_summary(path: str | Path) -> Summary:
    """Read what `write_summary` wrote; where its files lie, as far as this machine knows.

    Raises:
        DataError: it is not there, or no summary of this form.
    """
    source = f"{path} is no summary.json of this version"
    try:
        record = validated(SummaryRecord, read_json(Path(path), "the scores"), source)
        record.require_whole(METRICS, source)
    except DataError as error:
        raise DataError(
            f"{error}; score the masks again with fullscale evaluate, or delete it and repeat the run's fullscale train"
        ) from error
    data, masks = (None if place is None else find_place(place) for place in (record.data, record.masks))
    return Summary(
        labels=record.labels,
        tolerance_mm=record.tolerance_mm,
        cases=[_case(case, data, masks) for case in record.metric_per_case],
        failures=[Failure(failure.case, failure.message) for failure in record.failures],
        guidance=[GuidedScores(case.case, case.metrics) for case in record.guidance.cases],
        model=None if record.model is None else ScoredModel(**record.model.model_dump()),
        postprocess=record.postprocess,
        data=data,
        anonymous=record.anonymous,
        regions=record.regions,
        ignore=record.ignore,
        unit=record.unit,
    )


def _case(record: CaseRecord, data: Path | None, masks: Path | None) -> CaseScores:
    """Return the scores of a case whose files lie where this machine knows them to be."""
    folder = Path() if data is None else _folder_of(data)
    return CaseScores(
        record.case,
        record.metrics,
        (masks or Path()) / record.prediction_file,
        folder / record.reference_file,
        None if record.image_file is None else folder / record.image_file,
        record.resampled,
        record.unknown,
        record.ignored_voxels,
        None if record.ignore_file is None else folder / record.ignore_file,
        tuple(folder / file for file in record.mask_files),
        record.colours,
        {name: folder / file for name, file in record.structures.items()},
        record.empty,
        record.by_name,
    )


def _folder_of(data: Path) -> Path:
    """Return the folder that paths of a data set start from: of a list, the one that it lies in."""
    return (data.parent if data.is_file() else data).absolute()


def _interval(values: Iterable[float | None]) -> list[float] | None:
    from fullscale.scoring.statistics import bootstrap_interval

    found = bootstrap_interval([value for value in values if value is not None])
    return None if found is None else list(found)


def _mean(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
