"""Names of structures that label files carry themselves: files called after them, segments of DICOM and 3D Slicer."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from fullscale.data.case import WHOLE_SET, Case, Dataset, Problem
from fullscale.data.dicom.headers import is_seg, segment_names
from fullscale.data.labels import BACKGROUND
from fullscale.data.slicer import slicer_segments
from fullscale.data.structure_files import structures_of
from fullscale.errors import DataError
from fullscale.text import counted


def with_structure_names(dataset: Dataset) -> Dataset:
    """Name the labels of a data set after what its label files say, where nothing else names them.

    Of one file a structure, a case that lacks the file of a structure is not labelled for it. Segments whose numbers
    differ from case to case are told by their names.

    Raises:
        DataError: one number is another structure from file to file, or files of one structure stand beside label maps
            whose values have no names.
    """
    files = {case.id: structures_of(case) for case in dataset.cases if not case.empty}
    if any(files.values()):
        return _with_files(dataset, files)
    if dataset.labels is None and not dataset.regions:
        return _with_segments(dataset)
    return dataset


def _with_files(dataset: Dataset, files: dict[str, dict[str, Path]]) -> Dataset:
    found = sorted(set().union(*files.values()))
    declared = [*(dataset.labels or {}).values(), *dataset.regions]
    mixed = [case for case, of_case in files.items() if not of_case]
    if mixed and not declared:
        raise DataError(
            f"{dataset.root}: case {mixed[0]} has a label map, others have one file a structure; say which label value "
            "is which structure in a dataset.json"
        )
    unused = [name for name in found if declared and name not in declared]
    if unused:
        text = f"files of {counted(len(unused), 'structure')} that dataset.json does not name are not used, such as "
        dataset.problems.append(Problem(WHOLE_SET, f"{text}'{unused[0]}'", "warning"))
    labels = dataset.labels if declared else BACKGROUND | dict(enumerate(found, start=1))
    names = [name for name in found if name not in unused]
    cases = [_with_labelled(case, names, files.get(case.id, {})) for case in dataset.cases]
    lacking = [after for before, after in zip(dataset.cases, cases, strict=True) if after is not before]
    if lacking:
        name = next(name for name in names if name not in files[lacking[0].id])
        text = f"in {counted(len(lacking), 'case')} structures are not labelled, as they have no file, such as "
        dataset.problems.append(Problem(WHOLE_SET, f"{text}'{name}' in {lacking[0].id}", "warning"))
    return replace(dataset, labels=labels, cases=cases, named_by_files=True)


def _with_labelled(case: Case, names: list[str], files: dict[str, Path]) -> Case:
    """Say which structures were drawn in a case, where it lacks the file of one."""
    if not files or case.labelled is not None or files.keys() >= set(names):
        return case
    return replace(case, labelled=tuple(name for name in names if name in files))


def _with_segments(dataset: Dataset) -> Dataset:
    """Name the labels after the segments of DICOM and 3D Slicer among the masks."""
    segments = [(case.label, _names_of(case.label)) for case in dataset.cases if case.label and not case.empty]
    pairs = sorted({pair for _, names in segments for pair in names.items()})
    if len(dict(pairs)) == len(pairs):  # one number is one name in all cases
        return replace(dataset, labels=BACKGROUND | dict(pairs) if pairs else None)
    for label, names in segments:
        _require_told_by_names(label, names)
    found = sorted({name for _, name in pairs})
    number, name = next(pair for pair, after in pairwise(pairs) if pair[0] == after[0])
    other = dict(pairs)[number]
    text = f"segments are told by their names, as their numbers differ from case to case: {number} is {name!r} and "
    dataset.problems.append(Problem(WHOLE_SET, f"{text}{other!r}", "warning"))
    cases = [replace(case, by_name=not case.empty) for case in dataset.cases]
    return replace(dataset, cases=cases, labels=BACKGROUND | dict(enumerate(found, start=1)), named_by_files=True)


def _require_told_by_names(label: Path, names: dict[int, str]) -> None:
    """Refuse a label map without names among segments whose numbers differ, and a name that is given twice."""
    if not names:
        raise DataError(
            f"{label}: has no names, and the numbers of segments differ from case to case; write it as a "
            "segmentation too, or one file a structure (CASE/segmentations/NAME.nii.gz)"
        )
    twice = [name for name, count in Counter(names.values()).items() if count > 1]
    if twice:
        raise DataError(
            f"{label}: calls two segments {twice[0]!r}, and the numbers of segments "
            "differ from case to case; give each its own name"
        )


def _names_of(label: Path) -> dict[int, str]:
    if is_seg(label):
        return segment_names(label)
    return {segment.number: segment.name for segment in slicer_segments(label)}
