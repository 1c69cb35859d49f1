"""What the headers of a series say that a rule may ask for: one value an attribute, by its DICOM keyword."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.datadict import tag_for_keyword

from fullscale.data.dicom.headers import header_tags
from fullscale.data.identity import digest_of
from fullscale.errors import DataError

_IDENTIFIERS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_PATIENT = ("PatientID", "IssuerOfPatientID", "PatientBirthDate")


@dataclass(frozen=True)
class FileFacts:
    """Where a file belongs.

    Attributes:
        study: UID of its study.
        series: UID of its series.
        uid: of the file itself.
        patient: a digest of what identifies the patient, so that it can be compared and not read.
    """

    study: str
    series: str
    uid: str
    patient: str


def file_facts(path: Path) -> FileFacts:
    """Read where a file belongs.

    Raises:
        DataError: it cannot be read, or does not say it.
    """
    said = header_tags(path, [*_IDENTIFIERS, *_PATIENT])
    study, series, uid = (str(said.get(name) or "") for name in _IDENTIFIERS)
    if not (study and series and uid):
        raise DataError("a file names no study, series or instance")
    return FileFacts(study, series, uid, digest_of(*(str(said.get(name) or "").strip() for name in _PATIENT)))


def version_of(files: Sequence[Path]) -> str:
    """Return a digest of the UIDs of files: what tells one version of a series from another.

    Raises:
        DataError: one cannot be read.
    """
    return digest_of(*sorted(file_facts(file).uid for file in files))


def is_keyword(name: str) -> bool:
    """Tell whether DICOM has an attribute of this keyword."""
    return tag_for_keyword(name) is not None


def series_facts(files: Sequence[Path], keywords: Iterable[str]) -> dict[str, str]:
    """Return attributes of a series, as its first file says them; several values are joined by a backslash.

    Raises:
        DataError: the file cannot be read.
    """
    wanted = list(keywords)
    said = header_tags(files[0], wanted)
    return {name: _text(said.get(name)) for name in wanted}


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "\\".join(map(str, value))
    return str(value).strip()
