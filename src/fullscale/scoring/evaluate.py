"""Scores of one case, and of a folder of predictions against the truth."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.data.case import Case
from fullscale.data.discover import LabelMaps, find_label_maps, label_maps_of
from fullscale.data.image_files import is_picture
from fullscale.data.labels import LabelScheme
from fullscale.data.layouts.find import find_dataset
from fullscale.data.read import label_name, read_label
from fullscale.data.truth import known_truth, truth_of
from fullscale.data.volume_files import volume_suffix
from fullscale.errors import DataError, GeometryError, UsageError
from fullscale.files import safe_name
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
from fullscale.scoring.summary import METRICS, CaseScores, Failure, Summary
from fullscale.work.cluster import Workers
from fullscale.work.executor import choose_workers, make_executor, map_cases

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Pair:
    prediction: Path
    reference: Path
    image: Path | None
    case: Case | None = None

    def grid_of(self, mask: Path) -> Path:
        """Where a mask that stores a few slices only lies: on the scan, or on the other mask."""
        other = self.reference if mask == self.prediction else self.prediction
        beside = is_picture(other) and mask == self.prediction  # pixels are as large as those of the truth
        return self.image or (other if beside or (volume_suffix(other) and not is_picture(other)) else mask)


@dataclass(frozen=True)
class _Scored:
    """A case, what a label scores in it that occurs nowhere in it, and the labels it holds that had no name.

    The unit is what its lengths and sizes are counted in.
    """

    case: CaseScores
    nothing: Scores
    found: dict[int, str]
    unit: Unit


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

    Returns:
        The scores. A case is among the `failures` where a file cannot be read, the grids differ, or only one of
        prediction and truth is there. For a single prediction only its own truth is looked for.

    Raises:
        DataError: a path is missing, no prediction has a truth, or no case could be scored.
        UsageError: a label has no tolerance, or is below 1; or the masks are of models of different structures.
    """
    pairs, failures, truth = _pairs(Path(predictions), references)
    recorded = None if labels is not None else _recorded(pair.prediction for pair in pairs.values())
    scheme = _scheme(recorded if labels is None else labels, truth)
    names = scheme.structures
    open_ended = labels is None and recorded is None and not scheme.regions
    score = partial(_score_pair, scheme=scheme, open_ended=open_ended, tolerance_mm=tolerance_mm, resample=resample)
    scored: list[_Scored] = []
    with make_executor(choose_workers(jobs, len(pairs))) as executor:
        for outcome in map_cases(executor, score, sorted(pairs.items()), progress, itemgetter(0)):
            failure = None if len(pairs) == 1 else outcome.failure()
            if failure is not None:
                failures.append(Failure(outcome.name, failure))
                continue
            found = outcome.result()
            if scored and found.unit != scored[0].unit:
                failures.append(Failure(outcome.name, _other_unit(found.unit, scored[0])))
                continue
            scored.append(found)
            names |= found.found
    if not scored:
        last = failures[-1]
        raise DataError(f"none of {len(pairs)} cases could be scored, such as {last.case}: {last.message}")
    names = names if scheme.regions else dict(sorted(names.items()))
    summary = _summary(scored, failures, names, tolerance_mm)
    return replace(summary, data=truth.data, regions=dict(scheme.regions), ignore=scheme.ignore)


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
    item: tuple[str, _Pair], scheme: LabelScheme, open_ended: bool, tolerance_mm: Tolerance, resample: bool
) -> _Scored:
    """Read and score one case; where the labels are open-ended, with those that occur in it beside the known ones."""
    name, pair = item
    prediction = scheme.merge(read_label(pair.prediction, pair.grid_of(pair.prediction), scheme))
    if pair.case is None:
        truth = known_truth(read_label(pair.reference, pair.grid_of(pair.reference), scheme), scheme)
    else:
        truth = truth_of(pair.case, scheme)
    reference = truth.labels
    moved = resample and describe_mismatch(prediction, reference) is not None
    prediction = resample_labels(prediction, reference) if moved else prediction
    found = _new_labels(prediction, reference, scheme.labels) if open_ended else {}
    known = [label for label in scheme.structures | found if label not in truth.unknown]
    members = scheme.members if scheme.regions else None
    scores = score_case(prediction, reference, known, tolerance_mm, members, truth.ignored)
    scores |= {label: dict.fromkeys((*METRICS, *SLICES)) for label in truth.unknown}
    image = None if pair.image is None else pair.image.absolute()
    case = CaseScores(
        *(name, scores, pair.prediction.absolute(), pair.reference.absolute(), image, moved),
        unknown=truth.unknown,
        ignored_voxels=truth.ignored_voxels,
        ignore_file=None if pair.case is None or pair.case.ignore is None else pair.case.ignore.absolute(),
        mask_files=() if pair.case is None else tuple(file.absolute() for file in pair.case.masks),
        colours=None if pair.case is None else pair.case.colours,
        structures={} if pair.case is None else {n: f.absolute() for n, f in pair.case.structures.items()},
        empty=pair.case is not None and pair.case.empty,
        by_name=pair.case is not None and pair.case.by_name,
    )
    voxels = reference.array.size - truth.ignored_voxels
    return _Scored(case, unscored(voxels) | unscored_slices(reference), found, reference.unit)


def _summary(scored: list[_Scored], failures: list[Failure], names: dict[int, str], tolerance_mm: Tolerance) -> Summary:
    """Give every case every label: what occurs in other cases only is empty in truth and prediction here."""
    cases = [
        replace(one.case, metrics={label: one.case.metrics.get(label) or one.nothing for label in names})
        for one in scored
    ]
    tolerances = {label: tolerance_of(label, tolerance_mm) for label in names}
    failures = sorted(failures, key=lambda failure: failure.case)
    return Summary(names, tolerances, cases, failures, unit=scored[0].unit)


def _other_unit(unit: Unit, first: _Scored) -> str:
    return (
        f"its lengths are in {LENGTH[unit]}, those of {first.case.case} in {LENGTH[first.unit]}: means over both say "
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


def _pairs(
    predictions: Path, references: str | Path | Mapping[str, Case]
) -> tuple[dict[str, _Pair], list[Failure], LabelMaps]:
    """Pair predictions with the truth by case; also what has no counterpart, and the truth."""
    given, truth = find_label_maps(predictions), _truth(references)
    if given.single and truth.single:
        truth = truth.named_like(given)
    matched = _match(given.files, truth.files)
    if not matched:
        where = "" if isinstance(references, Mapping) else f" ({references})"
        raise DataError(
            f"nothing to evaluate: {predictions} holds {_some(given.files)}, the truth {_some(truth.files)}{where}; "
            "name each prediction like its case"
        )
    pairs = {
        case: _Pair(given.files[name], truth.files[case], truth.images.get(case), truth.cases.get(case))
        for name, case in matched.items()
    }
    failures = [Failure(name, f"{given.files[name]}: has no truth") for name in given.files.keys() - matched.keys()]
    if not given.single:
        missing = truth.files.keys() - pairs.keys()
        failures += [Failure(name, f"{truth.files[name]}: has no prediction in {predictions}") for name in missing]
    return pairs, failures, truth


def _truth(references: str | Path | Mapping[str, Case]) -> LabelMaps:
    """List the true label map of each case, with its scan where that is known."""
    if isinstance(references, Mapping):
        return label_maps_of(references)
    found = find_label_maps(references)
    if not found.files:
        find_dataset(references)  # which says why there is none
    return found


def _match(files: Iterable[str], truth: Mapping[str, Path]) -> dict[str, str]:
    """Find the case of each prediction: by its name, by that of the label map, then without what layouts add."""
    matched: dict[str, str] = {}
    for key in (str, _plain_name):
        taken = set(matched.values())
        free = {key(file): file for file in files if file not in matched}
        for case in [case for case in truth if case not in taken]:
            names = (key(case), key(safe_name(case)), key(label_name(truth[case]) or case))
            found = next((free.pop(name) for name in names if name in free), None)
            if found is not None:
                matched[found] = case
    return matched


def _plain_name(name: str) -> str:
    return re.sub(r"^(volume|segmentation)-(?=\d+$)", "LiTS ", name.removesuffix("_0000"))


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "") or "nothing"
