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
from fullscale.data.faults import absent_labels, count_labels, faults, oddities
from fullscale.data.identity import voxel_digest
from fullscale.data.image_plan import mean_thickness
from fullscale.data.label_choice import LabelChoice, declared_values, wrong_labels
from fullscale.data.labels import LabelScheme
from fullscale.data.lie import Place, brightest_place, label_places, values_at_border
from fullscale.data.outliers import SAME_IN_MANY, always_cut, outliers
from fullscale.data.read import read_channels, read_label, read_truth
from fullscale.data.recipe import padding_value
from fullscale.data.subgroups import subgroups_of
from fullscale.data.truth import ignored_voxels
from fullscale.errors import DataError, GeometryError
from fullscale.geometry.orientation import axis_codes
from fullscale.geometry.units import Unit
from fullscale.geometry.volume import Volume
from fullscale.progress import Progress, ignore
from fullscale.text import counted, without_folders
from fullscale.work.cluster import Workers
from fullscale.work.executor import choose_workers, make_executor, map_cases

FOREGROUND_SAMPLES = 10_000
"""Voxels inside labels that stand for one case, at most."""
PERCENTILES = (0.5, 50.0, 99.5)

_PERCENTILE_SAMPLES = 1_000_000
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
        padding_fraction: part of the voxels that have the value of all corners; 0 where corners differ.
        foreground: intensities `[N]` float32 of up to 10,000 voxels inside the structures, drawn with a fixed seed and
            alike from every case, so that they can be pooled. Empty where the mask holds none.
        content: digest of the voxels, whatever file holds them.
    """

    dtype: str
    intensity_min: float
    intensity_max: float
    intensity_percentiles: tuple[float, float, float]
    zero_fraction: float
    padding_fraction: float
    foreground: npt.NDArray[np.float32] = field(compare=False, repr=False)
    content: str = field(default="", repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the facts for JSON, the foreground as its statistics (None where the mask is empty)."""
        plain = {name: value for name, value in vars(self).items() if name not in ("foreground", "content")}
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
        ignored_voxels: voxels of which nothing is known; none of the above counts them, but for the intensities of a
            channel as a whole.
        brightest, label_places: where the brightest voxels of the first channel lie, and each label value.
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
    ignored_voxels: int = 0
    brightest: Place | None = None
    label_places: dict[int, Place] = field(default_factory=dict)

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
        choice: what the settings say of labels.
    """

    dataset: Dataset
    labels: dict[int, str]
    facts: dict[str, CaseFacts]
    problems: list[Problem]
    choice: LabelChoice = field(default_factory=LabelChoice)

    @property
    def scheme(self) -> LabelScheme:
        """What is segmented.

        Raises:
            UsageError: regions, their order and the value to ignore do not fit together.
        """
        return self.choice.scheme(self.dataset, self.labels)

    @property
    def usable_cases(self) -> list[Case]:
        """The labelled cases that no error speaks against."""
        return [case for case in self.dataset.cases if case.id in self.facts]

    @property
    def names(self) -> dict[int, str]:
        """Name of each label value, background included: as it was chosen, else as `labels` has it."""
        return self.labels | dict(self.choice.labels or {})

    @property
    def remarks(self) -> list[str]:
        """What is odd about the data set as a whole, and what of it is not used, a line each."""
        lines = [p.message for p in self.problems if p.case == WHOLE_SET and p.severity == "warning"]
        bare = [case.id for case in self.dataset.unlabelled]
        return lines + ([f"not used: {counted(len(bare), 'case')} without labels, such as {bare[0]}"] if bare else [])

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
        """Return what results keep: `as_dict` without where files lie or, if `anonymous`, how they are called."""
        by_id = {case.id: case for case in (*self.dataset.cases, *self.dataset.unlabelled)}
        kept = self.as_dict()
        del kept["root"]
        for problem in (problems := [dict(one) for one in kept["problems"]]):
            text = without_folders(problem["message"].replace(f"{self.dataset.root}/", ""))
            named = by_id.get(problem["case"], Case.of_image("", self.dataset.root))
            problem["message"] = without_files(problem["message"], named) if anonymous else text
        subgroups = {case.id: said for case in self.usable_cases if (said := subgroups_of(case))}
        return kept | {"problems": problems, "licence": self.dataset.licence, "subgroups": subgroups}


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
    dataset: Dataset, progress: Progress = ignore, jobs: Workers = 1, choice: LabelChoice | None = None
) -> Inspection:
    """Read every labelled case once, and collect its facts and problems.

    Args:
        dataset: what `find_dataset` found.
        progress: told after each case.
        jobs: processes that share the cases; None as the machine allows.
        choice: what the settings say of labels; default all that the data set has.

    Returns:
        Facts of the cases that can be used, problems of all.

    Raises:
        UsageError: the data do not have one of the structures, or the settings contradict each other.
    """
    choice = choice or LabelChoice()
    facts: dict[str, CaseFacts] = {}
    dataset = dataset.with_chosen(choice.labels, choice.regions)
    problems = list(dataset.problems)
    sought = choice.scheme(dataset, dataset.labels or {})
    every = choice.source is None and not sought.regions
    chosen = None if every else sorted({value for values in sought.members.values() for value in values})
    declared = declared_values(dataset, sought.ignore)
    work = partial(
        inspect_case,
        declared=declared,
        structures=chosen,
        ignore=sought.ignore,
        resample=dataset.resample_channels,
        regions=sought if sought.regions else None,
    )
    with make_executor(choose_workers(jobs, len(dataset.cases))) as executor:
        for outcome in map_cases(executor, work, dataset.cases, progress, attrgetter("id")):
            failure, case = outcome.failure(), outcome.item.id
            found, case_problems = (None, [Problem(case, failure)]) if failure is not None else outcome.result()
            problems += case_problems
            if found is not None:
                facts[case] = found
    present = {value for case_facts in facts.values() for value in case_facts.label_voxels}
    labels = dataset.labels or {0: "background", **{v: f"label {v}" for v in sorted(present - {0})}}
    if facts:
        choice.require_in(labels, dataset)
        wrong = wrong_labels(dataset, choice, labels, {case: held.label_voxels for case, held in facts.items()})
        facts = {case: held for case, held in facts.items() if case not in {problem.case for problem in wrong}}
        problems += wrong
    if facts:
        problems += absent_labels(labels, present)
        problems += outliers(list(facts.values()), dataset.modality)
        problems += always_cut(list(facts.values()), labels)
    return Inspection(dataset, labels, facts, _once(problems), choice)


def _once(problems: list[Problem]) -> list[Problem]:
    """Say what is the same in many cases once."""
    same = Counter(p.message for p in problems if p.severity == "warning")
    listed: dict[tuple[str, str], Problem] = {}
    for problem in problems:
        count = same[problem.message]
        if count < SAME_IN_MANY or problem.severity == "error":
            listed[problem.case, problem.message] = problem
        else:
            text = f"{count} cases, such as {problem.case}: {problem.message}"
            listed.setdefault(("", problem.message), Problem(WHOLE_SET, text, "warning"))
    return list(listed.values())


def inspect_case(
    case: Case,
    declared: dict[int, str] | None = None,
    structures: Collection[int] | None = None,
    ignore: int | None = None,
    resample: bool = False,
    regions: LabelScheme | None = None,
) -> tuple[CaseFacts | None, list[Problem]]:
    """Read one labelled case; its facts are None where an error speaks against using it.

    Args:
        case: with its label.
        declared: name of each label value that the data set says it has.
        structures: the label values to segment; default all but 0.
        ignore: the label value of which nothing is known.
        resample: bring channels on other grids onto that of the first.
        regions: what values stand for where structures may overlap.
    """
    problems: list[Problem] = []
    images: dict[str, Volume] = {}
    label = ignored = None
    try:
        images = read_channels(case.channels, resample=resample)
        scheme = regions if regions is not None or declared is None else LabelScheme(declared)
        label = read_truth(case, scheme) if case.label is not None else None
        view = read_label(case.ignore, case.first) if case.ignore is not None else None
        ignored = None if label is None else ignored_voxels(label, view, ignore)
    except (DataError, GeometryError) as error:
        problems.append(Problem(case.id, str(error)))
    if images and label is not None:
        mask = label
        problems += [Problem(case.id, text) for text in _each(images, lambda image: faults(image, mask, declared))]
        notes = _each(images, lambda image: (*image.notes, *oddities(image)))
        odd = (*notes, *label.notes, *([] if label.array.any() or case.empty else ["the mask is empty"]))
        problems += [Problem(case.id, text, "warning") for text in odd]
    if not images or label is None or any(problem.severity == "error" for problem in problems):
        return None, problems
    return _facts(case.id, images, label, structures, ignored), problems


def _each(images: Mapping[str, Volume], say: Callable[[Volume], Iterable[str]]) -> Iterator[str]:
    """Say something of each channel, by its name where there are several; what is the same of all is said once."""
    texts = {name: list(say(image)) for name, image in images.items()}
    everywhere = [text for text in next(iter(texts.values())) if all(text in said for said in texts.values())]
    yield from everywhere
    yield from (f"{name}: {text}" for name, said in texts.items() for text in said if text not in everywhere)


def _facts(
    name: str,
    images: Mapping[str, Volume],
    label: Volume,
    structures: Collection[int] | None,
    ignored: npt.NDArray[np.bool_] | None,
) -> CaseFacts:
    rng = np.random.default_rng(_SEED)
    voxels = count_labels(label.array if ignored is None else label.array[~ignored])
    known = label.array if ignored is None else np.where(ignored, 0, label.array)
    inside = known != 0 if structures is None else np.isin(known, list(structures))
    first = next(iter(images.values()))
    return CaseFacts(
        case=name,
        shape=first.shape,
        spacing_mm=first.spacing_mm,
        orientation=axis_codes(first.affine),
        label_voxels=voxels,
        label_ml={value: count * first.voxel_ml for value, count in voxels.items() if value != 0},
        channels={channel: _channel_facts(image, inside, rng) for channel, image in images.items()},
        at_border=values_at_border(known),
        unit=first.unit,
        thickness=mean_thickness(np.squeeze(known, 2)) if label.shape[2] == 1 else None,
        ignored_voxels=0 if ignored is None else int(ignored.sum()),
        brightest=brightest_place(first),
        label_places=label_places(known, label.affine),
    )


def _channel_facts(image: Volume, inside: npt.NDArray[np.bool_], rng: np.random.Generator) -> ChannelFacts:
    padding = padding_value(image.array)
    low, middle, high = np.percentile(_draw(image.array.ravel(order="K"), _PERCENTILE_SAMPLES, rng), PERCENTILES)
    return ChannelFacts(
        dtype=image.array.dtype.name,
        intensity_min=float(image.array.min()),
        intensity_max=float(image.array.max()),
        intensity_percentiles=(float(low), float(middle), float(high)),
        zero_fraction=1 - np.count_nonzero(image.array) / image.array.size,
        padding_fraction=0.0 if padding is None else float(np.mean(image.array == padding)),
        foreground=_draw(image.array[inside], FOREGROUND_SAMPLES, rng).astype(np.float32),
        content=voxel_digest(image.array),
    )


def _draw(values: npt.NDArray[Any], most: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Draw `most` of the values, with replacement, or take all where there are no more."""
    return values if values.size <= most else values[rng.integers(values.size, size=most)]
