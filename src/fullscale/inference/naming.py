"""What the masks of scans are called, and how they are written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fullscale.data.dicom.stack import DicomReadOptions
from fullscale.data.discover import Scan
from fullscale.data.image_files import PICTURES, image_pages
from fullscale.data.volume_files import volume_suffix
from fullscale.files import safe_name

MaskFormat = Literal["nifti", "seg", "both"]
ONE_FILE = {".mhd": ".mha", ".nhdr": ".nrrd"}
"""Formats in two files, which cannot be replaced at once, and what a mask is written as in their place."""


@dataclass(frozen=True)
class OutputOptions:
    """How masks are written.

    Attributes:
        format: "nifti" (a scan's own format where it is a file), "seg" (DICOM SEG, of DICOM scans alone), or "both".
        seg_type: "labelmap" or "binary"; see `write_seg`. None is the first, or where structures overlap the second.
        probabilities: each structure's probability too, beside the mask, never as SEG.
        uncertainty: a map of the entropy too, likewise.
    """

    format: MaskFormat = "nifti"
    seg_type: Literal["labelmap", "binary"] | None = None
    probabilities: bool = False
    uncertainty: bool = False


def planned_outputs(
    scans: Sequence[Scan], output: Path, options: OutputOptions, structures: Iterable[str]
) -> list[Path]:
    """List the files that `predict_scans` will write."""
    names: list[str] = []
    for scan in scans:
        name, suffix = safe_name(scan.name), mask_suffix(scan.path)
        names += [f"{name}{suffix}"] if options.format != "seg" else []
        names += [f"{name}.dcm"] if options.format != "nifti" else []
        names += [probability_name(name, s, soft_suffix(suffix)) for s in structures if options.probabilities]
        names += [uncertainty_name(name, soft_suffix(suffix))] if options.uncertainty else []
    return [output / name for name in names]


def planned_copies(scans: Sequence[Scan], output: Path, options: OutputOptions, dicom: DicomReadOptions) -> list[Path]:
    """List the folders into which `predict_scans` may write copies of series with new identifiers."""
    wanted = dicom.fix_identifiers and options.format != "nifti"
    return [copy_of(output, scan.name) for scan in scans] if wanted else []


def copy_of(output: Path, name: str) -> Path:
    """Name the folder of a copy of a series with new identifiers."""
    return output / f"{safe_name(name)}_dicom"


def probability_name(name: str, structure: str, suffix: str) -> str:
    """Name the file of a structure's probability, beside the mask."""
    return f"{name}_{safe_name(structure.replace(' ', '_'))}_probability{suffix}"


def uncertainty_name(name: str, suffix: str) -> str:
    """Name the file of the uncertainty map, beside the mask."""
    return f"{name}_uncertainty{suffix}"


def mask_suffix(scan: Path) -> str:
    """Return the suffix of a scan's mask: the scan's own, of a format in two files that of its kin in one.

    A DICOM scan's is `.nii.gz`, an image's `.png`, and that of a TIFF of several pages `.tif`.
    """
    own = volume_suffix(scan) if scan.is_file() else None
    if own in PICTURES:
        return ".tif" if image_pages(scan) > 1 else ".png"
    return ONE_FILE.get(own, own) if own else ".nii.gz"


def soft_suffix(suffix: str) -> str:
    """Return the suffix of a probability beside a mask: PNG holds whole numbers alone."""
    return ".tif" if suffix in PICTURES else suffix
