"""DICOM SEG: label maps written as segmentation objects of the scan they were made from, and read back.

Where a segment lies follows from the affine alone, on the way out and on the way in; the order of files, frames and
instance numbers plays no part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from fullscale.data.bounds import require_room
from fullscale.data.dicom.codes import structure_codes
from fullscale.data.dicom.headers import is_seg, segment_names, silence
from fullscale.data.dicom.identifiers import fill_identifiers, missing_identifiers
from fullscale.data.dicom.series import DicomHeader
from fullscale.data.dicom.sources import clean_sources
from fullscale.data.labels import Algorithm, LabelScheme
from fullscale.data.overlaps import label_map, unique_names, values_of_segments
from fullscale.data.volume_files import smallest_integer_type
from fullscale.errors import DataError, FullscaleError, UsageError
from fullscale.extras import needs
from fullscale.files import atomic_path
from fullscale.geometry.placing import place_labels
from fullscale.geometry.volume import Volume
from fullscale.text import one_line

with needs("dicom", "DICOM segmentations"):
    import highdicom as hd
    from highdicom.seg import Segmentation, SegmentDescription, segread
    from highdicom.sr import CodedConcept

SegType = Literal["labelmap", "binary"]

_LPS_AND_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SLICE_ROW_COLUMN = np.eye(4)[[2, 1, 0, 3]]
"""Takes `[slice, row, column]`, as DICOM stores frames, to `[column, row, slice]` and back."""


def write_seg(
    path: str | Path,
    labels: Volume,
    structures: LabelScheme | Mapping[int, str],
    algorithm: Algorithm,
    seg_type: SegType | None = None,
) -> None:
    """Write a label map as DICOM SEG of the DICOM series that it lies on.

    Args:
        path: where to, usually ending in .dcm; missing folders are made.
        labels: `[column, row, slice]`, its header that of the series (`DicomHeader`), as `read_series` gives it.
        structures: value and name of each segment, or a scheme. A labelmap numbers segments by value; binary segments
            are numbered from 1 in the order of the values, as the standard demands; regions in their own order.
        algorithm: what made the label map.
        seg_type: "labelmap" (one small RLE compressed volume) or "binary" (uncompressed bits, for older viewers and
            for segments that overlap); None is the first where it can be.

    Attributes of the scan that are not valid are left empty; `require_sources` says which.

    Raises:
        DataError: the labels do not come from a DICOM series, or its identifiers are blank; there is no other value
            in the labels than those of the structures.
        UsageError: a labelmap is asked for of structures that overlap.
        FullscaleError: writing failed.
    """
    path = Path(path)
    sources, _ = _sources(labels)
    _avoid_gdcm()
    segmentation = _quietly(_segmentation, labels, sources, LabelScheme.of(structures), algorithm, seg_type)
    with atomic_path(path) as temporary:
        segmentation.save_as(temporary)


def require_sources(
    scan: Volume,
    structures: LabelScheme | Mapping[int, str],
    algorithm: Algorithm,
    seg_type: SegType | None = None,
    new_identifiers: bool = False,
) -> list[str]:
    """Make sure, before any work, that a DICOM SEG of this scan can be written, by making one of an empty slice.

    Args:
        scan: as `read_series` gives it.
        structures: as for `write_seg`.
        algorithm: as for `write_seg`.
        seg_type: as for `write_seg`.
        new_identifiers: the segmentation will be of a copy with identifiers, so blank ones do not matter.

    Returns:
        Notes on attributes of the scan that are not valid and will be left empty, a line each.

    Raises:
        DataError: the scan is no DICOM series, its identifiers are blank, or no segmentation can be made of it.
    """
    sources, notes = _sources(scan, new_identifiers)
    one = Volume(np.zeros((*scan.shape[:2], 1), np.uint8), scan.affine)
    _avoid_gdcm()
    _quietly(_segmentation, one, sources, LabelScheme.of(structures), algorithm, seg_type)
    return notes


def _sources(scan: Volume, new_identifiers: bool = False) -> tuple[list[Any], list[str]]:
    """Return the headers of the images that a DICOM SEG of this scan would refer to, and notes on them."""
    if not isinstance(scan.header, DicomHeader):
        raise DataError("a DICOM SEG refers to the DICOM images it was made from, but this scan is no DICOM series")
    sources, notes = clean_sources(scan, scan.header)
    blank = missing_identifiers(sources)
    if blank and not new_identifiers:
        raise DataError(
            f"{scan.header.files[0].parent}: a DICOM SEG refers to its images by identifiers, blank or not unique here "
            f"({', '.join(blank)}); --fix-identifiers writes a copy with new ones, --format nifti needs none"
        )
    if blank:
        fill_identifiers(sources, blank)
    return sources, notes


def read_seg(
    path: str | Path, like: Volume | None = None, scheme: LabelScheme | None = None, by_name: bool = False
) -> Volume:
    """Read a DICOM SEG as a label map: the value of a voxel is its segment's number.

    Args:
        path: one file.
        like: the grid to place it on, usually the scan's; a segmentation that stores some of the slices only, or them
            in another order, comes out on the whole grid. By default its own grid, from its first to its last frame.
        scheme: whose regions, where they are called like the segments, may overlap.
        by_name: give segments the values that the scheme has for their names.

    Returns:
        Integers `[column, row, slice]` or on the axes of `like`.

    Raises:
        DataError: it is no SEG, unreadable, fractional, or its segments overlap and no regions say what that is.
        GeometryError: its voxels are not voxels of `like`; nothing is resampled.
    """
    path = Path(path)
    try:
        volume = _quietly(_read_volume, path, scheme, by_name)
        return volume if like is None else place_labels(volume, like)
    except FullscaleError as error:
        raise type(error)(f"{path}: {error}") from error


def _avoid_gdcm() -> None:
    """Keep pydicom from encoding RLE by GDCM, where that is installed: it ends the process on odd frame sizes."""
    if "gdcm" in RLELosslessEncoder.available_plugins:
        RLELosslessEncoder.remove_plugin("gdcm")


def _segmentation(
    labels: Volume,
    sources: Sequence[Any],
    scheme: LabelScheme,
    algorithm: Algorithm,
    wanted: SegType | None,
) -> Segmentation:
    seg_type = wanted or ("binary" if scheme.regions else "labelmap")
    if scheme.regions and seg_type == "labelmap":
        raise UsageError("a label map cannot hold structures that overlap: write them as binary segments")
    structures = scheme.structures
    values = list(structures) if scheme.regions else sorted(structures)
    numbers = values if seg_type == "labelmap" else list(range(1, len(values) + 1))
    volume = _volume(labels, scheme, dict(zip(values, numbers, strict=True)), sources[0].FrameOfReferenceUID)
    segmentation = Segmentation(
        source_images=sources,
        pixel_array=volume,
        segmentation_type=seg_type.upper(),
        segment_descriptions=[
            _describe(number, structures[value], algorithm) for value, number in zip(values, numbers, strict=True)
        ],
        series_instance_uid=hd.UID(),
        series_number=_series_number(sources[0]),
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="fullscale",
        manufacturer_model_name="fullscale",
        software_versions=version("fullscale"),
        device_serial_number="none",
        transfer_syntax_uid=RLELossless if seg_type == "labelmap" else ExplicitVRLittleEndian,
        content_label="SEGMENTATION",
        specific_character_set="ISO_IR 192",
        series_description=f"{algorithm.name} segmentation"[:64],
    )
    segmentation.ContributingEquipmentSequence.extend(sources[0].get("ContributingEquipmentSequence") or [])
    return segmentation


def _volume(labels: Volume, scheme: LabelScheme, numbers: Mapping[int, int], frame_of_reference: str) -> hd.Volume:
    """Make the voxels of the segments: one array of their numbers or, of segments that overlap, one of bits for each.

    Args:
        labels: label map.
        scheme: what its values stand for.
        numbers: of the segments, by the values that structures are written as.
        frame_of_reference: of the scan.
    """
    affine = _LPS_AND_RAS @ labels.affine @ _SLICE_ROW_COLUMN
    place = {"coordinate_system": "PATIENT", "frame_of_reference_uid": frame_of_reference}
    if not scheme.regions:
        return hd.Volume(_numbered(labels.array, numbers).transpose(2, 1, 0), affine, **place)
    _require_known(labels.array, {0, *scheme.atoms})
    parts = [np.isin(labels.array, scheme.members[value]).transpose(2, 1, 0) for value in numbers]
    channels = {hd.ChannelDescriptor("SegmentNumber"): list(numbers.values())}
    return hd.Volume(np.stack(parts, axis=-1).astype(np.uint8), affine, **place, channels=channels)


def _require_known(array: npt.NDArray[Any], known: set[int]) -> None:
    found = {int(value) for k in range(array.shape[2]) for value in np.unique(array[:, :, k])}
    strange = sorted(found - known)
    if strange:
        raise DataError(f"the labels hold the values {strange[:5]}, which name no structure")


def _numbered(array: npt.NDArray[Any], number_of: Mapping[int, int]) -> npt.NDArray[Any]:
    """Write each label's value as its segment's number."""
    _require_known(array, {0, *number_of})
    stored = np.min_scalar_type(max(number_of.values()))
    if all(value == number for value, number in number_of.items()):
        return array.astype(stored, copy=False)
    table = np.zeros(max(number_of) + 1, stored)
    for value, number in number_of.items():
        table[value] = number
    numbered: npt.NDArray[Any] = table[array]
    return numbered


def _series_number(source: Any) -> int:
    """A number away from the scan's own, so that viewers list the segmentation apart."""
    return 9000 + int(source.get("SeriesNumber") or 0) % 1000


def _describe(number: int, name: str, algorithm: Algorithm) -> SegmentDescription:
    coded = structure_codes(name)
    identification = hd.AlgorithmIdentificationSequence(
        name=algorithm.name[:64],
        family=codes.cid7162.ArtificialIntelligence,
        version=algorithm.version[:64],
        parameters=None if algorithm.members is None else dict(algorithm.members),
    )
    described = SegmentDescription(
        segment_number=number,
        segment_label=name[:64],
        segmented_property_category=coded.category,
        segmented_property_type=coded.type,
        algorithm_type="AUTOMATIC",
        algorithm_identification=identification,
        anatomic_regions=None if coded.region is None else [coded.region],
    )
    if coded.side is not None:
        _add_side(described, coded.side)
    return described


def _add_side(described: SegmentDescription, side: Code) -> None:
    """Say left or right where the standard wants it: at the region of a lesion, at the type of a structure."""
    concept = CodedConcept.from_code(side)
    if "AnatomicRegionSequence" in described:
        described.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [concept]
    else:
        described.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [concept]


def _open(path: Path) -> Segmentation:
    if not path.is_file():
        raise DataError("no such file")
    if not is_seg(path):
        raise DataError("is no DICOM segmentation")
    return segread(path)


def _read_volume(path: Path, scheme: LabelScheme | None, by_name: bool) -> Volume:
    segmentation = _open(path)
    rows, columns, frames = (int(segmentation.get(name) or 0) for name in ("Rows", "Columns", "NumberOfFrames"))
    require_room(rows * columns * frames, path.stat().st_size, "its header")
    if segmentation.segmentation_type.value == "FRACTIONAL":
        raise DataError("is a FRACTIONAL segmentation, expected BINARY or LABELMAP; threshold it first")
    geometry = segmentation.get_volume_geometry(allow_missing_positions=True)
    if geometry is not None:
        require_room(math.prod(geometry.spatial_shape), path.stat().st_size, "its header")
    names = unique_names(segment_names(path))
    values = values_of_segments(names, scheme, by_name)
    if by_name or max(map(len, values)) > 1:  # segments may overlap, or their numbers say nothing
        volume = _segment(segmentation, next(iter(names)))
        masks = ((name, _segment(segmentation, number).array == number) for number, name in names.items())
        array = label_map(masks, volume.array.shape, values)
    else:
        volume = segmentation.get_volume(combine_segments=True, allow_missing_positions=True)
        array = np.asarray(volume.array)
        array = array.astype(smallest_integer_type(array))
    return Volume(array.transpose(2, 1, 0), _LPS_AND_RAS @ volume.affine @ _SLICE_ROW_COLUMN)


def _segment(segmentation: Segmentation, number: int) -> hd.Volume:
    return segmentation.get_volume(segment_numbers=[number], combine_segments=True, allow_missing_positions=True)


def _quietly(work: Any, *arguments: Any) -> Any:
    """Run a step of highdicom without its warnings; its errors become one line."""
    try:
        with silence():
            return work(*arguments)
    except FullscaleError:
        raise
    except Exception as error:
        raise DataError(f"cannot be read or written as DICOM SEG: {one_line(error)}") from error
