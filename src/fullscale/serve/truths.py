"""What masks are scored against: the truth of the data set, or else the newest mask that a person finished."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fullscale.data.case import Case
from fullscale.data.faults import unknown_structures
from fullscale.data.read import read_label
from fullscale.data.truth import Truth, truth_of
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume, require_same_grid
from fullscale.metrics.overlap import Scores
from fullscale.scoring.evaluate import score_arrays
from fullscale.serve.annotations import FINAL
from fullscale.serve.casebook import CaseBook
from fullscale.serve.service import NotServed
from fullscale.serve.settings import ServedModel

DATA_SET = "data set"


@dataclass(frozen=True)
class KnownTruth:
    """The truth of a case, and where it is from.

    Attributes:
        truth: in the values of the model that it is read for.
        source: `data set`, or which saved mask it is.
    """

    truth: Truth
    source: str


def find_truth(book: CaseBook, name: str, model: ServedModel, but: int | None = None) -> KnownTruth:
    """Find the truth of a case, in the values of a model.

    Args:
        book: the cases.
        name: of the case.
        model: whose values it shall have.
        but: version of a finished mask that is not meant: that which is to be scored.

    Raises:
        NotServed: there is none.
        DataError: it cannot be read, or names other structures than the model.
    """
    case = _labelled_case(book, name)
    if case is not None:
        return KnownTruth(_of_data_set(book, case, model), DATA_SET)
    scan, _ = book.case(name)
    newest = next((one for one in book.annotations.all_of(name) if one.tag == FINAL and one.version != but), None)
    if newest is None:
        raise NotServed(f"the case {name!r} has no truth: neither in the data set nor a finished mask saved here")
    names = {value: structure for structure, value in newest.about["label_names"].items()}
    if names != dict(model.card.structures):
        raise DataError(f"version {newest.version} was saved with other structures than those of {model.name}")
    return KnownTruth(Truth(read_label(newest.mask, scan.source), None), f"saved mask, version {newest.version}")


def _labelled_case(book: CaseBook, name: str) -> Case | None:
    cases = [] if book.dataset is None else book.dataset.cases
    return next((case for case in cases if case.id == name), None)


def _of_data_set(book: CaseBook, case: Case, model: ServedModel) -> Truth:
    dataset, structures = book.dataset, model.card.structures
    assert dataset is not None
    for problem in unknown_structures(dataset, structures.values()):
        raise DataError(f"{problem.case} {problem.message}")
    declared = {} if dataset.named_by_files else dataset.labels or {}
    for value, structure in structures.items():
        if structure in declared.values() and declared.get(value) not in (structure, None):
            raise DataError(f"the value {value} is {structure} in the model and {declared[value]} in the data set")
    return truth_of(case, model.card.scheme.ignoring(dataset.ignore))


def score_mask(mask: Volume, known: KnownTruth, model: ServedModel) -> dict[str, Scores]:
    """Score a mask, by the names of its structures; one that was not drawn in the truth has no scores.

    Raises:
        GeometryError: mask and truth lie on different grids.
    """
    truth = known.truth
    require_same_grid(truth.labels, mask, "truth and mask")
    scheme = model.card.scheme
    labels = [value for value in scheme.structures if value not in truth.unknown]
    axes, members = truth.labels.affine[:3, :3], scheme.members if scheme.regions else None
    further: dict[str, Any] = {"members": members, "ignored": truth.ignored, "unit": truth.labels.unit}
    scores = score_arrays(mask.array, truth.labels.array, axes, labels, **further)
    return {scheme.structures[value]: scores[value] for value in labels}
