"""Many scans, one after the other: a bad one is reported and does not stop the rest."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fullscale.data.dicom.identifiers import missing_identifiers, source_headers, write_with_identifiers
from fullscale.data.dicom.seg import SegType, require_sources, write_seg
from fullscale.data.dicom.series import DicomHeader, is_dicom_folder, is_study, study_uid
from fullscale.data.dicom.stack import DicomReadOptions
from fullscale.data.dicom.store import is_zip
from fullscale.data.layouts.find import find_dataset
from fullscale.data.read import read_image
from fullscale.data.volume_files import volume_stem, volume_suffix, write_volume
from fullscale.errors import DataError, UsageError
from fullscale.geometry.volume import Volume
from fullscale.inference.predictor import Predictor
from fullscale.progress import Progress, ignore
from fullscale.work.executor import make_executor, map_cases
from fullscale.work.machine import choose_jobs
from fullscale.work.processes import Shared

MaskFormat = Literal["nifti", "seg", "both"]


@dataclass(frozen=True)
class OutputOptions:
    """How masks are written.

    Attributes:
        format: "nifti" (a scan's own format where it is a file), "seg" (DICOM SEG, of DICOM scans alone), or "both".
        seg_type: "labelmap" or "binary"; see `write_seg`.
        probabilities: each structure's probability too, beside the mask, never as SEG.
    """

    format: MaskFormat = "nifti"
    seg_type: SegType = "labelmap"
    probabilities: bool = False


@dataclass
class Result:
    """What became of one scan.

    Attributes:
        scan: the file or DICOM folder.
        mask: the file that was written; with both formats, the volume.
        segmentation: the DICOM SEG that was written.
        error: why there is none.
        notes: what is to be known about it: what was chosen, resampled, or looks wrong.
        structure_ml: volume of each structure.
        elapsed_s: from reading the scan to writing the mask.
    """

    scan: Path
    mask: Path | None = None
    segmentation: Path | None = None
    error: str | None = None
    notes: list[str] = field(default_factory=list)
    structure_ml: dict[str, float] = field(default_factory=dict)
    elapsed_s: float = 0.0

    @property
    def written(self) -> list[Path]:
        """The masks that were written."""
        return [path for path in (self.segmentation, self.mask) if path is not None]

    def describe(self) -> str:
        """Say each structure's volume and the time."""
        structures = ", ".join(f"{name} {ml:.1f} ml" for name, ml in self.structure_ml.items())
        return f"{structures} ({self.elapsed_s:.1f} s)"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}


def find_scans(paths: Sequence[Path], dicom: DicomReadOptions | None = None) -> list[tuple[str, Path]]:
    """List the scans that are meant, each with the name its mask will have.

    A file is a scan, and so is a folder of DICOM slices, a zip, or a DICOM study with its series in folders. A data set
    stands for the scans of its cases, labelled or not, and any other folder for the scans in it.

    Raises:
        DataError: a path does not exist or holds no scan.
        UsageError: two scans would write the same mask.
    """
    found = [(name, scan) for path in paths for name, scan in _scans_at(path, dicom or DicomReadOptions())]
    names = [name for name, _ in found]
    for name in names:
        if names.count(name) > 1:
            same = ", ".join(str(scan) for other, scan in found if other == name)
            raise UsageError(f"{same} would all be written as {name!r}; predict them into folders of their own")
    return found


def _scans_at(path: Path, dicom: DicomReadOptions) -> list[tuple[str, Path]]:
    if not path.exists():
        raise DataError(f"{path} does not exist; give a scan, a folder of scans or a DICOM series")
    if path.is_file():
        return [(volume_stem(path) if volume_suffix(path) else path.stem, path)]
    if dicom.series is not None or is_dicom_folder(path) or _is_one_study(path):
        return [(path.resolve().name, path)]
    try:
        dataset = find_dataset(path)
    except DataError:
        scans = _volumes_in(path)
    else:
        scans = [(case.id, case.image) for case in (*dataset.cases, *dataset.unlabelled)]
    if not scans and is_study(path):
        scans = [(path.resolve().name, path)]
    if not scans:
        raise DataError(f"{path} holds no scan (.nii, .nii.gz, .nrrd, .mha, or folders of DICOM slices)")
    return scans


def _is_one_study(path: Path) -> bool:
    """Tell a study, its series each in a folder, from a folder of patients."""
    folders = [p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")]
    series = [folder for folder in folders if is_dicom_folder(folder)]
    studies = {study_uid(folder) for folder in series}
    return len(series) > 1 and len(studies) == 1 and studies != {""}


def _volumes_in(folder: Path) -> list[tuple[str, Path]]:
    inside = [p for p in sorted(folder.iterdir()) if not p.name.startswith(".")]
    files = [(volume_stem(p), p) for p in inside if p.is_file() and volume_suffix(p)]
    zips = [(p.stem, p) for p in inside if is_zip(p)]
    return files + zips + [(p.name, p) for p in inside if p.is_dir() and is_dicom_folder(p)]


def predict_scans(
    predictor: Predictor,
    scans: Sequence[tuple[str, Path]],
    output: Path,
    options: OutputOptions | None = None,
    dicom: DicomReadOptions | None = None,
    progress: Progress = ignore,
    jobs: int | None = 1,
) -> list[Result]:
    """Segment scans into `output`: `NAME` with the scan's own suffix (`.nii.gz` for DICOM), or `NAME.dcm`.

    Each structure's probability, where it is asked for, is written beside it as `NAME_STRUCTURE_probability`.

    Args:
        predictor: the model.
        scans: name and place of each, as `find_scans` gives them.
        output: folder for the masks.
        options: how masks are written.
        dicom: how DICOM is read.
        progress: told of each scan that is done.
        jobs: processes that share the scans, each with a model of its own; None as the machine allows, one on a GPU.

    Returns:
        What became of each scan; whatever is wrong with one does not stop the others.

    Raises:
        FullscaleError: `output` cannot be written.
    """
    shared = Shared(predictor)
    segment = partial(
        _segment,
        predictor=shared,
        output=output,
        options=options or OutputOptions(),
        dicom=dicom or DicomReadOptions(),
    )
    with make_executor(jobs_of(predictor, jobs, len(scans)), shared) as executor:
        return [
            Result(outcome.item[1], error=failure) if failure is not None else outcome.result()
            for outcome in map_cases(executor, segment, scans, progress, itemgetter(0))
            for failure in [outcome.failure()]
        ]


def jobs_of(predictor: Predictor, wanted: int | None, scans: int) -> int:
    """Choose the number of processes for so many scans; a GPU is busy with one."""
    if wanted is None and any(member.runtime.device.type != "cpu" for member in predictor.members):
        return 1
    return choose_jobs(wanted, scans)


def _segment(
    scan: tuple[str, Path],
    predictor: Shared[Predictor],
    output: Path,
    options: OutputOptions,
    dicom: DicomReadOptions,
) -> Result:
    """Segment one scan; what was noticed before it failed is kept."""
    name, path = scan
    result = Result(path)
    started = time.perf_counter()
    try:
        _predict(predictor.value, result, output, name, options, dicom)
    except DataError as error:
        result.error = str(error)
    result.elapsed_s = round(time.perf_counter() - started, 2)
    return result


def _predict(
    predictor: Predictor, result: Result, output: Path, name: str, options: OutputOptions, dicom: DicomReadOptions
) -> None:
    scan = read_image(result.scan, dicom)
    if isinstance(scan.header, DicomHeader):
        result.notes = [*scan.header.notes, *_strange_modality(scan.header.modality, predictor.card.modality)]
    if options.format != "nifti":
        card = predictor.card
        result.notes += require_sources(scan, card.structures, card.algorithm, options.seg_type, dicom.fix_identifiers)
    soft: dict[str, Volume] = {}
    if options.probabilities:
        labels, soft = predictor.predict_probabilities(scan)
    else:
        labels = predictor.predict(scan)
    suffix = (volume_suffix(result.scan) if result.scan.is_file() else None) or ".nii.gz"
    if options.format != "nifti":
        result.segmentation = _target(result, output / f"{name}.dcm")
        labels = _with_identifiers(result, labels, output / f"{name}_dicom")
        write_seg(result.segmentation, labels, predictor.card.structures, predictor.card.algorithm, options.seg_type)
    if options.format != "seg":
        result.mask = _target(result, output / f"{name}{suffix}")
        write_volume(result.mask, labels)
    for structure, volume in soft.items():
        probability = volume.with_array(volume.array.astype(np.float32))
        write_volume(output / f"{name}_{structure.replace(' ', '_')}_probability{suffix}", probability)
    result.structure_ml = {
        structure: float((labels.array == value).sum() * labels.voxel_ml)
        for value, structure in predictor.card.structures.items()
    }


def _with_identifiers(result: Result, labels: Volume, folder: Path) -> Volume:
    """Let a label map belong to a copy of its series with identifiers, where its own are blank."""
    if not isinstance(labels.header, DicomHeader) or not missing_identifiers(source_headers(labels.header)):
        return labels
    header = write_with_identifiers(labels.header, folder)
    result.notes = [*result.notes, header.notes[-1]]
    return Volume(labels.array, labels.affine, header)


def _strange_modality(modality: str, trained_on: str) -> list[str]:
    """Warn where a scan is of another modality than the model's."""
    known = {"MR": "MRI", "PT": "PET"}
    here, there = known.get(modality, modality), known.get(trained_on, trained_on)
    if not here or there in ("unknown", "") or here.upper() == there.upper():
        return []
    return [f"the scan is {here}, the model was trained on {there}: do not trust the mask"]


def _target(result: Result, mask: Path) -> Path:
    if mask.exists() and mask.resolve() == result.scan.resolve():
        raise UsageError(f"the mask of {result.scan} would replace the scan itself; choose another output folder")
    return mask
