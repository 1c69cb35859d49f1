"""Looking at every case of a data set once: its facts, and everything that is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.data.anonymise import without_files
from fullscale.data.case import WHOLE_SET, Case, Dataset, Problem
from fullscale.data.faults import absent_labels, count_labels, faults, oddities, unknown_structures, unsupported_labels
from fullscale.data.image_plan import mean_thickness
from fullscale.data.labels import BACKGROUND, LabelScheme
from fullscale.data.read import read_channels, read_truth
from fullscale.errors import DataError, GeometryError, UsageError
from fullscale.geometry.orientation import axis_codes
from fullscale.geometry.units import LENGTH, Unit
from fullscale.geometry.volume import Volume
from fullscale.progress import Progress, ignore
from fullscale.text import without_folders
from fullscale.work.executor import make_executor, map_cases
from fullscale.work.machine import choose_jobs

FOREGROUND_SAMPLES = 10_000
"""Largest number of voxels inside labels that stand for one case."""
PERCENTILES = (0.5, 50.0, 99.5)

_PERCENTILE_SAMPLES = 1_000_000
_LABELS_NAMED = 8
_FAR_SPACING = 8.0
_SAME_IN_MANY = 3
"""Cases with one and the same warning from which it is said of the data set, once."""
_SEED = 0


@dataclass(frozen=True)
class ChannelFacts:
    """What the voxels of one channel of a case are like.

    Attributes:
        dtype: number type of the image as read, such as "int16".
        intensity_min: smallest intensity (HU for CT).
        intensity_max: largest intensity.
        intensity_percentiles: 0.5, 50 and 99.5 % of all voxels, from a seeded sample of a million where there are more.
        zero_fraction: part of the voxels that are 0.
        foreground: intensities `[N]` float32 of up to 10,000 voxels inside the structures, drawn with a fixed seed and
            alike from every case, so that they can be pooled. Empty where the mask holds none.
    """

    dtype: str
    intensity_min: float
    intensity_max: float
    intensity_percentiles: tuple[float, float, float]
    zero_fraction: float
    foreground: npt.NDArray[np.float32] = field(compare=False, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the facts for JSON, the foreground as its statistics (None where the mask is empty)."""
        plain = {name: value for name, value in vars(self).items() if name != "foreground"}
        return {**plain, "foreground": pooled_statistics([self])}


@dataclass(frozen=True)
class CaseFacts:
    """What one usable case is like.

    Attributes:
        case: name of the case.
        shape: voxels along each stored axis.
        spacing_mm: along each stored axis.
        orientation: where the stored axes run, such as "LAS".
        label_voxels: voxel count of each label value in the mask, background included.
        label_ml: volume of each label value but background, in ml.
        channels: what the voxels of each channel are like.
        at_border: label values that have a voxel at a border of the scan, where the structure may be cut.
        unit: what `spacing_mm` and `label_ml` are counted in.
        thickness: of a single image, pixels across its thinnest class on average; see `mean_thickness`.
    """

    case: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    orientation: str
    label_voxels: dict[int, int]
    label_ml: dict[int, float]
    channels: dict[str, ChannelFacts]
    at_border: tuple[int, ...] = ()
    unit: Unit = "mm"
    thickness: float | None = None

    @property
    def holds_structure(self) -> bool:
        """Whether the mask holds a structure that is asked for."""
        return any(len(channel.foreground) > 0 for channel in self.channels.values())

    def as_dict(self) -> dict[str, Any]:
        """Return the facts for JSON."""
        plain = dict(vars(self))
        plain["label_voxels"] = {str(value): count for value, count in self.label_voxels.items()}
        plain["label_ml"] = {str(value): round(ml, 3) for value, ml in self.label_ml.items()}
        plain["channels"] = {name: channel.as_dict() for name, channel in self.channels.items()}
        return plain


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
    def names(self) -> dict[int, str]:
        """Name of each label value, background included: as it was chosen, else as `labels` has it."""
        return self.labels | (self.structures or {})

    @property
    def remarks(self) -> list[str]:
        """What is odd about the data set as a whole, a line each."""
        return [p.message for p in self.problems if p.case == WHOLE_SET and p.severity == "warning"]

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
            "channels": list(self.dataset.channels),
            "labels": {str(value): name for value, name in self.names.items()},
            "cases": len(self.dataset.cases),
            "usable_cases": len(self.facts),
            "unlabelled": [case.id for case in self.dataset.unlabelled],
            "foreground": foreground_statistics(list(self.facts.values())),
            "facts": [facts.as_dict() for facts in self.facts.values()],
            "problems": [vars(problem) for problem in self.problems],
        }

    def as_record(self, anonymous: bool = False) -> dict[str, Any]:
        """Return what is kept of a data set in results: `as_dict` without where its files lie, or how they are called.

        Args:
            anonymous: the cases have numbers for names, so that the names of files are left out too.
        """
        by_id = {case.id: case for case in (*self.dataset.cases, *self.dataset.unlabelled)}
        kept = self.as_dict()
        del kept["root"]
        for problem in (problems := [dict(one) for one in kept["problems"]]):
            text = without_folders(problem["message"].replace(f"{self.dataset.root}/", ""))
            named = by_id.get(problem["case"], Case.of_image("", self.dataset.root))
            problem["message"] = without_files(problem["message"], named) if anonymous else text
        return kept | {"problems": problems}


def require_trainable(inspection: Inspection) -> None:
    """Refuse data of which no case can be used, or whose labels as a whole cannot be trained on, whatever the plan.

    Raises:
        DataError: it is so.
    """
    unsupported = [problem for problem in inspection.errors if problem.case == WHOLE_SET]
    if unsupported:
        raise DataError(f"{inspection.dataset.name}: {unsupported[0].message}")
    if not inspection.facts:
        raise DataError(f"no case of {inspection.dataset.name} can be used; see fullscale inspect")


def foreground_statistics(facts: list[CaseFacts]) -> dict[str, dict[str, float] | None]:
    """Pool the intensities inside labels of several cases, channel by channel; None where there are none."""
    names = list(facts[0].channels) if facts else []
    return {name: pooled_statistics([case.channels[name] for case in facts]) for name in names}


def pooled_statistics(channels: list[ChannelFacts]) -> dict[str, float] | None:
    """Pool the intensities inside labels of one channel of several cases; None where there are none.

    Returns:
        `mean`, `std`, `percentile_0_5`, `percentile_50` and `percentile_99_5`, in the unit of the images (HU for CT).
    """
    samples = np.concatenate([np.empty(0, np.float32), *(one.foreground for one in channels)]).astype(np.float64)
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
    dataset = dataset.with_chosen(structures)
    strangers = list(unknown_structures(dataset, structures))
    problems = [*dataset.problems, *unsupported_labels(dataset, structures), *strangers]
    further = {} if dataset.ignore is None else {dataset.ignore: "ignore"}
    declared = None if dataset.labels is None else dataset.labels | further
    chosen = None if structures is None else [value for value, name in structures.items() if name != BACKGROUND[0]]
    resample = dataset.resample_channels
    work = partial(inspect_case, declared=declared, structures=chosen, resample=resample)
    with make_executor(choose_jobs(jobs, len(dataset.cases))) as executor:
        for outcome in map_cases(executor, work, dataset.cases, progress, attrgetter("id")):
            failure, case = outcome.failure(), outcome.item.id
            found, case_problems = (None, [Problem(case, failure)]) if failure is not None else outcome.result()
            problems += case_problems
            if found is not None and case not in {problem.case for problem in strangers}:
                facts[case] = found
    present = {value for case_facts in facts.values() for value in case_facts.label_voxels}
    labels = dataset.labels or {0: "background", **{v: f"class {v}" for v in sorted(present - {0})}}
    if facts:
        problems += absent_labels(labels, present)
        problems += _outliers(list(facts.values()), dataset.modality)
        problems += _always_cut(list(facts.values()), labels)
    unknown = set(structures or {}) - set(labels | further)
    if unknown and facts:
        known = [f"{value} ({name})" for value, name in labels.items() if value]
        more = f" and {len(known) - _LABELS_NAMED} more" if len(known) > _LABELS_NAMED else ""
        raise UsageError(
            f"data.labels names {min(unknown)}, which {dataset.name} does not have; it has "
            f"{', '.join(known[:_LABELS_NAMED])}{more}"
        )
    return Inspection(dataset, labels, facts, _once(problems), structures)


def _once(problems: list[Problem]) -> list[Problem]:
    """Say what is the same in many cases once."""
    same = Counter(p.message for p in problems if p.severity == "warning")
    listed: dict[tuple[str, str], Problem] = {}
    for problem in problems:
        count = same[problem.message]
        if count < _SAME_IN_MANY or problem.severity == "error":
            listed[problem.case, problem.message] = problem
        else:
            text = f"{count} cases, such as {problem.case}: {problem.message}"
            listed.setdefault(("", problem.message), Problem(WHOLE_SET, text, "warning"))
    return list(listed.values())


def inspect_case(
    case: Case,
    declared: dict[int, str] | None = None,
    structures: Collection[int] | None = None,
    resample: bool = False,
) -> tuple[CaseFacts | None, list[Problem]]:
    """Read one labelled case; its facts are None where an error speaks against using it.

    Args:
        case: with its label.
        declared: name of each label value that the data set says it has.
        structures: the label values to segment; default all but 0.
        resample: bring channels on other grids onto that of the first.
    """
    problems: list[Problem] = []
    images: dict[str, Volume] = {}
    label = None
    try:
        images = read_channels(case.channels, resample=resample)
        scheme = None if declared is None else LabelScheme(declared)
        label = read_truth(case, scheme) if case.label is not None else None
    except (DataError, GeometryError) as error:
        problems.append(Problem(case.id, str(error)))
    if images and label is not None:
        mask = label
        problems += [Problem(case.id, text) for text in _each(images, lambda image: faults(image, mask, declared))]
        notes = _each(images, lambda image: (*image.notes, *oddities(image)))
        odd = (*notes, *label.notes, *([] if label.array.any() else ["the mask is empty"]))
        problems += [Problem(case.id, text, "warning") for text in odd]
    if not images or label is None or any(problem.severity == "error" for problem in problems):
        return None, problems
    return _facts(case.id, images, label, structures), problems


def _each(images: Mapping[str, Volume], say: Callable[[Volume], Iterable[str]]) -> Iterator[str]:
    """Say something of each channel, by its name where there are several; what is the same of all is said once."""
    texts = {name: list(say(image)) for name, image in images.items()}
    everywhere = [text for text in next(iter(texts.values())) if all(text in said for said in texts.values())]
    yield from everywhere
    yield from (f"{name}: {text}" for name, said in texts.items() for text in said if text not in everywhere)


def _outliers(facts: list[CaseFacts], modality: str | None) -> Iterator[Problem]:
    """Say which cases are unlike the others, as a wrong unit or a wrong scale makes them."""
    typical = np.median([f.spacing_mm for f in facts], axis=0)
    for f in facts:
        ratio = max(max(a / b, b / a) for a, b in zip(f.spacing_mm, typical, strict=True))
        if ratio > _FAR_SPACING:
            spacings = (" x ".join(f"{mm:.4g}" for mm in three) for three in (f.spacing_mm, typical))
            text = "its spacing is {} {unit}, most have about {}; is it right?".format(*spacings, unit=LENGTH[f.unit])
            yield Problem(f.case, text, "warning")
        [*others, channel] = f.channels.values()
        if (modality or "").upper() == "CT" and not others and channel.intensity_min >= 0:
            text = f"declared as CT, but its lowest voxel is {channel.intensity_min:g}, where air has -1000 HU"
            yield Problem(f.case, f"{text}; is an offset or a scale left?", "warning")


def _always_cut(facts: list[CaseFacts], labels: Mapping[int, str]) -> Iterator[Problem]:
    """Say which structures reach the border of every scan: they may go on outside."""
    for value, name in labels.items():
        holding = [f for f in facts if value and f.label_voxels.get(value) and f.unit == "mm"]  # images show a part
        if len(holding) >= _SAME_IN_MANY and all(value in f.at_border for f in holding):
            text = f"'{name}' reaches the border of all {len(holding)} scans that hold it"
            yield Problem(WHOLE_SET, f"{text}: it may be cut there, and its volume too small", "warning")


def _facts(name: str, images: Mapping[str, Volume], label: Volume, structures: Collection[int] | None) -> CaseFacts:
    rng = np.random.default_rng(_SEED)
    voxels = count_labels(label.array)
    inside = label.array != 0 if structures is None else np.isin(label.array, list(structures))
    first = next(iter(images.values()))
    return CaseFacts(
        case=name,
        shape=first.shape,
        spacing_mm=first.spacing_mm,
        orientation=axis_codes(first.affine),
        label_voxels=voxels,
        label_ml={value: count * first.voxel_ml for value, count in voxels.items() if value != 0},
        channels={channel: _channel_facts(image, inside, rng) for channel, image in images.items()},
        at_border=_at_border(label.array),
        unit=first.unit,
        thickness=mean_thickness(np.squeeze(label.array, 2)) if label.shape[2] == 1 else None,
    )


def _channel_facts(image: Volume, inside: npt.NDArray[np.bool_], rng: np.random.Generator) -> ChannelFacts:
    low, middle, high = np.percentile(_draw(image.array.ravel(order="K"), _PERCENTILE_SAMPLES, rng), PERCENTILES)
    return ChannelFacts(
        dtype=image.array.dtype.name,
        intensity_min=float(image.array.min()),
        intensity_max=float(image.array.max()),
        intensity_percentiles=(float(low), float(middle), float(high)),
        zero_fraction=1 - np.count_nonzero(image.array) / image.array.size,
        foreground=_draw(image.array[inside], FOREGROUND_SAMPLES, rng).astype(np.float32),
    )


def _at_border(array: npt.NDArray[Any]) -> tuple[int, ...]:
    faces = [array.take(index, axis) for axis in range(array.ndim) if array.shape[axis] > 1 for index in (0, -1)]
    values = np.unique(np.concatenate([np.unique(face) for face in faces or [array]]))
    return tuple(int(value) for value in values if value)


def _draw(values: npt.NDArray[Any], most: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Draw `most` of the values, with replacement, or take all where there are no more."""
    return values if values.size <= most else values[rng.integers(values.size, size=most)]
