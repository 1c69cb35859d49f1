"""Predictions paired with the truth, case by case: by their names, whatever layouts add to these."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fullscale.data.case import Case
from fullscale.data.discover import LabelMaps, find_label_maps, label_maps_of
from fullscale.data.identity import files_of
from fullscale.data.image_files import is_picture
from fullscale.data.layouts.find import find_dataset
from fullscale.data.layouts.images import table_for
from fullscale.data.mask_images import Colours
from fullscale.data.read import label_name
from fullscale.data.volume_files import volume_suffix
from fullscale.errors import DataError
from fullscale.files import safe_name
from fullscale.scoring.summary import Failure


@dataclass(frozen=True)
class Pair:
    """A prediction and its truth.

    Attributes:
        prediction: a label map.
        reference: the true one.
        image: the scan, where it is known.
        case: all that is known of the truth, where it is of a case.
        colours: label value of each colour of a truth that is an image, where it was given.
    """

    prediction: Path
    reference: Path
    image: Path | None
    case: Case | None = None
    colours: Colours | None = None

    def grid_of(self, mask: Path) -> Path:
        """Where a mask that stores a few slices only lies: on the scan, or on the other mask."""
        other = self.reference if mask == self.prediction else self.prediction
        beside = is_picture(other) and mask == self.prediction  # pixels are as large as those of the truth
        return self.image or (other if beside or (volume_suffix(other) and not is_picture(other)) else mask)

    @property
    def table(self) -> Colours | None:
        """What the colours of the truth stand for: what is given, else what its data set or a file beside it says."""
        return table_for(self.reference, self.colours or (None if self.case is None else self.case.colours))

    @property
    def content(self) -> list[Path]:
        """Every file that decides the scores; of the scan only the place counts, which its masks have too."""
        truth = [self.reference] if self.case is None else [*self.case.truth, self.case.ignore]
        return files_of(source for source in (self.prediction, *truth) if source is not None)

    @property
    def said(self) -> str:
        """What of the truth stands in no file of it."""
        case = self.case
        of_case = [] if case is None else [case.labelled, case.empty, case.by_name]
        return json.dumps([*of_case, self.table])


def find_pairs(
    predictions: Path, references: str | Path | Mapping[str, Case], colours: Colours | None = None
) -> tuple[dict[str, Pair], list[Failure], LabelMaps]:
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
        case: Pair(given.files[name], truth.files[case], truth.images.get(case), truth.cases.get(case), colours)
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
