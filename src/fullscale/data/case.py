"""What a data set is made of: cases, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from fullscale.errors import UsageError
from fullscale.text import nearest

WHOLE_SET = "data set"
"""Stands for the case in a problem that concerns the data set as a whole."""
ONE_CHANNEL = "image"
"""Name of the only channel of a case."""
LEFT_OUT = "left out of training"
"""Ends a warning of a layout that a case has no label."""


@dataclass(frozen=True)
class Case:
    """One scan and, where there is one, its label map.

    Attributes:
        id: unique name within the data set.
        channels: file of each channel by name, such as T1 and T2 on one grid; one order for the whole data set. A
            file is a volume file or a DICOM study. Where all are one file, it holds them along its fourth axis.
        label: a volume file, an image, a DICOM SEG, a folder of PNG masks or of one file a structure, or None. Where
            `empty` or `structures` say what is drawn, it is the scan, or the first file of a structure.
        group: the patient; cases of one group never stand on both sides of a split.
        ignore: a mask on the scan's grid, such as a field of view, in whose 0 voxels nothing is known; or None.
        labelled: names of the structures that were drawn in this case, all others being unknown in it; None is all.
        masks: further images that hold parts of the label map; see `read_truth`.
        colours: of a label map that is an image, the value of each colour, `#ff0000`, or grey value, `255`; None where
            grey values are label values.
        structures: file of each structure that a list names one by one; else empty.
        empty: whether the data set says that nothing is drawn in this case, so that it has no mask.
        by_name: whether the segments of its label are told by their names, as their numbers differ from case to case.
        subgroups: what the case is by each column that a list tells groups by, such as `{"scanner": "A"}`.
    """

    id: str
    channels: dict[str, Path]
    label: Path | None
    group: str
    ignore: Path | None = None
    labelled: tuple[str, ...] | None = None
    masks: tuple[Path, ...] = ()
    colours: Mapping[str, int] | None = None
    structures: Mapping[str, Path] = field(default_factory=dict)
    empty: bool = False
    by_name: bool = False
    subgroups: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_image(cls, id: str, image: Path, label: Path | None = None, group: str | None = None) -> Case:
        """Make a case of one channel; its patient is itself where no other is named."""
        return cls(id, {ONE_CHANNEL: image}, label, id if group is None else group)

    @property
    def first(self) -> Path:
        """The file of the first channel, whose grid all others share."""
        return next(iter(self.channels.values()))

    @property
    def files(self) -> list[Path]:
        """Every file of the case, or folder of files."""
        return [file for file in (*self.channels.values(), *self.truth, self.ignore) if file is not None]

    @property
    def truth(self) -> list[Path]:
        """Every file, or folder of files, that says what is drawn; none where nothing is."""
        if self.label is None or self.empty:
            return []
        return [*(self.structures.values() or [self.label]), *self.masks]

    def without(self, structures: Collection[str]) -> Case:
        """Leave structures out of those that are said to be drawn in the case."""
        if self.labelled is None:
            return self
        return replace(self, labelled=tuple(name for name in self.labelled if name not in structures))

    def with_nothing_drawn(self) -> Case:
        """Say that the case has no mask because there is nothing in it to draw."""
        return replace(self, label=self.first, empty=True)


@dataclass(frozen=True)
class Problem:
    """Something wrong with one case, or with the data set (`case` is then `WHOLE_SET`).

    Attributes:
        case: name of the case.
        message: one line.
        severity: "error" where the case cannot be used, else "warning".
    """

    case: str
    message: str
    severity: Literal["error", "warning"] = "error"


@dataclass(frozen=True)
class Dataset:
    """What was found in a folder or list.

    Attributes:
        root: the path that was looked at.
        layout: such as "Medical Segmentation Decathlon".
        name: of the data set.
        modality: such as "CT" or "MRI", or None where nothing says it.
        labels: name of each declared label, background 0 included, or None where none are declared.
        cases: those with a label map, by name.
        unlabelled: those without, by name.
        problems: what was passed over, and why.
        regions: label values that make up each structure where structures overlap (nnU-Net); else empty.
        region_order: value that each region is written as (nnU-Net's `regions_class_order`); empty where none is said.
        ignore: label value of voxels of which nothing is known (nnU-Net), or None.
        channels: names of the channels of each case, in their order.
        labelled: names of the structures that were drawn in each case of which the data set says it.
        colours: name of the structure of each colour of a mask, where a table says so; else empty.
        empty: names of the cases that have no mask because nothing is drawn in them, where the data set says it.
        resample_channels: whether channels on other grids are brought onto that of the first, or refused.
        named_by_files: whether labels are one file a structure, or segments without common numbers: names tell them
            apart, and values are chosen freely.
        licence: under which the data may be used, in the words of the data set, or None where it says nothing.
    """

    root: Path
    layout: str
    name: str
    modality: str | None
    labels: dict[int, str] | None
    cases: list[Case] = field(default_factory=list)
    unlabelled: list[Case] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    region_order: tuple[int, ...] = ()
    ignore: int | None = None
    channels: tuple[str, ...] = (ONE_CHANNEL,)
    labelled: dict[str, tuple[str, ...]] = field(default_factory=dict)
    colours: dict[str, str] = field(default_factory=dict)
    empty: tuple[str, ...] = ()
    resample_channels: bool = False
    named_by_files: bool = False
    licence: str | None = None

    def with_chosen(
        self, labels: Mapping[int, str] | None, regions: Mapping[str, tuple[int, ...]] | None = None
    ) -> Dataset:
        """Give the structures of `named_by_files` the values that are chosen; any other data set stays as it is.

        Raises:
            UsageError: a name is that of no structure, or is given twice.
        """
        if not self.named_by_files or self.labels is None or (labels is None and regions is None):
            return self
        setting = "data.labels" if regions is None else "data.regions"
        names = list(regions or [name for name in (labels or {}).values() if name != self.labels[0]])
        for name in names:
            if name not in self.labels.values():
                others = [known for value, known in self.labels.items() if value]
                raise UsageError(f"{setting} names '{name}', of which {self.name} has no file{nearest(name, others)}")
            if names.count(name) > 1:
                raise UsageError(f"{setting} names '{name}' twice, but its labels are one file a structure")
        left_out = set(self.labels.values()) - set(names)
        cases = [case.without(left_out) for case in self.cases]
        if regions is not None:
            return replace(self, cases=cases, labels=None, regions=dict(regions))
        return replace(self, cases=cases, labels={0: self.labels[0], **(labels or {})})

    def add(self, case: Case) -> None:
        """Take in a case, among the labelled ones if it has a label."""
        if case.id in self.labelled and case.labelled is None:
            case = replace(case, labelled=self.labelled[case.id])
        if case.id in self.empty and case.label is None:
            case = case.with_nothing_drawn()
        (self.unlabelled if case.label is None else self.cases).append(case)
