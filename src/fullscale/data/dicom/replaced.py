"""A DICOM SEG that takes the place of an earlier one says so: it refers to it, by instance and by series."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from pathlib import Path

from pydicom import Dataset

from fullscale.data.dicom.headers import quietly, read_dataset
from fullscale.errors import DataError
from fullscale.files import atomic_path

PURPOSE = ("REPLACED", "99FULLSCALE", "Segmentation that this one replaces")
"""Code of the reference: DICOM has one for reports that are replaced, and none for images."""


@dataclass(frozen=True)
class SegReference:
    """What names a DICOM SEG.

    Attributes:
        kind: its SOP class.
        series: UID of its series.
        uid: of the instance.
    """

    kind: str
    series: str
    uid: str

    def __str__(self) -> str:
        return " ".join(astuple(self))

    @classmethod
    def parse(cls, text: str) -> SegReference:
        """Read what `str` wrote."""
        return cls(*text.split(" "))


def write_replacing(source: Path, target: Path, replaced: SegReference | None) -> SegReference:
    """Copy a DICOM SEG, with a reference to the one that it replaces, if there is one.

    Raises:
        DataError: the source cannot be read, or is not whole.
        OutputError: the target cannot be written.
    """
    dataset = quietly(source, read_dataset, source, False)
    if not all(dataset.get(name) for name in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "PixelData")):
        raise DataError(f"{source.name} is no whole DICOM segmentation")
    if replaced is not None:
        quietly(source, _refer, dataset, replaced)
    with atomic_path(target) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
    return SegReference(str(dataset.SOPClassUID), str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID))


def _refer(dataset: Dataset, replaced: SegReference) -> None:
    reference, code, of_series = _instance(replaced), Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = PURPOSE
    reference.PurposeOfReferenceCodeSequence = [code]
    dataset.ReferencedInstanceSequence = [reference]
    of_series.SeriesInstanceUID = replaced.series
    of_series.ReferencedInstanceSequence = [_instance(replaced)]
    dataset.ReferencedSeriesSequence = [*(dataset.get("ReferencedSeriesSequence") or []), of_series]
    dataset.ContentDescription = "Replaces an earlier segmentation of the series"


def _instance(reference: SegReference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = reference.kind, reference.uid
    return item
