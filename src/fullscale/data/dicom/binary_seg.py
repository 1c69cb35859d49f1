"""A label map SEG as a binary one, for receivers that know no label maps: the same segments, places and references.

No image is needed for it: all that a binary segmentation says stands in the label map too.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.pixels import pack_bits
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage, generate_uid

LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
"""SOP class of label maps: DICOM supplement 243, of 2024."""
BINARY_STORAGE = str(SegmentationStorage)
_SEGMENT_NUMBER, _IDENTIFICATION = Tag(0x0062, 0x000B), Tag(0x0062, 0x000A)
_OF_LABEL_MAPS = ("PixelPaddingValue", "DimensionOrganizationType", "PresentationLUTShape", "ICCProfile")


def is_label_map(dataset: Dataset) -> bool:
    """Tell whether a data set is a segmentation that older receivers do not take."""
    return str(dataset.SOPClassUID) == LABEL_MAP_STORAGE


def as_binary(label_map: Dataset) -> Dataset:
    """Turn a label map into binary segments, of which only the frames with a voxel are stored.

    Segments are numbered from 1 in the order of their values, as the standard demands; background is no segment. Series
    and instance have new identifiers that follow from the old ones, so that the same label map is the same binary
    segmentation each time.

    Args:
        label_map: with its pixels.
    """
    binary = deepcopy(label_map)
    values = sorted(int(segment.SegmentNumber) for segment in label_map.SegmentSequence if segment.SegmentNumber)
    array = label_map.pixel_array.reshape(-1, label_map.Rows, label_map.Columns)
    shown = [(value, frame) for value in values for frame in range(len(array)) if (array[frame] == value).any()]
    shown = shown or [(values[0], frame) for frame in range(len(array))]  # a segmentation has a frame
    numbers = {value: number for number, value in enumerate(values, 1)}
    _rename(binary)
    _set_segments(binary, numbers)
    _set_dimensions(binary)
    frames = label_map.PerFrameFunctionalGroupsSequence
    binary.PerFrameFunctionalGroupsSequence = [_group(frames[frame], numbers[value]) for value, frame in shown]
    _set_pixels(binary, np.stack([array[frame] == value for value, frame in shown]))
    return binary


def _rename(binary: Dataset) -> None:
    """Give new identifiers, also to label maps that it refers to: who gets it got those as binary ones too."""
    for name in ("SOPInstanceUID", "SeriesInstanceUID"):
        setattr(binary, name, _renamed(binary[name].value))
    of_series = [item for item in binary.get("ReferencedSeriesSequence") or [] if _refers_to_maps(item)]
    for item in of_series:
        item.SeriesInstanceUID = _renamed(item.SeriesInstanceUID)
    for holder in (binary, *of_series):
        for reference in holder.get("ReferencedInstanceSequence") or []:
            if reference.ReferencedSOPClassUID == LABEL_MAP_STORAGE:
                reference.ReferencedSOPClassUID = SegmentationStorage
                reference.ReferencedSOPInstanceUID = _renamed(reference.ReferencedSOPInstanceUID)
    binary.SOPClassUID = binary.file_meta.MediaStorageSOPClassUID = SegmentationStorage
    binary.file_meta.MediaStorageSOPInstanceUID = binary.SOPInstanceUID
    binary.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def _renamed(uid: str) -> str:
    return str(generate_uid(entropy_srcs=["binary", str(uid)]))


def _refers_to_maps(of_series: Dataset) -> bool:
    references = of_series.get("ReferencedInstanceSequence") or []
    return any(reference.ReferencedSOPClassUID == LABEL_MAP_STORAGE for reference in references)


def _set_segments(binary: Dataset, numbers: dict[int, int]) -> None:
    segments = {int(segment.SegmentNumber): segment for segment in binary.SegmentSequence}
    for value, number in numbers.items():
        segments[value].SegmentNumber = number
    binary.SegmentSequence = [segments[value] for value in numbers]
    binary.SegmentationType, binary.SegmentsOverlap = "BINARY", "NO"


def _set_dimensions(binary: Dataset) -> None:
    """Put the segment before the other dimensions of a frame."""
    of_segments = Dataset()
    of_segments.DimensionOrganizationUID = binary.DimensionOrganizationSequence[0].DimensionOrganizationUID
    of_segments.DimensionIndexPointer, of_segments.FunctionalGroupPointer = _SEGMENT_NUMBER, _IDENTIFICATION
    of_segments.DimensionDescriptionLabel = "Referenced Segment Number"
    binary.DimensionIndexSequence = [of_segments, *binary.DimensionIndexSequence]


def _group(frame: Dataset, number: int) -> Dataset:
    group = deepcopy(frame)
    segment = Dataset()
    segment.ReferencedSegmentNumber = number
    group.SegmentIdentificationSequence = [segment]
    indices: Any = group.FrameContentSequence[0].DimensionIndexValues
    several = indices if isinstance(indices, list) or hasattr(indices, "__len__") else [indices]
    group.FrameContentSequence[0].DimensionIndexValues = [number, *several]
    return group


def _set_pixels(binary: Dataset, frames: Any) -> None:
    for name in _OF_LABEL_MAPS:
        if name in binary:
            del binary[name]
    binary.NumberOfFrames = len(frames)
    binary.BitsAllocated = binary.BitsStored = 1
    binary.HighBit = 0
    binary.PhotometricInterpretation = "MONOCHROME2"
    binary.PixelData = pack_bits(frames.astype(np.uint8).ravel())
    binary["PixelData"].VR = "OB"
    binary["PixelData"].is_undefined_length = False
