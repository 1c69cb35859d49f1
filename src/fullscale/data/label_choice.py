"""Which structures are segmented: what the settings ask for, and the scheme that follows from it and the data set."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fullscale.data.case import WHOLE_SET, Case, Dataset, Problem
from fullscale.data.faults import unknown_structures
from fullscale.data.labels import BACKGROUND, LabelScheme
from fullscale.errors import UsageError

if TYPE_CHECKING:
    from fullscale.config.schema import DataConfig

_NAMED = 8


@dataclass(frozen=True)
class LabelChoice:
    """What the settings say of labels; each is None where they leave it to the data set.

    Attributes:
        labels: structure of each label value (`data.labels`).
        regions: label values of each structure, where structures overlap (`data.regions`).
        order: value that each region is written as (`data.region_order`).
        ignore: label value of which nothing is known (`data.ignore`).
    """

    labels: Mapping[int, str] | None = None
    regions: Mapping[str, tuple[int, ...]] | None = None
    order: tuple[int, ...] | None = None
    ignore: int | None = None

    @classmethod
    def of(cls, settings: DataConfig) -> LabelChoice:
        """Take what the settings of a run say."""
        return cls(settings.labels, settings.regions, settings.region_order, settings.ignore)

    @property
    def source(self) -> str | None:
        """The setting that chooses the structures; None where the data set does."""
        if self.regions is not None:
            return "data.regions"
        return None if self.labels is None else "data.labels"

    @property
    def asked(self) -> set[int]:
        """Every label value that the settings name."""
        return {*(self.labels or {}), *(value for values in (self.regions or {}).values() for value in values)}

    def scheme(self, dataset: Dataset, labels: Mapping[int, str]) -> LabelScheme:
        """Say what is segmented.

        Args:
            dataset: what it declares counts where the settings say nothing. A value to ignore that `data.labels` names
                background is background.
            labels: name of each value of the data set, as declared or found.

        Raises:
            UsageError: regions, their order and the value to ignore do not fit together.
        """
        regions, order = self.regions, self.order
        if regions is None and self.labels is None:
            regions, order = dataset.regions, self.order or dataset.region_order
        ignore = dataset.ignore if self.ignore is None else self.ignore
        named = dict(labels if self.labels is None else self.labels)
        if ignore is not None and named.get(ignore) == BACKGROUND[0]:
            ignore = None
        return LabelScheme(BACKGROUND | named, dict(regions or {}), tuple(order or ()), ignore)

    def require_in(self, labels: Mapping[int, str], dataset: Dataset) -> None:
        """Refuse values that the data set does not have.

        Args:
            labels: name of each value that it has.
            dataset: whose value to ignore, and those of its regions, may be named too.

        Raises:
            UsageError: the settings name another; it is told, with those that there are.
        """
        unknown = self.asked - {*labels, dataset.ignore, *(v for values in dataset.regions.values() for v in values)}
        if unknown:
            where = "data.labels" if min(unknown) in (self.labels or {}) else "data.regions"
            known = [f"{value} ({name})" for value, name in labels.items() if value]
            more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
            raise UsageError(
                f"{where} names {min(unknown)}, which {dataset.name} does not have; it has "
                f"{', '.join(known[:_NAMED])}{more}"
            )


def declared_values(dataset: Dataset, ignore: int | None) -> dict[int, str] | None:
    """Return the name of each label value that a data set says it has; None if it does not say so.

    The values of regions have no name but their number.

    Args:
        dataset: its values, and the one that it ignores.
        ignore: another one that is ignored.
    """
    atoms = sorted({value for values in dataset.regions.values() for value in values})
    labels = dataset.labels or (BACKGROUND | {value: f"label {value}" for value in atoms} if atoms else None)
    further = {value: "ignore" for value in (dataset.ignore, ignore) if value is not None}
    return None if labels is None else further | labels


def wrong_labels(
    dataset: Dataset, choice: LabelChoice, labels: Mapping[int, str], held: Mapping[str, Collection[int]]
) -> list[Problem]:
    """Say what contradicts what is said to be labelled in each case, and which structures no case is labelled for.

    Args:
        dataset: whose cases are meant.
        choice: what the settings say.
        labels: name of each value of the data set, as declared or found.
        held: label values that the mask of each case holds, as far as it was read.
    """
    scheme = choice.scheme(dataset, labels)
    problems = list(unknown_structures(dataset, () if choice.source is None else scheme.structures.values()))
    strange = {problem.case for problem in problems}
    cases = [case for case in dataset.cases if case.id not in strange]
    problems += _nothing_drawn(cases, scheme)
    for case in cases:
        problems += _contradictions(case, held.get(case.id, ()), scheme)
    return problems + _never_labelled(cases, dataset, scheme)


def _nothing_drawn(cases: Collection[Case], scheme: LabelScheme) -> list[Problem]:
    """Say which cases are labelled for none of the structures."""
    text = (
        f"none of {', '.join(scheme.structures.values())} is labelled in it: nothing is known of it; leave it out, or"
    )
    return [
        Problem(case.id, f"{text} correct what is said to be labelled")
        for case in cases
        if scheme.structures and len(scheme.unknown(case.labelled)) == len(scheme.structures)
    ]


def _contradictions(case: Case, values: Collection[int], scheme: LabelScheme) -> list[Problem]:
    """Say which structures the mask of a case holds although they are said not to be labelled in it.

    Args:
        case: whose mask it is.
        values: label values that the mask holds.
        scheme: what is segmented.
    """
    unknown = {list(scheme.structures)[k] for k in scheme.unknown(case.labelled)}
    known = {value for written, members in scheme.members.items() if written not in unknown for value in members}
    problems = []
    for written in sorted(unknown):
        held = sorted((set(values) & set(scheme.members[written])) - known)
        if held:
            text = f"its mask holds {scheme.structures[written]!r} (label {held[0]}), which is said not to be labelled"
            problems.append(Problem(case.id, f"{text} in it: name it among what is labelled, or take it out"))
    return problems


def _never_labelled(cases: Collection[Case], dataset: Dataset, scheme: LabelScheme) -> list[Problem]:
    """Say which structures are labelled in no case at all."""
    unknown = [scheme.unknown(case.labelled) for case in cases]
    return [
        Problem(WHOLE_SET, f"no case of {dataset.name} is labelled for {name!r}: leave it out with data.labels")
        for k, name in enumerate(scheme.structures.values())
        if unknown and all(k in of_case for of_case in unknown)
    ]
