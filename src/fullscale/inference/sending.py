"""What is sent to a PACS: DICOM files as they are, and masks as DICOM SEG of their scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from fullscale.data.dicom.destination import Destination, write_binary
from fullscale.data.dicom.headers import is_dicom_file
from fullscale.data.dicom.series import read_series_grid
from fullscale.data.dicom.stack import DicomReadOptions
from fullscale.data.dicom.store import visible_files
from fullscale.data.labels import Algorithm, LabelScheme
from fullscale.data.read import read_label
from fullscale.errors import DataError, UsageError
from fullscale.files import safe_name
from fullscale.geometry.volume import require_same_grid
from fullscale.outputs import held
from fullscale.text import counted


@dataclass(frozen=True)
class SendRequest:
    """What is to be sent, and how.

    Attributes:
        destination: where to.
        scan: the DICOM series of masks that are no DICOM, or None.
        series: of a scan with several series, the UID or description of the one.
        scheme: what the values of masks stand for; None for what was recorded beside them.
        seg_type: binary turns label maps into binary segments; None leaves that to the receiver.
    """

    destination: Destination
    scan: Path | None = None
    series: str | None = None
    scheme: LabelScheme | None = None
    seg_type: Literal["labelmap", "binary"] | None = None


def find_files(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """List the files that are meant, and in a line for each folder what in it is not DICOM and is not sent.

    Raises:
        DataError: a path is not there, or a folder holds no DICOM file.
    """
    found: list[Path] = []
    notes: list[str] = []
    for path in paths:
        if path.is_dir():
            files = [file for file in visible_files(path) if file.is_file()]
            inside = [file for file in files if is_dicom_file(file)]
            if not inside:
                raise DataError(f"{path} holds no DICOM file; name a mask itself, and its scan with --scan")
            if len(inside) < len(files):
                notes.append(f"{path}: {counted(len(files) - len(inside), 'file')} not sent: not DICOM")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    return found, notes


def send(request: SendRequest, files: Sequence[Path], folder: Path) -> list[str]:
    """Send files; masks are written as DICOM SEG first, so that nothing is sent if one of them cannot be.

    Args:
        request: where to, and how.
        files: as `find_files` gives them.
        folder: an empty one for what is made on the way.

    Returns:
        For each file a word on what it was sent as.

    Raises:
        DataError: a file cannot be read, or is refused.
        GeometryError: a mask does not lie on the grid of its scan.
        UsageError: a mask has no scan, or its values no names; an AE title or credentials are wrong.
        FullscaleError: the receiver is away.
    """
    ready = [_as_dicom(request, file, folder / f"{k:04d}") for k, file in enumerate(files)]
    words = request.destination.send([file for file, _ in ready])
    return [made or word for (_, made), word in zip(ready, words, strict=True)]


def _as_dicom(request: SendRequest, file: Path, folder: Path) -> tuple[Path, str]:
    """Return the file to send, and a word on what was made of it; empty where it is sent as it is."""
    if is_dicom_file(file):
        target = folder / file.name
        made = request.seg_type == "binary" and write_binary(file, target)
        return (target, "binary") if made else (file, "")
    target = folder / f"{safe_name(file.name)}.dcm"
    _write_seg(request, file, target)
    return target, "DICOM SEG"


def _write_seg(request: SendRequest, mask: Path, target: Path) -> None:
    from fullscale.data.dicom.seg import write_seg  # of an extra

    if request.scan is None:
        raise UsageError(f"{mask} is no DICOM: name the DICOM series that it was made from with --scan")
    recorded = [LabelScheme.from_dict(content) for content in held([mask])]
    scheme = request.scheme or (recorded[0] if recorded else None)
    if scheme is None:
        raise UsageError(f"{mask}: nothing beside it says what its values stand for: give --labels 1=liver,2=spleen")
    grid = read_series_grid(request.scan, DicomReadOptions(series=request.series))
    labels = read_label(mask, request.scan)
    require_same_grid(grid, labels, f"{request.scan} and {mask}")
    algorithm = Algorithm("fullscale", version("fullscale"))
    write_seg(target, grid.with_array(labels.array), scheme, algorithm, request.seg_type)
