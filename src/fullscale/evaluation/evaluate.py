"""Scores of one case, and of a folder of predictions against the truth, in the form of nnU-Net's summary.json."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.data.layouts import Case, find_dataset
from fullscale.data.nifti import volume_stem, volume_suffix
from fullscale.data.read import read_label
from fullscale.errors import DataError, GeometryError
from fullscale.evaluation.overlap import (
    POLICY,
    Scores,
    empty_mask_scores,
    overlap_counts,
    overlap_scores,
    unscored,
    volume_scores,
)
from fullscale.evaluation.surface import (
    TOLERANCE_MM,
    Tolerance,
    assd,
    diagonal_mm,
    hd95,
    joint_boxes,
    nsd,
    surface_distances,
    tolerance_of,
    voxel_axes,
)
from fullscale.files import write_json
from fullscale.geometry.transform import axis_codes
from fullscale.geometry.volume import Volume, describe_mismatch

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
"""What is scored: HD95 and ASSD in mm, volumes in ml, TP to n_ref in voxels, the others from 0 to 1."""

_COUNTED = ("cases", "cases_with_organ", "true_negative_cases", "missed_cases", "false_positive_cases")


@dataclass(frozen=True)
class CaseScores:
    """Scores of one case.

    Attributes:
        case: its name.
        metrics: scores of each label.
        prediction_file: what was scored.
        reference_file: against what.
    """

    case: str
    metrics: dict[int, Scores]
    prediction_file: Path
    reference_file: Path


@dataclass(frozen=True)
class Failure:
    """A case that could not be scored, and why, in one line."""

    case: str
    message: str


@dataclass(frozen=True)
class _Pair:
    prediction: Path
    reference: Path
    image: Path


@dataclass(frozen=True)
class Summary:
    """Scores of a set of predictions.

    Attributes:
        labels: name of each scored label.
        tolerance_mm: of the surface Dice, for each label.
        cases: the scored cases, by name; each holds every label.
        failures: the cases that could not be scored, by name.
    """

    labels: dict[int, str]
    tolerance_mm: dict[int, float]
    cases: list[CaseScores] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def mean(self, label: int) -> Scores:
        """Means over the scored cases of one label, and how many cases they stand on.

        A case is scored where truth or prediction holds the organ (`cases`); recall and the relative volume error are
        means over `cases_with_organ`. `true_negative_cases` are left out. Of the scored cases, `missed_cases` have an
        empty prediction and `false_positive_cases` an empty truth.
        """
        rows = [case.metrics[label] for case in self.cases]
        scored = [row for row in rows if row["Dice"] is not None]
        held = [(bool(row["n_ref"]), bool(row["n_pred"])) for row in rows]
        counts = (
            *(len(scored), sum(reference for reference, _ in held), len(rows) - len(scored)),
            *(held.count((True, False)), held.count((False, True))),
        )
        return {name: _mean(row[name] for row in scored) for name in METRICS} | dict(zip(_COUNTED, counts, strict=True))

    def foreground_mean(self) -> Scores:
        """Means of the classes' means, as in nnU-Net, over the `classes` that were scored in at least one case.

        `cases` counts the cases with at least one scored class; the other counts add up those of the classes.
        """
        means = [self.mean(label) for label in self.labels]
        scored = [mean for mean in means if mean["cases"]]
        content: Scores = {name: _mean(mean[name] for mean in scored) for name in METRICS}
        content |= {name: sum(mean[name] or 0 for mean in means) for name in _COUNTED}
        content["cases"] = sum(any(s["Dice"] is not None for s in case.metrics.values()) for case in self.cases)
        return content | {"classes": len(scored)}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for strict JSON, in the form of nnU-Net's summary.json; what is not defined is None."""
        return {
            "foreground_mean": self.foreground_mean(),
            "mean": {str(label): self.mean(label) for label in self.labels},
            "metric_per_case": [
                {
                    "case": case.case,
                    "metrics": {str(label): scores for label, scores in case.metrics.items()},
                    "prediction_file": str(case.prediction_file),
                    "reference_file": str(case.reference_file),
                }
                for case in self.cases
            ],
            "labels": {str(label): name for label, name in self.labels.items()},
            "tolerance_mm": {str(label): tolerance for label, tolerance in self.tolerance_mm.items()},
            "policy": POLICY,
            "failures": [{"case": failure.case, "message": failure.message} for failure in self.failures],
        }


def write_summary(summary: Summary, path: str | Path) -> None:
    """Write a summary as strict JSON, whole or not at all.

    Raises:
        FullscaleError: the file cannot be written.
    """
    write_json(Path(path), summary.as_dict())


def score_arrays(
    prediction: npt.NDArray[Any],
    reference: npt.NDArray[Any],
    spacing_mm: npt.ArrayLike,
    labels: Iterable[int],
    surface: bool = True,
    tolerance_mm: Tolerance = TOLERANCE_MM,
) -> dict[int, Scores]:
    """Score a label map against the truth, both on one grid.

    Args:
        prediction: integers `[X, Y, Z]`.
        reference: the truth, of the same shape.
        spacing_mm: `[3]`, or the voxel steps `[3, 3]` in mm, one column an axis.
        labels: values of the classes, from 1.
        surface: False leaves out HD95, ASSD and NSD, which take most of the time.
        tolerance_mm: of the surface Dice.

    Returns:
        For each label the scores named in `METRICS`; an empty mask scores as `POLICY` says.

    Raises:
        GeometryError: the shapes differ.
        DataError: an array does not hold whole numbers.
        UsageError: a label is below 1, or has no tolerance.
    """
    wanted, axes = list(labels), voxel_axes(spacing_mm)
    if prediction.flags.f_contiguous and reference.flags.f_contiguous:  # walk through memory in its order
        prediction, reference, axes = prediction.T, reference.T, axes[:, ::-1]
    counts = dict(zip(wanted, overlap_counts(prediction, reference, wanted), strict=True))
    voxel_ml = abs(float(np.linalg.det(axes))) / 1000
    diagonal = diagonal_mm(prediction.shape, axes)
    scores = {label: empty_mask_scores(count, diagonal, surface) for label, count in counts.items()}
    both = [label for label in wanted if scores[label] is None]
    for label, box in joint_boxes(prediction, reference, both if surface else []).items():
        distances = surface_distances(prediction[box] == label, reference[box] == label, axes)
        within = nsd(distances, tolerance_of(label, tolerance_mm))
        scores[label] = {"HD95": hd95(distances), "ASSD": assd(distances), "NSD": within}
    for label in both:
        scores[label] = overlap_scores(counts[label]) | (scores[label] or {})
    return {
        label: (scores[label] or {}) | count.as_scores() | volume_scores(count, voxel_ml)
        for label, count in counts.items()
    }


def score_case(
    prediction: Volume, reference: Volume, labels: Iterable[int], tolerance_mm: Tolerance = TOLERANCE_MM
) -> dict[int, Scores]:
    """Score a label map against the truth; see `score_arrays`.

    Raises:
        GeometryError: the two do not lie on one grid; nothing is resampled.
    """
    mismatch = describe_mismatch(prediction, reference)
    if mismatch is not None:
        raise GeometryError(
            f"prediction and truth lie on different grids: {mismatch} (prediction {_grid(prediction)}; truth "
            f"{_grid(reference)}); bring the prediction onto the truth's grid first"
        )
    axes = reference.affine[:3, :3]
    return score_arrays(prediction.array, reference.array, axes, labels, tolerance_mm=tolerance_mm)


def evaluate(
    predictions: str | Path,
    references: str | Path | Mapping[str, Case],
    labels: Mapping[int, str] | None = None,
    tolerance_mm: Tolerance = TOLERANCE_MM,
    progress: Callable[[int, int, str], None] | None = None,
) -> Summary:
    """Score predicted label maps against the truth, one case in memory at a time.

    Two files are paired as they are. Otherwise predictions are paired with the truth by their names without suffix;
    where these differ, `volume-7` goes with `segmentation-7` (LiTS) and `CASE_0000` with `CASE` (nnU-Net). Hidden
    files are passed over, and so are `NAME_ORGAN_probability` beside a prediction `NAME`.

    Args:
        predictions: a label map, or a folder of them.
        references: a label map, a folder of them, a data set that `find_dataset` knows, or the cases by name.
        labels: name of each label to score, any other counting as background. By default every label that the data
            set declares and every one that occurs.
        tolerance_mm: of the surface Dice.
        progress: called after each case with the number done, the number in all, and its name.

    Returns:
        The scores. A case is among the `failures` where a file cannot be read, the grids differ, or only one of
        prediction and truth is there. For a single prediction only its own truth is looked for.

    Raises:
        DataError: a path is missing, no prediction has a truth, or no case could be scored.
        UsageError: a label has no tolerance, or is below 1.
    """
    pairs, failures, declared = _pairs(Path(predictions), references)
    names = dict(declared if labels is None else labels)
    scored: list[tuple[CaseScores, int]] = []
    for done, (name, pair) in enumerate(sorted(pairs.items()), 1):
        try:
            prediction, reference = (read_label(file, pair.image) for file in (pair.prediction, pair.reference))
            names |= {} if labels is not None else _new_labels(prediction, reference, names)
            scores = score_case(prediction, reference, names, tolerance_mm)
        except DataError as error:
            if len(pairs) == 1:
                raise
            failures.append(Failure(name, str(error)))
        else:
            scored.append((CaseScores(name, scores, pair.prediction, pair.reference), reference.array.size))
        if progress is not None:
            progress(done, len(pairs), name)
    if not scored:
        last = failures[-1]
        raise DataError(f"none of {len(pairs)} cases could be scored, such as {last.case}: {last.message}")
    return _summary(scored, failures, names, tolerance_mm)


def _summary(
    scored: list[tuple[CaseScores, int]], failures: list[Failure], names: dict[int, str], tolerance_mm: Tolerance
) -> Summary:
    """Give every case every label: what occurs in later cases only is empty in truth and prediction here."""
    names = dict(sorted(names.items()))
    cases = []
    for case, voxels in scored:
        metrics = {label: case.metrics.get(label) or unscored(voxels) for label in names}
        cases.append(CaseScores(case.case, metrics, case.prediction_file, case.reference_file))
    tolerances = {label: tolerance_of(label, tolerance_mm) for label in names}
    return Summary(names, tolerances, cases, sorted(failures, key=lambda failure: failure.case))


def _mean(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _grid(volume: Volume) -> str:
    spacing = " x ".join(f"{step:.6g}" for step in volume.spacing_mm)
    return f"{' x '.join(map(str, volume.shape))} voxels of {spacing} mm, stored {axis_codes(volume.affine)}"


def _new_labels(prediction: Volume, reference: Volume, names: Mapping[int, str]) -> dict[int, str]:
    """Name the labels that occur and have no name yet."""
    values: set[int] = set()
    for volume in (prediction, reference):
        array = volume.array.T if volume.array.flags.f_contiguous else volume.array
        values |= set(np.unique(array[array != 0]).tolist())
    if values and min(values) < 0:
        raise DataError(
            f"holds the label {min(values)}, labels are whole numbers from 0; say which to score (--labels)"
        )
    return {value: f"label {value}" for value in values - names.keys()}


def _pairs(
    predictions: Path, references: str | Path | Mapping[str, Case]
) -> tuple[dict[str, _Pair], list[Failure], dict[int, str]]:
    """Pair predictions with the truth by case; also what has no counterpart, and the labels that are declared."""
    files = _predictions(predictions)
    truth, declared = _truth(references)
    if predictions.is_file() and not isinstance(references, Mapping) and volume_suffix(references):
        truth = dict(zip(files, truth.values(), strict=True))
    matched = _match(files, truth)
    if not matched:
        raise DataError(
            f"nothing to evaluate: {predictions} holds {_some(files)}, the truth {_some(truth)}; "
            "name each prediction like its case"
        )
    named = {case: file for file, case in matched.items()}
    pairs = {case: _Pair(files[file], *truth[case]) for case, file in named.items()}
    failures = [Failure(name, f"{files[name]}: has no truth") for name in files.keys() - matched.keys()]
    if predictions.is_dir():
        missing = truth.keys() - named.keys()
        failures += [Failure(name, f"{truth[name][0]}: has no prediction in {predictions}") for name in missing]
    return pairs, failures, declared


def _predictions(path: Path) -> dict[str, Path]:
    if path.is_file():
        return {volume_stem(path): path}
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    return _label_maps(path)


def _truth(references: str | Path | Mapping[str, Case]) -> tuple[dict[str, tuple[Path, Path]], dict[int, str]]:
    """List the true label map of each case and the image it belongs to, and the labels that are declared."""
    if isinstance(references, Mapping):
        return {name: (case.label, case.image) for name, case in references.items() if case.label is not None}, {}
    path = Path(references)
    if path.is_file() and volume_suffix(path):
        return {volume_stem(path): (path, path)}, {}
    try:
        dataset = find_dataset(path)
    except DataError:
        files = _label_maps(path) if path.is_dir() else {}
        if not files:
            raise
        return {name: (file, file) for name, file in files.items()}, {}
    declared = {label: name for label, name in (dataset.labels or {}).items() if label != 0}
    return {case.id: (case.label, case.image) for case in dataset.cases if case.label is not None}, declared


def _label_maps(folder: Path) -> dict[str, Path]:
    """List the label maps of a folder by name, without hidden files and probabilities.

    Raises:
        DataError: two files have one name.
    """
    files: dict[str, Path] = {}
    for file in sorted(f for f in folder.iterdir() if volume_suffix(f) and f.is_file() and f.name[0] != "."):
        other = files.setdefault(volume_stem(file), file)
        if other != file:
            raise DataError(f"{folder}: {other.name} and {file.name} stand for one case; remove one")
    soft = {n for n in files if n.endswith("_probability") and any(n.startswith(f"{m}_") for m in files if m != n)}
    return {name: file for name, file in files.items() if name not in soft}


def _match(files: Iterable[str], truth: Mapping[str, tuple[Path, Path]]) -> dict[str, str]:
    """Find the case of each prediction: by its name, by that of the label map, then without what layouts add."""
    matched: dict[str, str] = {}
    for key in (str, _plain_name):
        taken = set(matched.values())
        free = {key(file): file for file in files if file not in matched}
        for case in [case for case in truth if case not in taken]:
            names = (key(case), key(volume_stem(truth[case][0])))
            found = next((free.pop(name) for name in names if name in free), None)
            if found is not None:
                matched[found] = case
    return matched


def _plain_name(name: str) -> str:
    return re.sub(r"^(volume|segmentation)-(?=\d+$)", "LiTS ", name.removesuffix("_0000"))


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "") or "nothing"
