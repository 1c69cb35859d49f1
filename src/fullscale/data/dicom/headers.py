"""What the header of each DICOM file says: its slices one by one, and errors of the DICOM libraries in one line."""

from __future__ import annotations

import logging
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import pydicom
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)
from pydicom.valuerep import VR

from fullscale.data.dicom.kinds import kind_of_plane
from fullscale.data.dicom.store import file_state, first_bytes, open_file, require_bounded
from fullscale.errors import DataError
from fullscale.text import one_line

T = TypeVar("T")

PHASE_TAGS = (
    *("AcquisitionNumber", "EchoNumbers", "EchoTime", "EffectiveEchoTime", "InversionTime", "FlipAngle"),
    *("TemporalPositionIdentifier", "TemporalPositionIndex", "TemporalPositionTimeOffset"),
    *("NominalPercentageOfCardiacPhase", "NominalCardiacTriggerDelayTime", "TriggerTime"),
    *("DiffusionBValue", "DiffusionGradientOrientation", "ImageType", "FrameType", "KVP", "ConvolutionKernel"),
    *("StackID", "AcquisitionTime", "AcquisitionDateTime", "FrameAcquisitionDateTime", "ContentTime"),
)
"""What may tell the phases, echoes or repetitions of one series apart, the most telling first."""

_IMAGE_SUFFIXES = (".dcm", ".dicom", ".ima")
_STACK_TAGS = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SpacingBetweenSlices", "SliceThickness"),
    *("RescaleSlope", "RescaleIntercept"),
)
_FRAME_MACROS = ("PlanePosition", "PlaneOrientation", "PixelMeasures", "PixelValueTransformation")
_PRIVATE_B_VALUES = {
    "SIEMENS MR HEADER": (0x0019, 0x0C),
    "GEMS_PARM_01": (0x0043, 0x39),
    "Philips Imaging DD 001": (0x2001, 0x03),
}
"""Group and element, in the block of its private creator, of the b-value before DICOM had an attribute for it."""
_GE_B_VALUE_OFFSET = 100_000
"""GE adds a multiple of it to some b-values, such as 1000000800 for 800."""
_HEADER_TAGS: list[str | int | tuple[int, int]] = [
    *((group, 0x0010 + block) for group in (0x0019, 0x0043, 0x2001) for block in range(3)),
    *((group, 0x1000 + 256 * block + element) for group, element in _PRIVATE_B_VALUES.values() for block in range(3)),
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality", "SeriesDescription"),
    *("InstanceNumber", "ImageType", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"),
    *("PhotometricInterpretation", *_STACK_TAGS, *PHASE_TAGS),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]
_FIRST_ELEMENTS = (0x0000, 0x0001, 0x0005, 0x0006, 0x0008, 0x0012, 0x0014, 0x0016, 0x0018)
"""Elements of group 0008 with which a data set may begin."""


_META_LENGTH_END = 144
"""Byte behind the preamble, the mark, and the element that states the length of the meta header."""
_REMEMBERED = 5000
"""Headers kept in memory: a study is looked at when it is found, and again when it is read."""
NOT_DICOM = "not DICOM"
"""Why a file of another kind is passed over."""


@dataclass(frozen=True)
class PassedOver:
    """A file of a study that is not read, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Slice:
    """One plane of pixels: a single-frame file, or a frame of a multi-frame file.

    Attributes:
        path: the file; in a zip it goes on behind the zip's own path.
        frame: index in a multi-frame file, else None.
        frames: planes that the file holds without saying where each lies, 1 for any that can be placed.
        uid: SOPInstanceUID, empty where blank.
        series_uid: SeriesInstanceUID, empty where blank.
        study_uid: StudyInstanceUID, empty where blank.
        modality: such as "CT".
        description: SeriesDescription.
        number: InstanceNumber, or None.
        size: rows, columns.
        samples: values a pixel.
        photometric: PhotometricInterpretation.
        kind: what it is in place of a slice, such as "a localiser"; empty for an ordinary slice.
        tags: what places and scales the plane, by keyword.
        phase: what may tell it from another slice at its position, as text by keyword (`PHASE_TAGS`).
    """

    path: Path
    frame: int | None
    frames: int
    uid: str
    series_uid: str
    study_uid: str
    modality: str
    description: str
    number: int | None
    size: tuple[int, int]
    samples: int
    photometric: str
    kind: str
    tags: dict[str, Any]
    phase: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How messages name it: its file, and its frame or its number in the series."""
        if self.frame is not None:
            return f"{self.path.name} frame {self.frame + 1}"
        return self.path.name if self.number is None else f"{self.path.name} (instance {self.number})"


def begins_as_dicom(path: Path) -> bool:
    """Tell by its first bytes whether a file is DICOM: by the mark behind the preamble, or a data set without both.

    Files without preamble and mark are written by older systems and by some exports; their name says nothing.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        start = first_bytes(path, 132)
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror or error}") from error
    return start[128:] == b"DICM" or _begins_data_set(start)


def is_dicom_file(path: Path) -> bool:
    """Tell whether a path is a file on disk that begins as DICOM files do."""
    return path.is_file() and begins_as_dicom(path)


def _begins_data_set(start: bytes) -> bool:
    """Tell whether bytes begin with an element of group 0002 or 0008, as a bare data set must."""
    if len(start) < 8:
        return False
    for order in "<>":
        group, element = struct.unpack(f"{order}HH", start[:4])
        if (group, element) in ((2, 0), (2, 1), (2, 2)) or (group == 8 and element in _FIRST_ELEMENTS):
            explicit = start[4:6].isalpha() and start[4:6].decode("ascii", "replace") in VR.__members__
            return explicit or struct.unpack(f"{order}I", start[4:8])[0] < 1024
    return False


def read_dataset(path: Path, stop_before_pixels: bool = True, tags: Sequence[Any] | None = None) -> pydicom.FileDataset:
    """Read a DICOM file, also one without preamble and meta header, whose transfer syntax follows from its contents."""
    require_bounded(path)
    with open_file(path) as stream:
        bare = first_bytes(path, 132)[128:] != b"DICM"
        wanted = None if tags is None else list(tags)
        dataset = pydicom.dcmread(stream, stop_before_pixels=stop_before_pixels, specific_tags=wanted, force=bare)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = _syntax_of(dataset)
    return dataset


def data_set_start(path: Path) -> int:
    """Return where the data set of a file begins, behind its preamble and meta header; 0 where it has none."""
    start = first_bytes(path, _META_LENGTH_END)
    if len(start) < _META_LENGTH_END or start[128:140] != b"DICM\x02\x00\x00\x00UL\x04\x00":
        return 0
    length: int = struct.unpack("<I", start[140:])[0]
    return _META_LENGTH_END + length


def _syntax_of(dataset: pydicom.FileDataset) -> UID:
    implicit, little = dataset.original_encoding
    explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    return UID(ImplicitVRLittleEndian if implicit else explicit)


def header_tags(path: Path, names: list[str]) -> dict[str, Any]:
    """Read some attributes of one file, by keyword; those that are absent are left out.

    Raises:
        DataError: the file cannot be read.
    """

    def read() -> dict[str, Any]:
        dataset = read_dataset(path, tags=names)
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


def read_slices(path: Path) -> list[Slice] | PassedOver:
    """Read the header of one file: its slices, or why it has none (it is not DICOM, or no image).

    A slice that was cut short must not vanish from its stack, so a file that calls itself an image has to be one.

    A header that was read a moment ago is not read again, unless its file has changed.

    Raises:
        DataError: the header is damaged.
    """
    try:
        state = file_state(path)
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror or error}") from error
    return _read_slices(path, state)


@lru_cache(maxsize=_REMEMBERED)
def _read_slices(path: Path, _state: tuple[int, ...]) -> list[Slice] | PassedOver:
    if begins_as_dicom(path):
        return quietly(path, _parse_header, path)
    if path.suffix.lower() in _IMAGE_SUFFIXES:
        raise DataError(f"{path.name} is named like a slice but is no DICOM file; is it cut short?")
    return PassedOver(path, NOT_DICOM)


def _parse_header(path: Path) -> list[Slice] | PassedOver:
    dataset = read_dataset(path, tags=_HEADER_TAGS)
    size = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if 0 in size:
        return _no_image(path, dataset)
    number = dataset.get("InstanceNumber")
    whole = Slice(
        path=path,
        frame=None,
        frames=int(dataset.get("NumberOfFrames") or 1),
        uid=str(dataset.get("SOPInstanceUID") or ""),
        series_uid=str(dataset.get("SeriesInstanceUID") or ""),
        study_uid=str(dataset.get("StudyInstanceUID") or ""),
        modality=str(dataset.get("Modality") or ""),
        description=str(dataset.get("SeriesDescription") or ""),
        number=None if number in (None, "") else int(number),
        size=size,
        samples=int(dataset.get("SamplesPerPixel") or 1),
        photometric=str(dataset.get("PhotometricInterpretation") or ""),
        kind=kind_of_plane(dataset.get("ImageType"), dataset.get("SOPClassUID")),
        tags={name: dataset.get(name) for name in _STACK_TAGS},
        phase=_phase_tags(dataset),
    )
    return list(_frames(whole, dataset)) if dataset.get("PerFrameFunctionalGroupsSequence") else [whole]


def _no_image(path: Path, dataset: pydicom.FileDataset) -> PassedOver:
    """Say what a file without rows and columns is; one that calls itself an image is damaged."""
    kind = dataset.file_meta.get("MediaStorageSOPClassUID") or dataset.get("SOPClassUID")
    name = str(getattr(kind, "name", "")) or "DICOM"
    if "Image Storage" in name:
        raise DataError("calls itself an image but states no size; is it cut short?")
    if kind == MediaStorageDirectoryStorage:
        return PassedOver(path, "a list of DICOM files (DICOMDIR)")
    return PassedOver(path, f"no image but {dataset.get('Modality') or name}")


def _frames(whole: Slice, dataset: Any) -> Iterator[Slice]:
    """Take a multi-frame image apart: what is said of each frame stands before what is said of all."""
    shared = dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()]
    groups = dataset.PerFrameFunctionalGroupsSequence
    if len(groups) != whole.frames:
        raise DataError(f"states {whole.frames} frames but describes {len(groups)}")
    of_all = _nested_phase_tags(shared[0])
    for index, group in enumerate(groups):
        tags = dict(whole.tags)
        for macro in _FRAME_MACROS:
            sequence = group.get(f"{macro}Sequence") or shared[0].get(f"{macro}Sequence")
            if sequence:
                tags |= {name: sequence[0].get(name) for name in _STACK_TAGS if name in sequence[0]}
        phase = whole.phase | of_all | _nested_phase_tags(group)
        yield Slice(**vars(whole) | {"frame": index, "frames": 1, "tags": tags, "phase": phase})


def _phase_tags(dataset: Any) -> dict[str, str]:
    found = {name: _text(dataset[name].value) for name in PHASE_TAGS if name in dataset}
    b_value = None if "DiffusionBValue" in found else _private_b_value(dataset)
    return found if b_value is None else found | {"DiffusionBValue": b_value}


def _private_b_value(dataset: Any) -> str | None:
    """Return the b-value of Siemens, GE or Philips where none stands in DICOM's own attribute."""
    for creator, (group, element) in _PRIVATE_B_VALUES.items():
        try:
            value = dataset.private_block(group, creator)[element].value
        except KeyError:
            continue
        number = _first_number(value)
        if number is not None:
            return f"{number % _GE_B_VALUE_OFFSET if group == 0x0043 else number:g}"
    return None


def _first_number(value: Any) -> float | None:
    """Return the first number of a private value, be it text, bytes of text, or several."""
    text = value.decode("latin-1") if isinstance(value, bytes) else _text(value)
    try:
        return float(text.split("\\")[0].strip(" \0"))
    except ValueError:
        return None


def _nested_phase_tags(group: Any) -> dict[str, str]:
    """Collect what tells phases apart from the sequences of a frame's functional groups."""
    items = [element.value[0] for element in group if element.VR == "SQ" and len(element.value)]
    return {name: text for item in items for name, text in _phase_tags(item).items()}


def _text(value: Any) -> str:
    several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    return "\\".join(map(str, value)) if several else str("" if value is None else value)


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
