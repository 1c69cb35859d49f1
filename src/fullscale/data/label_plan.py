"""What a plan says of labels: structures, regions, the value to ignore, each with the reason beside it."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from fullscale.data.checks import Inspection
from fullscale.data.label_choice import LabelChoice
from fullscale.errors import DataError

T = TypeVar("T")


class Choice(BaseModel, Generic[T]):
    """A value and why it was chosen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    value: T
    reason: str


NO_REGIONS: Choice[dict[str, tuple[int, ...]]] = Choice(value={}, reason="structures do not overlap")
NO_ORDER: Choice[tuple[int, ...]] = Choice(value=(), reason="structures do not overlap")


def plan_labels(inspection: Inspection) -> dict[str, Choice[Any]]:
    """Choose the labels, regions and value to ignore, as they are set, declared or found.

    Raises:
        DataError: no mask holds a structure.
        UsageError: what is set contradicts itself.
    """
    labels, choice, scheme = {0: "background"} | inspection.labels, inspection.choice, inspection.scheme
    if len(labels) < 2 or not any(f.holds_structure for f in inspection.facts.values()):
        sought = "a label other than 0" if choice.source is None else f"a label that {choice.source} names"
        raise DataError(f"no mask of {inspection.dataset.name} holds {sought}: there is nothing to learn")
    source = "declared by the data set" if inspection.dataset.labels else "found in the masks; give them names here"
    made: dict[str, Choice[Any]] = {"labels": Choice(value=dict(sorted(labels.items())), reason=source)}
    if choice.labels is not None:
        made["labels"] = _chosen(dict(choice.labels))
    declared = "declared by the data set"
    further: dict[str, Choice[Any]] = {}
    if scheme.regions:
        why = declared if choice.regions is None else "set by data.regions"
        further["regions"] = Choice(value=dict(scheme.regions), reason=why)
        own = "a value of each region's own"
        said = choice.order or (choice.regions is None and inspection.dataset.region_order)
        further["region_order"] = Choice(value=scheme.order, reason="as it was declared or set" if said else own)
    if scheme.ignore is not None:
        why = declared if choice.ignore is None else "set by data.ignore"
        further["ignore"] = Choice(value=scheme.ignore, reason=why)
    elif beside := sum(case.ignore is not None for case in inspection.dataset.cases):
        why = f"no label value is; a mask beside the image says it in {beside} of {len(inspection.dataset.cases)} cases"
        further["ignore"] = Choice(value=None, reason=why)
    return made | further


def _set(value: Any, setting: str) -> Choice[Any]:
    return Choice(value=value, reason=f"set by data.{setting}")


def _chosen(structures: dict[int, str]) -> Choice[dict[int, str]]:
    return Choice(value={0: "background"} | dict(sorted(structures.items())), reason="set by data.labels")


def changed_labels(choice: LabelChoice) -> dict[str, Choice[Any]]:
    """Say what the settings change in a plan; what they leave open is not among it."""
    changes: dict[str, Choice[Any]] = {}
    if choice.labels is not None:
        changes |= {"labels": _chosen(dict(choice.labels)), "regions": NO_REGIONS, "region_order": NO_ORDER}
    if choice.regions is not None:
        changes |= {"regions": _set(dict(choice.regions), "regions"), "region_order": _set((), "regions")}
    if choice.order is not None:
        changes["region_order"] = _set(choice.order, "region_order")
    if choice.ignore is not None:
        changes["ignore"] = _set(choice.ignore, "ignore")
    return changes
