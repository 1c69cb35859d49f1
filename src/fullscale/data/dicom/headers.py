"""The files of a DICOM study: which they are, what their headers say slice by slice, and errors of one line."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pydicom
from pydicom.uid import SecondaryCaptureImageStorage

from fullscale.data.dicom.store import first_bytes, is_zip, open_file, zip_files
from fullscale.errors import DataError
from fullscale.text import one_line

T = TypeVar("T")

_IMAGE_SUFFIXES = (".dcm", ".dicom", ".ima")
_STACK_TAGS = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SpacingBetweenSlices", "SliceThickness"),
    *("RescaleSlope", "RescaleIntercept"),
)
_FRAME_MACROS = ("PlanePosition", "PlaneOrientation", "PixelMeasures", "PixelValueTransformation")
_HEADER_TAGS = [
    *("SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality", "SeriesDescription", "InstanceNumber"),
    *("ImageType", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", *_STACK_TAGS),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]


@dataclass(frozen=True)
class Slice:
    """One plane of pixels: a single-frame file, or a frame of a multi-frame file.

    Attributes:
        path: of the file; in a zip it goes on behind the zip's own.
        frame: index in a multi-frame file, else None.
        frames: planes that the file holds without saying where each lies, 1 for any that can be placed.
        series_uid: SeriesInstanceUID, empty where blank.
        study_uid: StudyInstanceUID, empty where blank.
        modality: such as "CT".
        description: SeriesDescription.
        number: InstanceNumber, or None.
        size: rows, columns.
        samples: values a pixel.
        photometric: PhotometricInterpretation.
        is_localiser: whether ImageType says so.
        is_capture: whether it is a secondary capture, a picture of a screen.
        tags: what places and scales the plane, by keyword.
    """

    path: Path
    frame: int | None
    frames: int
    series_uid: str
    study_uid: str
    modality: str
    description: str
    number: int | None
    size: tuple[int, int]
    samples: int
    photometric: str
    is_localiser: bool
    is_capture: bool
    tags: dict[str, Any]

    @property
    def name(self) -> str:
        """How messages name it: its file, and its frame or its number in the series."""
        if self.frame is not None:
            return f"{self.path.name} frame {self.frame + 1}"
        return self.path.name if self.number is None else f"{self.path.name} (instance {self.number})"


def study_files(study: Path) -> Iterator[Path]:
    """List the files of a folder, of those nested in it, or of a zip; hidden ones are passed over. A file is itself.

    Raises:
        DataError: the path does not exist, or is a zip that is refused.
    """
    if is_zip(study):
        yield from zip_files(study)
        return
    if study.is_file():
        yield study
        return
    if not study.is_dir():
        raise DataError("no such folder or file")
    for folder, inner, names in os.walk(study):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        files = (Path(folder, name) for name in sorted(names) if not name.startswith("."))
        yield from (file for file in files if file.is_file())


def has_dicom_mark(path: Path) -> bool:
    """Tell whether a file begins as DICOM files do."""
    return first_bytes(path, 132)[128:] == b"DICM"


def is_dicom_file(path: Path) -> bool:
    """Tell whether a path is a file that begins as DICOM files do."""
    return path.is_file() and has_dicom_mark(path)


def header_tags(path: Path, names: list[str]) -> dict[str, Any]:
    """Read some attributes of one file, by keyword; those that are absent are left out.

    Raises:
        DataError: the file cannot be read.
    """

    def read() -> dict[str, Any]:
        with open_file(path) as stream:
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=names)
        return {name: dataset.get(name) for name in names if name in dataset}

    return quietly(path, read)


def is_seg(path: Path) -> bool:
    """Tell whether a file is a DICOM segmentation, by its header."""
    return is_dicom_file(path) and header_tags(path, ["Modality"]).get("Modality") == "SEG"


def segment_names(path: Path) -> dict[int, str]:
    """Return number and label of each segment of a DICOM SEG, background left out.

    Raises:
        DataError: the file cannot be read.
    """

    def read() -> dict[int, str]:
        segments = header_tags(path, ["SegmentSequence"]).get("SegmentSequence") or []
        return {int(s.SegmentNumber): str(s.SegmentLabel) for s in segments if int(s.SegmentNumber) != 0}

    return quietly(path, read)


def read_slices(path: Path) -> list[Slice]:
    """Read the header of one file: its slices, none where it is not DICOM or not an image.

    A slice that was cut short must not vanish from its stack, so a file that calls itself an image has to be one.

    Raises:
        DataError: the header is damaged.
    """
    if has_dicom_mark(path):
        return quietly(path, _parse_header, path)
    if path.suffix.lower() in _IMAGE_SUFFIXES:
        raise DataError(f"{path.name} is named like a slice but lacks the DICOM mark; is it cut short?")
    return []


def _parse_header(path: Path) -> list[Slice]:
    with open_file(path) as stream:
        dataset = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=_HEADER_TAGS)
    size = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if 0 in size:
        kind = dataset.file_meta.get("MediaStorageSOPClassUID")
        if "Image Storage" in getattr(kind, "name", ""):
            raise DataError("calls itself an image but states no size; is it cut short?")
        return []
    frames = int(dataset.get("NumberOfFrames") or 1)
    image_type = dataset.get("ImageType") or ()
    number = dataset.get("InstanceNumber")
    whole = Slice(
        path=path,
        frame=None,
        frames=frames,
        series_uid=str(dataset.get("SeriesInstanceUID") or ""),
        study_uid=str(dataset.get("StudyInstanceUID") or ""),
        modality=str(dataset.get("Modality") or ""),
        description=str(dataset.get("SeriesDescription") or ""),
        number=None if number in (None, "") else int(number),
        size=size,
        samples=int(dataset.get("SamplesPerPixel") or 1),
        photometric=str(dataset.get("PhotometricInterpretation") or ""),
        is_localiser="LOCALIZER" in ([image_type] if isinstance(image_type, str) else list(image_type)),
        is_capture=dataset.get("SOPClassUID") == SecondaryCaptureImageStorage,
        tags={name: dataset.get(name) for name in _STACK_TAGS},
    )
    return list(_frames(whole, dataset)) if dataset.get("PerFrameFunctionalGroupsSequence") else [whole]


def _frames(whole: Slice, dataset: Any) -> Iterator[Slice]:
    """Take a multi-frame image apart: what is said of each frame stands before what is said of all."""
    shared = dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()]
    groups = dataset.PerFrameFunctionalGroupsSequence
    if len(groups) != whole.frames:
        raise DataError(f"states {whole.frames} frames but describes {len(groups)}")
    for index, group in enumerate(groups):
        tags = dict(whole.tags)
        for macro in _FRAME_MACROS:
            sequence = group.get(f"{macro}Sequence") or shared[0].get(f"{macro}Sequence")
            if sequence:
                tags |= {name: sequence[0].get(name) for name in _STACK_TAGS if name in sequence[0]}
        yield Slice(**vars(whole) | {"frame": index, "frames": 1, "tags": tags})


def quietly(path: Path, read: Callable[..., T], *arguments: Any) -> T:
    """Run a step of pydicom without its warnings; its errors become one line with the file's name."""
    try:
        with silence():
            return read(*arguments)
    except DataError as error:
        raise type(error)(f"{path.name} {error}") from error
    except Exception as error:
        raise DataError(f"{path.name} cannot be read: {one_line(error)}") from error


@contextmanager
def silence() -> Iterator[None]:
    """Keep warnings and log lines of the DICOM libraries from the user."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
