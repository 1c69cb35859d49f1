"""What a summary.json must hold to be read back; the means and intervals in it are computed anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, StrictFloat, StrictInt

from fullscale.errors import DataError
from fullscale.geometry.units import Unit
from fullscale.metrics.presence import CONFUSION
from fullscale.metrics.slices import SLICES

Label = Annotated[int, Field(ge=1)]
Number = StrictInt | StrictFloat | None
Numbers = dict[str, Number]

_GATED = ("Dice", "FP", "FN", *SLICES)


class FailureRecord(BaseModel):
    """A case without scores."""

    case: str
    message: str


class ModelRecord(BaseModel):
    """The model whose masks were scored."""

    name: str
    digest: str
    trained_on: list[str] = []


class CaseRecord(BaseModel):
    """The scores of a case, for each label."""

    case: str
    metrics: dict[Label, Numbers]
    prediction_file: Path
    reference_file: Path
    image_file: Path | None = None
    resampled: bool = False
    unknown: tuple[Label, ...] = ()
    ignored_voxels: int = 0
    ignore_file: Path | None = None
    mask_files: tuple[Path, ...] = ()
    colours: dict[str, int] | None = None
    structures: dict[str, Path] = {}
    empty: bool = False
    by_name: bool = False


class GuidedRecord(BaseModel):
    """What the gate changed in a case, for each label."""

    case: str
    metrics: dict[Label, dict[str, Numbers]]


class GuidanceRecord(BaseModel):
    """What the gate changed; what is added up over the cases is not read."""

    cases: list[GuidedRecord] = []


class SummaryRecord(BaseModel):
    """A summary.json; keys that are not named here are not read."""

    labels: dict[Label, str]
    tolerance_mm: dict[Label, Annotated[float, Field(ge=0)]]
    metric_per_case: list[CaseRecord]
    failures: list[FailureRecord]
    guidance: GuidanceRecord = GuidanceRecord()
    model: ModelRecord | None = None
    postprocess: dict[str, Any] | None = None
    data: str | None = None
    masks: str | None = None
    anonymous: bool = False
    regions: dict[str, tuple[Label, ...]] = {}
    ignore: Label | None = None
    unit: Unit = "mm"

    def require_whole(self, metrics: Sequence[str], source: str) -> None:
        """Refuse a case that lacks a label or a number.

        Args:
            metrics: names of the scores of a case and label.
            source: where the record is from, for the message.

        Raises:
            DataError: one does; it is named.
        """
        for case, label, numbers, expected in self._parts(metrics):
            lacking = sorted(set(expected) - numbers.keys()) if numbers is not None else ["its scores"]
            if lacking:
                raise DataError(f"{source}: case {case} lacks {', '.join(lacking)} of label {label}")

    def _parts(self, metrics: Sequence[str]) -> Iterator[tuple[str, int, Numbers | None, Sequence[str]]]:
        for label in self.labels:
            for case in self.metric_per_case:
                yield case.case, label, case.metrics.get(label), (*metrics, *SLICES)
            for guided in self.guidance.cases:
                found = guided.metrics.get(label, {})
                for part, expected in (("gated", _GATED), ("ungated", _GATED), ("presence", CONFUSION)):
                    yield guided.case, label, found.get(part), expected


class PairedRecord(BaseModel):
    """The comparison of one class."""

    cases: int
    mean: float
    other_mean: float
    difference: float
    interval: tuple[float, float] | None
    p_value: float
    effect_size: float
    smallest_difference: float | None
    adjusted_p: float | None = None
    verdict: str


class AgainstRecord(BaseModel):
    """What `evaluate --against` added to a summary.json."""

    classes: dict[Label, PairedRecord]
    mean: PairedRecord | None = None
    alone: list[str] = []
    file: str = "other masks"
