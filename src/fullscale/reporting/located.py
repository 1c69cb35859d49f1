"""The scans and masks behind scores, which name no path: found again on this machine, or where the user says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fullscale.data.anonymise import anonymised
from fullscale.data.layouts.find import find_dataset
from fullscale.errors import DataError
from fullscale.scoring.summary import CaseScores, Summary


def located(summary: Summary, data: Path | None = None, key: Path | None = None) -> Summary:
    """Return scores whose cases know their scan and truth, as far as these can be found.

    Args:
        summary: as it was read.
        data: the data set; default where this machine remembers it.
        key: of the case names, where the cases have numbers.

    Raises:
        DataError: the data that were given cannot be used.
    """
    root = data or summary.data
    there = all(case.image_file is not None and case.image_file.exists() for case in summary.cases)
    if root is None or (there and data is None) or (summary.anonymous and key is None):
        return summary
    try:
        dataset = find_dataset(root)
    except DataError:
        if data is not None:
            raise
        return summary
    if summary.anonymous and key is not None:
        dataset = anonymised(dataset, key)
    known = {case.id: case for case in (*dataset.cases, *dataset.unlabelled)}

    def with_files(case: CaseScores) -> CaseScores:
        found = known.get(case.case)
        if found is None or found.label is None:
            return case
        ignore = None if found.ignore is None else found.ignore.absolute()
        return replace(
            case,
            image_file=found.first.absolute(),
            reference_file=found.label.absolute(),
            ignore_file=ignore,
            mask_files=tuple(file.absolute() for file in found.masks),
            colours=found.colours,
            structures={name: file.absolute() for name, file in found.structures.items()},
            empty=found.empty,
            by_name=found.by_name,
        )

    return replace(summary, cases=[with_files(case) for case in summary.cases])
