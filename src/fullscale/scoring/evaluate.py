"""Scores of one case, and of a folder of predictions against the truth."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.data.case import Case
from fullscale.data.discover import LabelMaps
from fullscale.data.labels import LabelScheme
from fullscale.data.mask_images import Colours
from fullscale.data.read import read_label
from fullscale.data.truth import known_truth, truth_of
from fullscale.errors import DataError, GeometryError, UsageError
from fullscale.geometry.orientation import axis_codes
from fullscale.geometry.resample import resample_labels
from fullscale.geometry.units import LENGTH, PER_SIZE, Unit
from fullscale.geometry.volume import Volume, describe_mismatch
from fullscale.metrics.overlap import (
    Members,
    Scores,
    empty_mask_scores,
    is_of,
    members_of,
    overlap_counts,
    overlap_scores,
    unscored,
    volume_scores,
)
from fullscale.metrics.slices import SLICES, slice_scores, unscored_slices
from fullscale.metrics.surface import (
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
from fullscale.outputs import held
from fullscale.progress import Progress, ignore
from fullscale.scoring.pairing import Pair, find_pairs
from fullscale.scoring.summary import METRICS, CaseScores, Failure, Summary
from fullscale.work.cluster import Workers
from fullscale.work.executor import Outcome, choose_workers, make_executor, map_cases

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """What was found in one case.

    Attributes:
        metrics: scores of each label that is known by name, or occurs in it.
        nothing: what a label scores that occurs nowhere in it.
        occurring: the labels that it holds and that had no name.
        unit: what its lengths and sizes are counted in.
        resampled: whether the prediction was brought onto the truth's grid first.
        unknown: labels that were not drawn in it.
        ignored_voxels: voxels of which the truth says nothing.
    """

    metrics: dict[int, Scores]
    nothing: Scores
    occurring: dict[int, str]
    unit: Unit
    resampled: bool
    unknown: tuple[int, ...]
    ignored_voxels: int


def score_arrays(
    prediction: npt.NDArray[Any],
    reference: npt.NDArray[Any],
    spacing_mm: npt.ArrayLike,
    labels: Iterable[int],
    surface: bool = True,
    tolerance_mm: Tolerance = TOLERANCE_MM,
    members: Members | None = None,
    ignored: npt.NDArray[np.bool_] | None = None,
    unit: Unit = "mm",
) -> dict[int, Scores]:
    """Score a label map against the truth, both on one grid.

    An ignored voxel counts nowhere. For distances it is outside of both masks, whatever they hold there.

    Args:
        prediction: integers `[X, Y, Z]`.
        reference: the truth, of the same shape.
        spacing_mm: `[3]`, or the voxel steps `[3, 3]` in mm, one column an axis.
        labels: values of the classes, from 1.
        surface: False leaves out HD95, ASSD and NSD, which take most of the time.
        tolerance_mm: of the surface Dice.
        members: values of the classes that are made of several, and may overlap.
        ignored: voxels of which nothing is known, of the same shape.
        unit: what the spacing and the tolerance are counted in.

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
        ignored = None if ignored is None else ignored.T
    counts = dict(zip(wanted, overlap_counts(prediction, reference, wanted, members, ignored), strict=True))
    if ignored is not None:
        prediction, reference = (np.where(ignored, 0, array) for array in (prediction, reference))
    voxel_ml = abs(float(np.linalg.det(axes))) / PER_SIZE[unit]
    diagonal = diagonal_mm(prediction.shape, axes)
    scores = {label: empty_mask_scores(count, diagonal, surface) for label, count in counts.items()}
    both = [label for label in wanted if scores[label] is None]
    for label, box in joint_boxes(prediction, reference, both if surface else [], members).items():
        [values] = members_of([label], members)
        found, real = (is_of(array[box], values) for array in (prediction, reference))
        distances = surface_distances(found, real, axes)
        within = nsd(distances, tolerance_of(label, tolerance_mm))
        scores[label] = {"HD95": hd95(distances), "ASSD": assd(distances), "NSD": within}
    for label in both:
        scores[label] = overlap_scores(counts[label]) | (scores[label] or {})
    return {
        label: (scores[label] or {}) | count.as_scores() | volume_scores(count, voxel_ml)
        for label, count in counts.items()
    }


def score_case(
    prediction: Volume,
    reference: Volume,
    labels: Iterable[int],
    tolerance_mm: Tolerance = TOLERANCE_MM,
    members: Members | None = None,
    ignored: npt.NDArray[np.bool_] | None = None,
) -> dict[int, Scores]:
    """Score a label map against the truth; see `score_arrays`, and `SLICES` for the slices without a structure.

    Raises:
        GeometryError: the two do not lie on one grid; nothing is resampled.
    """
    mismatch = describe_mismatch(prediction, reference)
    if mismatch is not None:
        raise GeometryError(
            f"prediction and truth lie on different grids: {mismatch} (prediction {_grid(prediction)}; truth "
            f"{_grid(reference)}); score it on the truth's grid with --resample, or bring it there yourself"
        )
    axes, wanted = reference.affine[:3, :3], list(labels)
    further: dict[str, Any] = {"tolerance_mm": tolerance_mm, "members": members, "ignored": ignored}
    further["unit"] = reference.unit
    scores = score_arrays(prediction.array, reference.array, axes, wanted, **further)
    slices = slice_scores(prediction, reference, wanted, members, ignored)
    return {label: scores[label] | slices[label] for label in wanted}


def evaluate(
    predictions: str | Path,
    references: str | Path | Mapping[str, Case],
    labels: LabelScheme | Mapping[int, str] | None = None,
    tolerance_mm: Tolerance = TOLERANCE_MM,
    progress: Progress = ignore,
    resample: bool = False,
    jobs: Workers = 1,
    colours: Colours | None = None,
) -> Summary:
    """Score predicted label maps against the truth, one case in memory at a time.

    Two files are paired as they are. Otherwise predictions are paired with the truth by their names without suffix;
    where these differ, `volume-7` goes with `segmentation-7` (LiTS) and `CASE_0000` with `CASE` (nnU-Net). Hidden
    files are passed over, and so are `NAME_STRUCTURE_probability` beside a prediction `NAME`.

    Args:
        predictions: a label map, or a folder of them.
        references: a label map, a folder of them, a data set that `find_dataset` knows, or the cases by name.
        labels: name of each label to score, any other counting as background; values that share a name are merged,
            scored as the lowest; or a scheme, of regions or with a value to ignore. By default the structures of the
            model, where `fullscale predict` made the masks; else every structure that the data set declares and, where
            they do not overlap, every label that occurs. Whatever is given, a value
            that the data set ignores is ignored unless it is named.
        tolerance_mm: of the surface Dice.
        progress: told of each case that is scored.
        resample: bring predictions on other grids onto the truth's (nearest neighbour) instead of refusing them; the
            scores say of which case that was done.
        jobs: processes that share the cases; None as the machine allows.
        colours: label value of each colour of the truths that are images, in place of what lies beside them.

    Returns:
        The scores. A case is among the `failures` where a file cannot be read, the grids differ, or only one of
        prediction and truth is there. For a single prediction only its own truth is looked for.

    Raises:
        DataError: a path is missing, no prediction has a truth, or no case could be scored.
        UsageError: a label has no tolerance, or is below 1; or the masks are of models of different structures.
    """
    scoring = Scoring.of(predictions, references, labels, tolerance_mm, resample, colours)
    with make_executor(choose_workers(jobs, len(scoring.pairs))) as executor:
        items = sorted(scoring.pairs.items())
        return scoring.summary(map_cases(executor, scoring.function(), items, progress, itemgetter(0)))


@dataclass(frozen=True)
class Scoring:
    """What is scored against what, and how.

    Attributes:
        pairs: of prediction and truth, by case.
        failures: what has no counterpart.
        truth: all of it.
        scheme: what is scored, and which value is ignored.
        open_ended: whether labels that occur are scored too.
        tolerance_mm: of the surface Dice.
        resample: bring predictions on other grids onto the truth's.
    """

    pairs: dict[str, Pair]
    failures: list[Failure]
    truth: LabelMaps
    scheme: LabelScheme
    open_ended: bool
    tolerance_mm: Tolerance
    resample: bool

    @classmethod
    def of(
        cls,
        predictions: str | Path,
        references: str | Path | Mapping[str, Case],
        labels: LabelScheme | Mapping[int, str] | None = None,
        tolerance_mm: Tolerance = TOLERANCE_MM,
        resample: bool = False,
        colours: Colours | None = None,
    ) -> Scoring:
        """Pair predictions with the truth, and choose what is scored; see `evaluate`."""
        pairs, failures, truth = find_pairs(Path(predictions), references, colours)
        recorded = None if labels is not None else _recorded(pair.prediction for pair in pairs.values())
        scheme = _scheme(recorded if labels is None else labels, truth)
        open_ended = labels is None and recorded is None and not scheme.regions
        return cls(pairs, failures, truth, scheme, open_ended, tolerance_mm, resample)

    def function(self) -> Callable[[tuple[str, Pair]], Found]:
        """Return what scores one case."""
        return partial(
            _score_pair,
            scheme=self.scheme,
            open_ended=self.open_ended,
            tolerance_mm=self.tolerance_mm,
            resample=self.resample,
        )

    def summary(self, outcomes: Iterable[Outcome[Any, Found]]) -> Summary:
        """Put the scores of the cases together.

        Args:
            outcomes: called by their cases.

        Raises:
            DataError: no case could be scored.
        """
        scored: dict[str, Found] = {}
        failures = list(self.failures)
        for outcome in outcomes:
            failure = None if len(self.pairs) == 1 else outcome.failure()
            if failure is not None:
                failures.append(Failure(outcome.name, failure))
                continue
            found, first = outcome.result(), next(iter(scored), outcome.name)
            if scored and found.unit != scored[first].unit:
                failures.append(Failure(outcome.name, _other_unit(found.unit, first, scored[first].unit)))
                continue
            scored[outcome.name] = found
        if not scored:
            last = failures[-1]
            raise DataError(f"none of {len(self.pairs)} cases could be scored, such as {last.case}: {last.message}")
        return self._summary(scored, failures)

    def _summary(self, scored: dict[str, Found], failures: list[Failure]) -> Summary:
        """Give every case every label: what occurs in other cases only is empty in truth and prediction here."""
        names = dict(self.scheme.structures)
        for found in scored.values():
            names |= found.occurring
        names = names if self.scheme.regions else dict(sorted(names.items()))
        cases = [
            _described(
                case, self.pairs[case], found, {label: found.metrics.get(label) or found.nothing for label in names}
            )
            for case, found in scored.items()
        ]
        return Summary(
            names,
            {label: tolerance_of(label, self.tolerance_mm) for label in names},
            cases,
            sorted(failures, key=lambda failure: failure.case),
            data=self.truth.data,
            unit=next(iter(scored.values())).unit,
            regions=dict(self.scheme.regions),
            ignore=self.scheme.ignore,
        )


def _described(name: str, pair: Pair, found: Found, metrics: dict[int, Scores]) -> CaseScores:
    """Put the scores of a case beside what they are scores of."""
    case = pair.case
    return CaseScores(
        *(name, metrics, pair.prediction.absolute(), pair.reference.absolute()),
        image_file=None if pair.image is None else pair.image.absolute(),
        resampled=found.resampled,
        unknown=found.unknown,
        ignored_voxels=found.ignored_voxels,
        ignore_file=None if case is None or case.ignore is None else case.ignore.absolute(),
        mask_files=() if case is None else tuple(file.absolute() for file in case.masks),
        colours=pair.table,
        structures={} if case is None else {n: f.absolute() for n, f in case.structures.items()},
        empty=case is not None and case.empty,
        by_name=case is not None and case.by_name,
    )


def _recorded(masks: Iterable[Path]) -> LabelScheme | None:
    """Return what the values of masks stand for, as the command that wrote them recorded it beside them."""
    schemes = [LabelScheme.from_dict(content) for content in held(masks)]
    if not schemes:
        return None
    first, *others = schemes
    if any(not first.agrees_with(other) or first.ignore != other.ignore for other in others):
        said = " and ".join(", ".join(scheme.structures.values()) for scheme in schemes[:2])
        raise UsageError(f"the masks are of models of different structures ({said}): say what to score (--labels)")
    _log.info(
        "scored as the model that made the masks has it: %s; --labels or --regions choose otherwise",
        ", ".join(f"{name} {'+'.join(map(str, first.members[value]))}" for value, name in first.structures.items()),
    )
    return first


def _scheme(labels: LabelScheme | Mapping[int, str] | None, truth: LabelMaps) -> LabelScheme:
    """Say what is scored, and which value is ignored."""
    if labels is None:
        return truth.scheme
    return LabelScheme.of(labels).ignoring(truth.scheme.ignore)


def _score_pair(
    item: tuple[str, Pair], scheme: LabelScheme, open_ended: bool, tolerance_mm: Tolerance, resample: bool
) -> Found:
    """Read and score one case; where the labels are open-ended, with those that occur in it beside the known ones."""
    _, pair = item
    prediction = scheme.merge(read_label(pair.prediction, pair.grid_of(pair.prediction), scheme))
    if pair.case is None:
        truth = known_truth(read_label(pair.reference, pair.grid_of(pair.reference), scheme, pair.table), scheme)
    else:
        truth = truth_of(replace(pair.case, colours=pair.table), scheme)
    reference = truth.labels
    moved = resample and describe_mismatch(prediction, reference) is not None
    prediction = resample_labels(prediction, reference) if moved else prediction
    occurring = _new_labels(prediction, reference, scheme.labels) if open_ended else {}
    known = [label for label in scheme.structures | occurring if label not in truth.unknown]
    members = scheme.members if scheme.regions else None
    scores = score_case(prediction, reference, known, tolerance_mm, members, truth.ignored)
    scores |= {label: dict.fromkeys((*METRICS, *SLICES)) for label in truth.unknown}
    nothing = unscored(reference.array.size - truth.ignored_voxels) | unscored_slices(reference)
    return Found(scores, nothing, occurring, reference.unit, moved, truth.unknown, truth.ignored_voxels)


def _other_unit(unit: Unit, first: str, of_first: Unit) -> str:
    return (
        f"its lengths are in {LENGTH[unit]}, those of {first} in {LENGTH[of_first]}: means over both say "
        "nothing; score them apart"
    )


def _grid(volume: Volume) -> str:
    spacing = " x ".join(f"{step:.6g}" for step in volume.spacing_mm)
    shape, unit = " x ".join(map(str, volume.shape)), LENGTH[volume.unit]
    return f"{shape} voxels of {spacing} {unit}, stored {axis_codes(volume.affine)}"


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
