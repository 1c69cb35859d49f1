"""Looking at every case of a data set once: its facts, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.data.case import WHOLE_SET, Case, Dataset, Problem
from fullscale.data.labels import BACKGROUND
from fullscale.data.read import read_image, read_label
from fullscale.errors import DataError, UsageError
from fullscale.geometry.orientation import axis_codes
from fullscale.geometry.volume import Volume, describe_mismatch
from fullscale.progress import Progress, ignore
from fullscale.work.executor import make_executor, map_cases
from fullscale.work.machine import choose_jobs

FOREGROUND_SAMPLES = 10_000
"""Largest number of voxels inside labels that stand for one case."""
PERCENTILES = (0.5, 50.0, 99.5)

_PERCENTILE_SAMPLES = 1_000_000
_MOST_LABELS = 256
_LABELS_NAMED = 8
_COUNTED_RANGE = 1 << 16
_COUNTED_AT_ONCE = 1 << 22
_SEED = 0


@dataclass(frozen=True)
class CaseFacts:
    """What one usable case is like.

    Attributes:
        case: name of the case.
        shape: voxels along each stored axis.
        spacing_mm: along each stored axis.
        orientation: where the stored axes run, such as "LAS".
        dtype: number type of the image as read, such as "int16".
        intensity_min: smallest intensity (HU for CT).
        intensity_max: largest intensity.
        intensity_percentiles: 0.5, 50 and 99.5 % of all voxels, from a seeded sample of a million where there are more.
        label_voxels: voxel count of each label value in the mask, background included.
        label_ml: volume of each label value but background, in ml.
        foreground: intensities `[N]` float32 of up to 10,000 voxels inside the structures, drawn with a fixed seed and
            alike from every case, so that they can be pooled. Empty where the mask holds none.
    """

    case: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    orientation: str
    dtype: str
    intensity_min: float
    intensity_max: float
    intensity_percentiles: tuple[float, float, float]
    label_voxels: dict[int, int]
    label_ml: dict[int, float]
    foreground: npt.NDArray[np.float32] = field(compare=False, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the facts for JSON, the foreground as its statistics (None where the mask is empty)."""
        plain = {name: value for name, value in vars(self).items() if name != "foreground"}
        plain["label_voxels"] = {str(value): count for value, count in self.label_voxels.items()}
        plain["label_ml"] = {str(value): round(ml, 3) for value, ml in self.label_ml.items()}
        return {**plain, "foreground": foreground_statistics([self])}


@dataclass(frozen=True)
class Inspection:
    """What was found in a data set.

    Attributes:
        dataset: what was inspected.
        labels: name of each label value, background included: as declared, else those found ("class 1").
        facts: by name, of every case that can be used.
        problems: of the layout and of the cases, in the order of the cases.
        structures: name of each label value to segment, background not included, where they were chosen.
    """

    dataset: Dataset
    labels: dict[int, str]
    facts: dict[str, CaseFacts]
    problems: list[Problem]
    structures: dict[int, str] | None = None

    @property
    def usable_cases(self) -> list[Case]:
        """The labelled cases that no error speaks against."""
        return [case for case in self.dataset.cases if case.id in self.facts]

    @property
    def errors(self) -> list[Problem]:
        """The problems that leave a case unused."""
        return [problem for problem in self.problems if problem.severity == "error"]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        return {
            "name": self.dataset.name,
            "layout": self.dataset.layout,
            "root": str(self.dataset.root),
            "modality": self.dataset.modality,
            "labels": {str(value): name for value, name in self.labels.items()},
            "cases": len(self.dataset.cases),
            "usable_cases": len(self.facts),
            "unlabelled": [case.id for case in self.dataset.unlabelled],
            "foreground": foreground_statistics(list(self.facts.values())),
            "facts": [facts.as_dict() for facts in self.facts.values()],
            "problems": [vars(problem) for problem in self.problems],
        }


def foreground_statistics(facts: list[CaseFacts]) -> dict[str, float] | None:
    """Pool the intensities inside labels of several cases; None where there are none.

    Returns:
        `mean`, `std`, `percentile_0_5`, `percentile_50` and `percentile_99_5`, in the unit of the images (HU for CT).
    """
    samples = np.concatenate([np.empty(0, np.float32), *(case.foreground for case in facts)]).astype(np.float64)
    if samples.size == 0:
        return None
    low, middle, high = np.percentile(samples, PERCENTILES)
    values = {"mean": samples.mean(), "std": samples.std(), "percentile_0_5": low}
    return {name: float(v) for name, v in {**values, "percentile_50": middle, "percentile_99_5": high}.items()}


def inspect_dataset(
    dataset: Dataset, progress: Progress = ignore, jobs: int | None = 1, structures: dict[int, str] | None = None
) -> Inspection:
    """Read every labelled case once, and collect its facts and problems.

    Args:
        dataset: what `find_dataset` found.
        progress: told after each case.
        jobs: processes that share the cases; None as the machine allows.
        structures: name of each label value to segment, as `data.labels` sets it; default all but background.

    Returns:
        Facts of the cases that can be used, problems of all.

    Raises:
        UsageError: the data do not have one of the structures.
    """
    facts: dict[str, CaseFacts] = {}
    problems = [*dataset.problems, *_unsupported(dataset, structures)]
    further = {} if dataset.ignore is None else {dataset.ignore: "ignore"}
    declared = None if dataset.labels is None else dataset.labels | further
    chosen = None if structures is None else [value for value, name in structures.items() if name != BACKGROUND[0]]
    work = partial(inspect_case, declared=declared, structures=chosen)
    with make_executor(choose_jobs(jobs, len(dataset.cases))) as executor:
        for outcome in map_cases(executor, work, dataset.cases, progress, attrgetter("id")):
            failure, case = outcome.failure(), outcome.item.id
            found, case_problems = (None, [Problem(case, failure)]) if failure is not None else outcome.result()
            problems += case_problems
            if found is not None:
                facts[case] = found
    present = {value for case_facts in facts.values() for value in case_facts.label_voxels}
    labels = dataset.labels or {0: "background", **{v: f"class {v}" for v in sorted(present - {0})}}
    problems += _absent_labels(labels, present) if facts else []
    unknown = set(structures or {}) - set(labels | further)
    if unknown and facts:
        known = [f"{value} ({name})" for value, name in labels.items() if value]
        more = f" and {len(known) - _LABELS_NAMED} more" if len(known) > _LABELS_NAMED else ""
        raise UsageError(
            f"data.labels names {min(unknown)}, which {dataset.name} does not have; it has "
            f"{', '.join(known[:_LABELS_NAMED])}{more}"
        )
    return Inspection(dataset, labels, facts, problems, structures)


def inspect_case(
    case: Case, declared: dict[int, str] | None = None, structures: Collection[int] | None = None
) -> tuple[CaseFacts | None, list[Problem]]:
    """Read one labelled case; its facts are None where an error speaks against using it.

    Args:
        case: with its label.
        declared: name of each label value that the data set says it has.
        structures: the label values to segment; default all but 0.
    """
    problems: list[Problem] = []
    image = label = None
    try:
        image = read_image(case.image)
        label = read_label(case.label, case.image) if case.label is not None else None
    except DataError as error:
        problems.append(Problem(case.id, str(error)))
    if image is not None and label is not None:
        problems += [Problem(case.id, text) for text in _faults(image, label, declared)]
        problems += [Problem(case.id, text, "warning") for text in _oddities(image, label)]
    if image is None or label is None or any(problem.severity == "error" for problem in problems):
        return None, problems
    return _facts(case.id, image, label, structures), problems


def _faults(image: Volume, label: Volume, declared: dict[int, str] | None) -> Iterator[str]:
    """Say why image and label cannot be used together."""
    mismatch = describe_mismatch(image, label)
    if mismatch is not None:
        yield f"image and label lie on different grids: {mismatch}"
    if image.array.dtype.kind == "f":
        broken = int(image.array.size - np.isfinite(image.array).sum())
        if broken:
            yield f"{broken} of {image.array.size} voxels of the image are NaN or infinite; repair the file"
    present = sorted(count_labels(label.array))
    if len(present) > _MOST_LABELS:
        yield f"the label map holds {len(present)} different values; is it an image?"
    elif declared is not None and set(present) - set(declared):
        unknown = sorted(set(present) - set(declared))
        yield f"labels {unknown} are not among the declared {sorted(declared)}"
    elif present[0] < 0:
        yield f"labels {[value for value in present if value < 0]} are negative, expected 0, 1, 2 ..."


def _oddities(image: Volume, label: Volume) -> Iterator[str]:
    """Say what is unusual about a case that can still be used."""
    if not label.array.any():
        yield "the mask is empty"
    if min(image.shape) == 1:
        yield f"the scan has one slice only (shape {image.shape})"


def _unsupported(dataset: Dataset, structures: dict[int, str] | None) -> Iterator[Problem]:
    """Say which declared labels cannot be trained on as they are, and how to choose others."""
    if dataset.regions and structures is None:
        overlapping = ", ".join(f"{name} {list(values)}" for name, values in dataset.regions.items())
        text = f"structures overlap ({overlapping}), which is not supported; choose exclusive ones by their values"
        yield Problem(WHOLE_SET, f"{text}, such as data.labels={{1: liver, 2: tumour}}")
    if dataset.ignore is not None and dataset.ignore not in (structures or {}):
        text = f"label {dataset.ignore} is 'ignore', voxels of which nothing is known; training without them is not"
        remedy = f"count them as background by {dataset.ignore}: background in data.labels, or complete the masks"
        yield Problem(WHOLE_SET, f"{text} supported: {remedy}")


def _absent_labels(labels: dict[int, str], present: set[int]) -> list[Problem]:
    absent = [f"{value} ({name})" for value, name in labels.items() if value not in present]
    return [Problem(WHOLE_SET, f"label {text} is declared but appears in no case", "warning") for text in absent]


def count_labels(labels: npt.NDArray[Any]) -> dict[int, int]:
    """Count the voxels of each value of an integer array."""
    flat = labels.ravel(order="K")
    low, high = int(flat.min()), int(flat.max())
    if high - low > _COUNTED_RANGE:
        values, counts = np.unique(flat, return_counts=True)
        return dict(zip(values.tolist(), counts.tolist(), strict=True))
    total = np.zeros(high - low + 1, np.int64)
    for start in range(0, flat.size, _COUNTED_AT_ONCE):
        part = flat[start : start + _COUNTED_AT_ONCE].astype(np.int64)
        total += np.bincount(part - low, minlength=total.size)
    return {low + int(k): int(total[k]) for k in np.flatnonzero(total)}


def _facts(name: str, image: Volume, label: Volume, structures: Collection[int] | None) -> CaseFacts:
    rng = np.random.default_rng(_SEED)
    low, middle, high = np.percentile(_draw(image.array.ravel(order="K"), _PERCENTILE_SAMPLES, rng), PERCENTILES)
    voxels = count_labels(label.array)
    inside = label.array != 0 if structures is None else np.isin(label.array, list(structures))
    return CaseFacts(
        case=name,
        shape=image.shape,
        spacing_mm=image.spacing_mm,
        orientation=axis_codes(image.affine),
        dtype=image.array.dtype.name,
        intensity_min=float(image.array.min()),
        intensity_max=float(image.array.max()),
        intensity_percentiles=(float(low), float(middle), float(high)),
        label_voxels=voxels,
        label_ml={value: count * image.voxel_ml for value, count in voxels.items() if value != 0},
        foreground=_draw(image.array[inside], FOREGROUND_SAMPLES, rng).astype(np.float32),
    )


def _draw(values: npt.NDArray[Any], most: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Draw `most` of the values, with replacement, or take all where there are no more."""
    return values if values.size <= most else values[rng.integers(values.size, size=most)]
