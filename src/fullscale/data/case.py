"""What a data set is made of: cases, and what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

WHOLE_SET = "data set"
"""Stands for the case in a problem that concerns the data set as a whole."""


@dataclass(frozen=True)
class Case:
    """One scan and, where there is one, its label map.

    Attributes:
        id: unique name within the data set.
        image: a volume file or a folder of DICOM slices.
        label: a volume file, a DICOM SEG or a folder of PNG masks, or None.
        group: the patient; cases of one group never stand on both sides of a split.
    """

    id: str
    image: Path
    label: Path | None
    group: str


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
    """

    root: Path
    layout: str
    name: str
    modality: str | None
    labels: dict[int, str] | None
    cases: list[Case] = field(default_factory=list)
    unlabelled: list[Case] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
