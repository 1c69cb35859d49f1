"""Segmentations of 3D Slicer (`.seg.nrrd`): named segments, in layers where they overlap, cropped to what is drawn.

The header's fields are described in Slicer's documentation, "Segmentations", file format.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from fullscale.data.labels import LabelScheme
from fullscale.data.overlaps import label_map, unique_names, values_of_segments
from fullscale.errors import DataError, FullscaleError
from fullscale.geometry.placing import place_labels
from fullscale.geometry.volume import Volume

_FIELD = re.compile(rb"^Segment(\d+)_(Name|LabelValue|Layer):=(.*?)\r?$", re.MULTILINE)
_LONGEST_HEADER = 1 << 20


@dataclass(frozen=True)
class Segment:
    """One segment: its name, its value in its layer, and the layer; `number` is its value in the label map."""

    number: int
    name: str
    value: int
    layer: int


def slicer_segments(path: Path) -> list[Segment]:
    """List the segments of a file, none where it is no segmentation of 3D Slicer.

    A segment keeps its value as its number, unless two layers use one value: then segments are numbered from 1.
    """
    if path.suffix.lower() != ".nrrd" or not path.is_file():
        return []
    with path.open("rb") as stream:
        header = re.split(rb"\r?\n\r?\n", stream.read(_LONGEST_HEADER))[0]
    fields: dict[int, dict[bytes, bytes]] = {}
    for number, field, text in _FIELD.findall(header):
        fields.setdefault(int(number), {})[field] = text
    known = [found for _, found in sorted(fields.items()) if found.get(b"LabelValue", b"").strip().isdigit()]
    values = [int(found[b"LabelValue"]) for found in known]
    numbers = values if len(set(values)) == len(values) else range(1, len(values) + 1)
    return [
        Segment(number, found.get(b"Name", b"").decode("utf-8", "replace"), value, int(found.get(b"Layer") or 0))
        for number, found, value in zip(numbers, known, values, strict=True)
    ]


def read_slicer(path: Path, like: Volume | None, scheme: LabelScheme | None = None, by_name: bool = False) -> Volume:
    """Read a segmentation of 3D Slicer as a label map of its segments' numbers.

    Args:
        path: the file.
        like: the grid to place it on, usually the scan's; by default its own, which is cropped to what is drawn.
        scheme: whose regions, where they are called like the segments, may overlap.
        by_name: give segments the values that the scheme has for their names.

    Raises:
        DataError: it cannot be read, or its segments overlap and no regions say what that is.
        GeometryError: its voxels are not voxels of `like`; nothing is resampled.
    """
    try:
        labels = _merged(path, slicer_segments(path), scheme, by_name)
        return labels if like is None else place_labels(labels, like)
    except FullscaleError as error:
        raise type(error)(f"{path}: {error}") from error


def _merged(path: Path, segments: list[Segment], scheme: LabelScheme | None, by_name: bool) -> Volume:
    from fullscale.data.itk_files import read_layers  # of an extra, which finding them does without

    layers, affine = read_layers(path)
    names = unique_names({segment.number: segment.name for segment in segments})
    for segment in segments:
        if segment.layer >= len(layers):
            raise DataError(f"segment {segment.name!r} is said to be in layer {segment.layer}, there are {len(layers)}")
    masks = ((names[segment.number], layers[segment.layer] == segment.value) for segment in segments)
    return Volume(label_map(masks, layers.shape[1:], values_of_segments(names, scheme, by_name)), affine)
