"""The rule file: which series of an arriving study goes to which model, and where the segmentation goes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from fullscale.data.dicom.facts import is_keyword
from fullscale.documents import read_yaml, validated
from fullscale.errors import DataError, UsageError
from fullscale.text import nearest

PACS = "pacs"
"""The destination that stands for the address of --pacs."""
TEXTS = {
    "modality": "Modality",
    "description": "SeriesDescription",
    "study_description": "StudyDescription",
    "body_part": "BodyPartExamined",
    "protocol": "ProtocolName",
    "manufacturer": "Manufacturer",
    "station": "StationName",
}
"""Conditions that compare a text, and the DICOM attribute of each."""
_THICKNESS = "SliceThickness"
Patterns = Annotated[list[str], Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(_Strict):
    """From `min` to `max`, both included; one may be left out."""

    min: float | None = None
    max: float | None = None

    def holds(self, number: float | None) -> bool:
        """Tell whether a number lies in the range; what is not known lies in none."""
        if number is None:
            return False
        return (self.min is None or number >= self.min) and (self.max is None or number <= self.max)


class When(_Strict):
    """What must hold of a series; what is left out may be anything.

    Texts are patterns as in a shell (`*venous*`), compared without regard to case; of several, one must fit.

    Attributes:
        modality: Modality, such as CT.
        description: SeriesDescription.
        study_description: StudyDescription.
        body_part: BodyPartExamined.
        protocol: ProtocolName.
        manufacturer: Manufacturer.
        station: StationName.
        slice_thickness_mm: SliceThickness.
        slices: files of the series.
        tags: any other attribute, by its DICOM keyword.
    """

    modality: Patterns | None = None
    description: Patterns | None = None
    study_description: Patterns | None = None
    body_part: Patterns | None = None
    protocol: Patterns | None = None
    manufacturer: Patterns | None = None
    station: Patterns | None = None
    slice_thickness_mm: Range | None = None
    slices: Range | None = None
    tags: dict[str, Patterns] = Field(default_factory=dict)

    @field_validator(*TEXTS, mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("tags", mode="before")
    @classmethod
    def _tags(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        for name in value:
            if not isinstance(name, str) or not is_keyword(name):
                raise ValueError(f"{name!r} is no keyword of DICOM, such as PatientPosition")
        return {name: [one] if isinstance(one, str) else one for name, one in value.items()}

    def patterns(self) -> dict[str, list[str]]:
        """Return the patterns by DICOM keyword."""
        named = {keyword: getattr(self, name) for name, keyword in TEXTS.items()}
        return {keyword: wanted for keyword, wanted in (named | self.tags).items() if wanted is not None}

    def holds(self, said: Mapping[str, str], slices: int) -> bool:
        """Tell whether a series is meant."""
        if not self.may_hold(said):
            return False
        if self.slices is not None and not self.slices.holds(slices):
            return False
        return self.slice_thickness_mm is None or self.slice_thickness_mm.holds(_number(said.get(_THICKNESS, "")))

    def may_hold(self, said: Mapping[str, str]) -> bool:
        """Tell whether a series may be meant, of which only this is known yet."""
        return all(_fits(said[keyword], wanted) for keyword, wanted in self.patterns().items() if keyword in said)


class Rule(_Strict):
    """What becomes of a series.

    Attributes:
        name: of the rule, for people.
        model: by its name in the service.
        when: what must hold of the series.
        to: where the segmentation goes: `pacs` (the address of --pacs), a DICOMweb URL, `AET@host:port`, or a folder.
        seg_type: binary for every receiver; by default a label map, and binary where the receiver takes no label maps.
        phase: of a series with several phases or echoes, its number or name.
        allow_gaps: fill missing slices by interpolation.
        untilt: resample slices of a tilted gantry.
    """

    name: str = Field(min_length=1)
    model: str
    when: When = When()
    to: list[str] = Field(min_length=1)
    seg_type: Literal["binary"] | None = None
    phase: str | None = None
    allow_gaps: bool = False
    untilt: bool = False

    @field_validator("to", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value


class Receive(_Strict):
    """Who may send by C-STORE.

    Attributes:
        callers: `AET`, or `AET@host` to bind it to an address (`from` in the file); empty for everybody, on loopback
            alone.
    """

    callers: list[str] = Field(default_factory=list, alias="from")


class Look(_Strict):
    """How the PACS of --pacs is looked through for new studies.

    Attributes:
        every_s: seconds between two looks.
        days: how many days back the date of a study may lie; 0 is today.
        filters: further attributes and values of studies, by DICOM keyword, such as `ModalitiesInStudy: CT`.
    """

    every_s: float = Field(60.0, ge=0.2)
    days: int | None = Field(1, ge=0)
    filters: dict[str, str] = Field(default_factory=dict)

    @field_validator("filters")
    @classmethod
    def _keywords(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not is_keyword(name):
                raise ValueError(f"{name!r} is no keyword of DICOM, such as ModalitiesInStudy")
        return value


class Retry(_Strict):
    """How often something is tried that fails for now.

    Attributes:
        times: attempts in all.
        first_s: seconds before the second; each further pause is four times as long, and at most an hour.
    """

    times: int = Field(8, ge=1)
    first_s: float = Field(30.0, ge=0.05)

    def pause_s(self, attempts: int) -> float:
        """Return how long to wait after so many attempts."""
        return float(min(3600.0, self.first_s * 4.0 ** min(attempts - 1, 20)))


class Rules(_Strict):
    """A rule file.

    Attributes:
        rules: each series goes to every rule that it fits.
        settle_s: seconds that nothing more of a series must come before it is taken for whole.
        receive: who may send by C-STORE.
        look: how --pacs is looked through; `look: null` (`off`) leaves that to the PACS, which sends by itself.
        retry: how often is tried what fails for now.
    """

    rules: list[Rule] = Field(min_length=1)
    settle_s: float = Field(30.0, ge=0)
    receive: Receive = Receive()
    look: Look | None = Look()
    retry: Retry = Retry()

    @model_validator(mode="after")
    def _names(self) -> Rules:
        names = [rule.name for rule in self.rules]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"two rules are called {twice[0]!r}")
        return self

    def keywords(self) -> set[str]:
        """Name the attributes that the rules ask for."""
        return {_THICKNESS}.union(*(rule.when.patterns() for rule in self.rules))

    def fitting(self, said: Mapping[str, str], slices: int) -> list[Rule]:
        """Return the rules that a series fits."""
        return [rule for rule in self.rules if rule.when.holds(said, slices)]


def read_rules(path: Path, models: Iterable[str], pacs: str | None) -> Rules:
    """Read a rule file.

    Args:
        path: YAML.
        models: names of those that the service has.
        pacs: the address of --pacs, or None.

    Raises:
        DataError: it cannot be read, or holds what it must not; the first is named.
        UsageError: a rule names a model or a destination that is not there.
    """
    content = read_yaml(path, "rules")
    if not isinstance(content, Mapping):
        raise DataError(f"{path}: holds no rules; expected `rules:` and a list, each with name, model and to")
    rules = validated(Rules, content, str(path))
    known = list(models)
    for rule in rules.rules:
        if rule.model not in known:
            hint = nearest(rule.model, known)
            raise UsageError(f"{path}: rule {rule.name!r}: no model {rule.model!r} is served{hint}")
        if PACS in rule.to and pacs is None:
            raise UsageError(f"{path}: rule {rule.name!r} sends to {PACS!r}: give its address with --pacs")
    return rules


def _fits(text: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(text.casefold(), pattern.casefold()) for pattern in patterns)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
