"""What tells groups of cases apart in the scores of a model: columns of a list, and the scanner of a DICOM study."""

from __future__ import annotations

from pathlib import Path

from fullscale.data.case import Case
from fullscale.data.dicom.headers import begins_as_dicom, header_tags
from fullscale.data.dicom.store import visible_files
from fullscale.text import printable

SCANNER = "scanner"
"""What a case is by the header of its scan; a column of a list by that name says it better."""

_TAGS = ["Manufacturer", "ManufacturerModelName"]


def subgroups_of(case: Case) -> dict[str, str]:
    """Say what a case is by everything that tells groups apart.

    Raises:
        DataError: the header of its scan cannot be read.
    """
    scanner = scanner_of(case.first)
    return ({} if scanner is None else {SCANNER: scanner}) | dict(case.subgroups)


def scanner_of(scan: Path) -> str | None:
    """Return manufacturer and model of the scanner of a DICOM study; None for other files, or where it is not said.

    Raises:
        DataError: the header cannot be read.
    """
    file = next((file for file in visible_files(scan) if begins_as_dicom(file)), None)
    said = {} if file is None else header_tags(file, _TAGS)
    return " ".join(" ".join(printable(str(said.get(tag) or "")) for tag in _TAGS).split()) or None
